# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""An index of chunks on disk: their embeddings and the tokens of their documents, in safetensors, and a record.

Neighbours are the nearest by inner product of normalised embeddings, all of which faiss compares. Embeddings are given
to faiss when an index is opened, so that no file in a format of faiss, which says nothing of what is wrong, is read.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hf_longformer.conversion import InputError
from hf_longformer.conversion.errors import one_line
from hf_longformer.conversion.files import read_json
from hf_longformer.finetune.embeddings import Embedder
from hf_longformer.finetune.prediction import token_batches

from .corpus import digest_of_tokenizer

RECORD, TENSORS, TOKENIZER = "index.json", "chunks.safetensors", "tokenizer"
FORM = 1  # of the folder
TOKENS_AT_ONCE = 8_192  # of the encoder, padding included
NEEDED = {
    **{"form": int, "chunk_size": int, "chunks": int, "size": int, "encoder": dict, "tokenizer": dict},
    **{"documents": list, "sha256": str},
}


@dataclass
class Index:
    """An open index.

    Args:
        folder: Where it is.
        record: What `index.json` says.
        tensors: `embeddings` `(N, size)`, `tokens` `(T,)` of all documents one after the other, `bounds` `(D + 1,)`,
            where these begin and end, and `starts` `(N,)`, where chunks begin.
        tokenizer: Of the model that reads neighbours.
        encoder: Of chunks; None: loaded when it is needed.
    """

    folder: Path
    record: dict[str, Any]
    tensors: dict[str, np.ndarray]
    tokenizer: PreTrainedTokenizerBase
    encoder: Embedder | None = None

    @property
    def chunk_size(self) -> int:
        """Tokens of a chunk."""
        return self.record["chunk_size"]

    @property
    def digest(self) -> str:
        """SHA-256 of what it holds."""
        return self.record["sha256"]

    def __len__(self) -> int:
        return len(self.tensors["starts"])

    @cached_property
    def faiss(self) -> Any:
        """The embeddings as faiss searches them, exactly."""
        faiss = import_module("faiss")
        made = faiss.IndexFlatIP(self.record["size"])
        made.add(self.tensors["embeddings"])
        return made

    @property
    def embedder(self) -> Embedder:
        """The encoder, loaded if it is not yet.

        Raises:
            InputError: If it cannot be loaded, or is another than the one that the index was made with.
        """
        if self.encoder is None:
            name = self.record["encoder"]["name"]
            self.encoder = Embedder.load(name)
        if (found := digest_of_encoder(self.encoder)) != self.record["encoder"]["sha256"]:
            raise InputError(
                f"the index {self.folder} must be searched with the encoder that it was made with, "
                f"{self.record['encoder']['name']}, got one with other weights ({found[:12]}): give that, or build anew"
            )
        return self.encoder

    def embed(self, chunks: Sequence[np.ndarray], progress: Any = None) -> np.ndarray:
        """Chunks of tokens as normalised embeddings `(N, size)`, float32."""
        return embed_texts([str(self.tokenizer.decode(one.tolist())) for one in chunks], self.embedder, progress)[0]

    def search(self, embeddings: np.ndarray, number: int, without: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
        """The nearest chunks.

        Args:
            embeddings: `(n, size)`, normalised, float32.
            number: How many.
            without: Numbers of documents in which nothing is to be found.

        Returns:
            Numbers of chunks `(n, number)`, the nearest first, and inner products; -1 and 0 where there are no more.

        Raises:
            ValueError: If an embedding is not finite, which would find nothing.
        """
        faiss: Any = import_module("faiss")
        if not np.isfinite(embeddings).all():
            raise ValueError("embeddings must be finite, got NaN or infinity: the encoder cannot be computed with")
        kept = np.ones(len(self), dtype=bool)
        for document in without:
            bounds = self.tensors["bounds"][document : document + 2]
            kept[slice(*np.searchsorted(self.tensors["starts"], bounds))] = False
        bits = np.packbits(kept, bitorder="little")  # held here: faiss keeps its address alone
        selector = faiss.IDSelectorBitmap(bits) if without else None
        options = {} if selector is None else {"params": faiss.SearchParameters(sel=selector)}
        scores, found = self.faiss.search(np.ascontiguousarray(embeddings, dtype=np.float32), number, **options)
        return found, np.where(found < 0, 0.0, scores)

    def neighbours(self, found: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Chunks with what follows them in their document.

        Args:
            found: Numbers of chunks, `(…)`; -1: none.
            length: Tokens in all.

        Returns:
            Their tokens `(…, length)`, int64, and which of these there are, bool.
        """
        starts, bounds, tokens = (self.tensors[name] for name in ("starts", "bounds", "tokens"))
        start = starts[found]
        end = bounds[np.searchsorted(bounds, start, side="right").clip(max=len(bounds) - 1)]
        place = start[..., None] + np.arange(length)
        is_there = (place < end[..., None]) & (found >= 0)[..., None]
        return np.where(is_there, tokens[place.clip(max=len(tokens) - 1)], 0).astype(np.int64), is_there

    def document_of(self, chunk: int) -> dict[str, Any]:
        """The record of the document in which a chunk stands: `id`, `sha256` and `tokens`."""
        place = np.searchsorted(self.tensors["bounds"], self.tensors["starts"][chunk], side="right") - 1
        return self.record["documents"][int(place)]

    def documents_like(self, names: Sequence[str], digests: Sequence[str]) -> list[int]:
        """Numbers of documents with one of these ids, or texts."""
        by_id, by_digest = self._numbers
        found = [by_id.get(name, []) for name in names] + [by_digest.get(digest, []) for digest in digests]
        return sorted({number for numbers in found for number in numbers})

    @cached_property
    def _numbers(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Of documents, by id and by text."""
        tables: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
        for number, one in enumerate(self.record["documents"]):
            for table, name in zip(tables, ("id", "sha256"), strict=True):
                table.setdefault(one[name], []).append(number)
        return tables

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises `InputError` if the tokens of the index are not those of a tokenizer."""
        if digest_of_tokenizer(tokenizer) != self.record["tokenizer"]["sha256"]:
            raise InputError(
                f"the index {self.folder} must have the tokens of the model, got those of another tokenizer, "
                f"{self.record['tokenizer']['name']}: build it with the model's"
            )

    def check_model(self, config: Any) -> None:
        """Refuses an index that is not for a model.

        Args:
            config: Of the model.

        Raises:
            InputError: If the model reads none, chunks of another size, or knows fewer tokens.
        """
        if config.retrieval is None:
            raise InputError("the model must have config.retrieval to read neighbours, got None")
        size = config.retrieval_settings["chunk_size"]
        if size != self.chunk_size:
            raise InputError(
                f"the index must be of chunks of {size} tokens, as the model reads, got {self.chunk_size} in "
                f"{self.folder}"
            )
        if (largest := int(self.tensors["tokens"].max())) >= config.vocab_size:
            raise InputError(
                f"the index {self.folder} must have the tokens of the model, which are less than "
                f"{config.vocab_size:,}, got {largest:,}: build it with the model's tokenizer"
            )

    def retriever(self, config: Any, without: Sequence[str] = ()) -> "IndexRetriever":
        """What `HfLongformerForCausalLM.set_retriever` takes.

        Args:
            config: Of the model.
            without: Ids of documents in which nothing is to be found.

        Raises:
            InputError: If the index is not for the model.
        """
        self.check_model(config)
        settings = config.retrieval_settings
        numbers = self.documents_like(without, ())
        return IndexRetriever(self, settings["neighbours"], settings["neighbour_length"], numbers)


@dataclass
class IndexRetriever:
    """Finds neighbours of chunks in an index: `(n, m)` token ids to `(n, k, r)` ids and what of these is real."""

    index: Index
    number: int
    length: int
    without: Sequence[int] = ()

    @property
    def chunk_size(self) -> int:
        """Tokens of a chunk."""
        return self.index.chunk_size

    def __call__(self, chunks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found, _ = self.index.search(self.index.embed(list(chunks.cpu().numpy())), self.number, self.without)
        ids, is_there = self.index.neighbours(found, self.length)
        return torch.from_numpy(ids), torch.from_numpy(is_there)


def embed_texts(texts: list[str], embedder: Embedder, progress: Any = None) -> tuple[np.ndarray, int]:
    """Normalised embeddings `(N, size)` of texts, float32, and how many of these were cut to what the encoder takes."""
    rows, windows = embedder.prepare([{"text": text, "truncate": True} for text in texts])
    made = np.zeros((len(texts), embedder.size), dtype=np.float32)
    for chosen in token_batches([len(one["input_ids"]) for one in windows], TOKENS_AT_ONCE):
        made[chosen] = np.stack(embedder.outputs([windows[number] for number in chosen]))
        if progress is not None:
            progress(len(chosen))
    made /= np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)
    return made, sum(row["cut"] > 0 for row in rows)


def digest_of_encoder(embedder: Embedder) -> str:
    """SHA-256 of an encoder's weights, without a pooler, which embeddings are not made of and which may be made anew
    whenever a model is loaded.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(embedder.model.state_dict().items()):
        if "pooler." in name:
            continue
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def digest_of_file(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_index(folder: str | Path, encoder: Embedder | None = None) -> Index:
    """Opens an index, and looks whether it is what was written.

    Args:
        folder: Where it is.
        encoder: That it was made with; if left out, loaded from where it was, once it is needed.

    Raises:
        InputError: If there is no index, or it is damaged, or of another version.
        ImportError: If faiss is not installed.
    """
    import_module("faiss")  # before anything is read
    folder = Path(folder)
    if not (folder / RECORD).is_file():
        raise InputError(f"an index is a folder that `hf-longformer index build` writes, got {folder}")
    record = read_json(folder / RECORD)
    for name, kind in NEEDED.items():
        if type(record.get(name)) is not kind:
            raise InputError(f"{folder / RECORD} must have {name}, got {record.get(name)!r:.50}: build the index anew")
    if record["form"] != FORM:
        raise InputError(f"the index {folder} must be of form {FORM}, got {record['form']}: build it anew")
    try:
        if digest_of_file(folder / TENSORS) != record["sha256"]:
            raise InputError(f"{folder / TENSORS} is not what was written beside {RECORD}: build the index anew")
        tensors = load_file(folder / TENSORS)
        tokenizer = AutoTokenizer.from_pretrained(folder / TOKENIZER, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the index {folder} cannot be read: {one_line(error)}") from error
    shapes = {name: tensors[name].shape for name in ("embeddings", "tokens", "bounds", "starts") if name in tensors}
    expected = {
        "embeddings": (record["chunks"], record["size"]),
        "tokens": (sum(one["tokens"] for one in record["documents"]),),
        "bounds": (len(record["documents"]) + 1,),
        "starts": (record["chunks"],),
    }
    if shapes != expected or digest_of_tokenizer(tokenizer) != record["tokenizer"]["sha256"]:
        raise InputError(f"the parts of the index {folder} are not of one index: build it anew")
    return Index(folder, record, tensors, tokenizer, encoder)
