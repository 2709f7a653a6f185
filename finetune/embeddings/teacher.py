# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What the model itself, before it is trained, thinks of documents read in chunks: a ranking that needs no labels."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from hf_longformer.conversion import InputError

from ..prediction import token_batches
from .predictor import Embedder

logger = logging.get_logger(__name__)
CHUNK_MAXIMUM, LATE_INTERACTION = "chunk-maximum", "late-interaction"
FOLDER = "teacher"
FILES = ("queries", "documents")


class Teacher:
    """Scores of queries and documents, from vectors that were computed once.

    `"chunk-maximum"`: the largest cosine of the query and a chunk of the document. `"late-interaction"`: for every
    token of the query the largest cosine with a token of the document, read in chunks; their sum (Khattab and Zaharia
    2020, arXiv 2004.12832), divided by the number of the query's tokens, so that one temperature serves all queries.

    Args:
        queries: For every query its vectors `(n, size)`, of length 1: one, or one per
            token but special ones.
        documents: For every document its vectors `(n, size)`, of length 1: one per chunk, or one per token.
    """

    def __init__(self, queries: dict[int, np.ndarray], documents: dict[int, np.ndarray]) -> None:
        self.queries, self.documents = queries, documents

    def scores(self, queries: list[int], documents: list[int]) -> torch.Tensor:
        """`(queries, documents)`, in float32.

        Args:
            queries: Their numbers.
            documents: Their numbers.
        """
        asked = [torch.from_numpy(np.array(self.queries[key], dtype=np.float32)) for key in queries]
        vectors, sizes = torch.cat(asked), [len(one) for one in asked]
        columns = []
        for key in documents:
            of_document = torch.from_numpy(np.array(self.documents[key], dtype=np.float32))
            nearest = (vectors @ of_document.T).max(dim=1).values
            columns.append(torch.stack([part.mean() for part in nearest.split(sizes)]))
        return torch.stack(columns, dim=1)

    def save(self, folder: Path) -> None:
        """Writes all vectors to a folder that appears whole or not at all."""
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, vectors in zip(FILES, (self.queries, self.documents), strict=True):
            counts = np.array([(key, len(one)) for key, one in vectors.items()], dtype=np.int64)
            np.save(partial / f"{name}-counts.npy", counts)
            first = next(iter(vectors.values()))
            place = np.lib.format.open_memmap(
                partial / f"{name}.npy", "w+", first.dtype, (int(counts[:, 1].sum()), first.shape[1])
            )
            end = 0
            for one in vectors.values():
                place[end : end + len(one)] = one
                end += len(one)
            place.flush()
        partial.replace(folder)

    @classmethod
    def load(cls, folder: Path) -> "Teacher":
        """What `save` has written; vectors stay on the disk until they are needed."""
        found = []
        for name in FILES:
            vectors = np.load(folder / f"{name}.npy", mmap_mode="r")
            counts = np.load(folder / f"{name}-counts.npy")
            ends = counts[:, 1].cumsum()
            found.append({int(key): vectors[end - n : end] for (key, n), end in zip(counts, ends, strict=True)})
        return cls(*found)


def make_teacher(
    embedder: Embedder,
    kind: str,
    queries: dict[int, str],
    documents: dict[int, str],
    prompts: tuple[str, str],
    chunk: int,
    tokens_per_batch: int,
) -> Teacher:
    """Vectors of queries and documents by a model that is not trained yet.

    Args:
        embedder: Of the model.
        kind: `"chunk-maximum"` or `"late-interaction"`.
        queries: Texts by number; what is beyond a chunk is not read, and counted.
        documents: Texts by number, read whole, chunk by chunk.
        prompts: What stands in front of queries, and of every chunk.
        chunk: Tokens of a chunk, special tokens and prompt included.
        tokens_per_batch: Tokens at once.

    Raises:
        InputError: If a chunk has no room for a text.
    """
    asked = {key: _chunks(embedder, text, prompts[0], chunk) for key, text in queries.items()}
    long = sum(len(chunks) > 1 for chunks in asked.values())
    if long:
        logger.warning(f"{long} queries are longer than a chunk of {chunk:,} tokens: the teacher reads its first one")
    asked = {key: chunks[:1] for key, chunks in asked.items()}
    read = {key: _chunks(embedder, text, prompts[1], chunk) for key, text in documents.items()}
    logger.warning(f"the teacher reads {sum(map(len, read.values())):,} chunks of {len(read):,} documents once")
    return Teacher(*(_vectors(embedder, kind, one, tokens_per_batch) for one in (asked, read)))


def _chunks(embedder: Embedder, text: str, prompt: str, size: int) -> list[list[int]]:
    ids = embedder.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    before = embedder.tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
    room = size - len(embedder.first) - len(before) - len(embedder.last)
    if room < 1:
        raise InputError(f"--chunk_size must have room for prompt, special tokens and text, got {size}")
    starts = range(0, max(1, len(ids)), room)
    return [embedder.first + before + ids[start : start + room] + embedder.last for start in starts]


def _vectors(
    embedder: Embedder, kind: str, texts: dict[int, list[list[int]]], tokens_per_batch: int
) -> dict[int, np.ndarray]:
    owners = [key for key, chunks in texts.items() for _ in chunks]
    windows = [{"input_ids": ids} for chunks in texts.values() for ids in chunks]
    found: list[Any] = [None] * len(windows)
    for chosen in token_batches([len(one["input_ids"]) for one in windows], tokens_per_batch):
        batch = [windows[index] for index in chosen]
        of_batch: Any = embedder.outputs(batch) if kind == CHUNK_MAXIMUM else embedder.token_states(batch)
        for index, vectors in zip(chosen, of_batch, strict=True):
            inside = slice(len(embedder.first), len(vectors) - len(embedder.last))
            one = vectors[None] if kind == CHUNK_MAXIMUM else vectors[inside] if len(vectors[inside]) else vectors
            one = one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12)
            found[index] = one if kind == CHUNK_MAXIMUM else one.astype(np.float16)
    parts: dict[int, list[np.ndarray]] = {key: [] for key in texts}
    for owner, vectors in zip(owners, found, strict=True):
        parts[owner].append(vectors)
    return {key: np.concatenate(one) for key, one in parts.items()}
