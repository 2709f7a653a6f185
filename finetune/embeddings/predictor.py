# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Embeddings of texts: by the modules of a sentence-transformers folder, or the mean of an encoder's hidden states."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import DataCollatorWithPadding

from hf_longformer import HfLongformerConfig, HfLongformerModel
from hf_longformer.conversion import InputError
from hf_longformer.conversion.errors import one_line
from hf_longformer.conversion.sentence_modules import MODULES, read_modules
from hf_longformer.conversion.source import load_tokenizer
from hf_longformer.exporting import ExportedModel, load_exported
from hf_longformer.transformers_internals import find_file

from ..checkpoints import load_checkpoint
from ..data import text_of
from ..prediction import (
    TOKENS_PER_BATCH,
    Predictor,
    check_of_export,
    default_device,
    model_inputs,
    token_batches,
)
from ..tasks import EMBEDDINGS
from .passages import (
    CHUNKS,
    FIRST,
    PASSAGES,
    POOLINGS,
    complaint_of_passages,
    passages_of,
    place_of_pooling,
    windows_of_passages,
    with_pooling,
)

ERROR, TRUNCATE = "error", "truncate"  # what is done with a text beyond the limit
SHARDS = "*.bin"  # pickled weights


class Embedder:
    """One vector for every text, or for every list of token ids.

    Args:
        model: An encoder, or a `SentenceTransformer` of one.
        tokenizer: Its tokenizer.
        max_seq_length: Tokens of the longest text, special ones included; the model's own limit if None.
        pooling: How one vector is made of many, `"mean"` or `"cls"`, if not as the folder says.

    Raises:
        InputError: If a longer text is wanted than the model takes, or its folder has no pooling to be changed.
    """

    task = EMBEDDINGS
    how_to_cut = '"truncate": true'

    def __init__(
        self, model: Any, tokenizer: Any, max_seq_length: int | None = None, pooling: str | None = None
    ) -> None:
        self.model, self.tokenizer, self.takes_first = model.eval(), tokenizer, pooling == FIRST
        self.modules = model if hasattr(model, "get_embedding_dimension") else None  # of sentence-transformers
        if self.modules is not None and pooling is not None:
            with_pooling(self.modules, pooling)
        self.config = model.config if self.modules is None else (model.config or model[0].exported.config)
        limit = self.config.max_length_tokens
        if self.modules is not None and model.max_seq_length is not None:
            limit = min(limit, model.max_seq_length)
        if max_seq_length is not None and max_seq_length > limit:
            raise InputError(f"--max-length must be at most the model's {limit:,} tokens, got {max_seq_length:,}")
        self.max_seq_length = max_seq_length or limit
        self.prompt, self.prompt_length = "", None
        if self.modules is not None and (name := model.default_prompt_name):
            self.prompt = model.prompts[name]
            self.prompt_length = model.preprocess(["a"], prompt=self.prompt).get("prompt_length")
        self.collate = DataCollatorWithPadding(tokenizer)
        around = tokenizer("")["input_ids"]  # what stands around every text
        self.first, self.last = around[: len(around) // 2], around[len(around) // 2 :]

    @classmethod
    def load(
        cls,
        checkpoint: str,
        *,
        device: str | None = None,
        dtype: str = "float32",
        local_files_only: bool = False,
        max_seq_length: int | None = None,
        backend: str = "torch",
        pooling: str | None = None,
    ) -> "Embedder":
        """An embedder from a folder or a Hub name, as `Predictor.load` makes predictors.

        Raises:
            InputError: If the checkpoint cannot be loaded as a whole, or holds code or pickles.
        """
        if backend != "torch":
            check_of_export(dtype, device)
            if not (Path(checkpoint) / MODULES).is_file():
                return cls(*_exported_encoder(Path(checkpoint), backend), max_seq_length, pooling)
            from hf_longformer.exporting.sentence_encoder import load_sentence_encoder

            exported = load_sentence_encoder(checkpoint, backend)
            return cls(exported, exported.tokenizer, max_seq_length, pooling)
        where: dict[str, Any] = {"local_files_only": local_files_only}
        model, tokenizer, _ = load_checkpoint(HfLongformerModel, checkpoint, new=("pooler",), dtype=dtype, **where)
        if model.config.is_decoder:
            raise InputError(f"{checkpoint} must be an encoder, got a causal model, which gives no embeddings")
        place = device or default_device()
        whole = load_modules(checkpoint, str(place), model.dtype, **where)
        if whole is None:
            return cls(model.to(place), tokenizer, max_seq_length, pooling)
        return cls(whole, whole.tokenizer, max_seq_length, pooling)

    @property
    def size(self) -> int:
        """Numbers of a vector."""
        return self.config.hidden_size if self.modules is None else self.modules.get_embedding_dimension()

    @property
    def sizes(self) -> list[int] | None:
        """Numbers to which vectors may be cut, as config.json says; None: any number."""
        named = getattr(self.config, "matryoshka_dimensions", None)
        if named is None and getattr(self.config, "is_matryoshka", False):
            return None
        return sorted({*(named or []), self.size})

    @property
    def pooling(self) -> str:
        """How one vector is made of a text, in words."""
        if self.modules is None:
            which = "first of the last hidden states" if self.takes_first else "mean of the last hidden states"
            return f"the {which}, not normalized"
        return ", ".join(type(module).__name__ for module in self.modules)

    def prepare(self, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Texts as tokens.

        Args:
            rows: Each with `text`, or with `ids`, as the tokenizer gives them, special tokens included; and with
                `truncate`, whether a longer text may be cut.

        Raises:
            InputError: If a text is too long, or token ids are not of this tokenizer.
        """
        texts = [self.prompt + row["text"] for row in rows if "text" in row]
        found = iter(self.tokenizer(texts, verbose=False)["input_ids"] if texts else [])
        windows = []
        for number, row in enumerate(rows):
            ids = next(found) if "text" in row else self._checked_ids(row["ids"])
            row["cut"] = self.over(len(ids), row["truncate"])
            windows.append({"input_ids": self.cut(ids, row["cut"]), "text": number})
        return rows, windows

    def over(self, tokens: int, truncate: bool) -> int:
        """How many tokens of a text are beyond the limit.

        Raises:
            InputError: If there are any, and it may not be cut.
        """
        over = max(0, tokens - self.max_seq_length)
        if over and not truncate:
            raise InputError(
                f"a text must have at most {self.max_seq_length:,} tokens, got {tokens:,}: shorten it, or let it be "
                f"cut with {self.how_to_cut}"
            )
        return over

    def cut(self, ids: list[Any], over: int) -> list[Any]:
        """Tokens without so many of the text's last ones, or of its first, as the tokenizer would leave them out."""
        if self.tokenizer.truncation_side == "left":
            return ids[: len(self.first)] + ids[len(self.first) + over :]
        end = len(ids) - len(self.last)
        return ids[: end - over] + ids[end:]

    def _checked_ids(self, ids: list[int]) -> list[int]:
        if self.prompt:
            raise InputError("texts are needed for a model that puts words in front of every text, got token ids")
        size = self.config.vocab_size
        if strange := [one for one in ids if not 0 <= one < size]:
            raise InputError(f"token ids must be from 0 to {size - 1:,}, got {strange[0]}: send the text instead")
        end = len(ids) - len(self.last)
        if ids[: len(self.first)] != self.first or ids[end:] != self.last or end < len(self.first):
            raise InputError(
                f"token ids must be those of this model's tokenizer, special tokens included, {self.first} … "
                f"{self.last}, got {ids[:1]} … {ids[-1:]}: send the text instead"
            )
        return ids

    def outputs(self, windows: list[dict[str, Any]]) -> list[np.ndarray]:
        """A vector `(size,)` in float32 for every window.

        Raises:
            RuntimeError: If the model gives no numbers.
        """
        with torch.inference_mode():
            states, mask, vectors = self._forward(windows)
            if vectors is None and self.takes_first:
                vectors = states[torch.arange(len(mask)), mask.argmax(dim=1)]
            elif vectors is None:
                weights = mask[..., None].float()
                vectors = (states.float() * weights).sum(dim=1) / weights.sum(dim=1)
        found = _numbers(vectors)
        return list(found)

    def token_states(self, windows: list[dict[str, Any]]) -> list[np.ndarray]:
        """The last hidden states `(tokens, hidden_size)` in float32 of every window, special tokens included.

        Raises:
            RuntimeError: If the model gives no numbers.
        """
        with torch.inference_mode():
            states, mask, _ = self._forward(windows)
            return [_numbers(row[real]) for row, real in zip(states, mask.bool(), strict=True)]

    def _forward(self, windows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Hidden states, the mask of real tokens, and the vectors, where modules make them."""
        batch: dict[str, Any] = model_inputs(self, windows)
        mask = batch["attention_mask"]
        if self.modules is None:
            return self.model(**batch).last_hidden_state, mask, None
        prompt = {} if self.prompt_length is None else {"prompt_length": self.prompt_length}
        found = self.modules({**batch, **prompt})
        return found.get("token_embeddings"), mask, found["sentence_embedding"]

    def finish(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """Of every text `embedding` and `tokens`, and `tokens_cut` where some were left out."""
        return [
            {"embedding": output, "tokens": len(window["input_ids"])}
            | ({"tokens_cut": row["cut"]} if row["cut"] else {})
            for row, window, output in zip(rows, windows, outputs, strict=True)
        ]


class EmbeddingPredictor(Predictor):
    """The embeddings of documents, as a `Predictor`: rows with `text` in.

    A result has `embedding`, a list of numbers, and `tokens`, how many of the document it is made of. `load` makes a
    `PassagePredictor` with `pooling="chunks"`.

    Args:
        embedder: What makes vectors of tokens.
        tokens_per_batch: Tokens at once, padding included.
        overflow: What is done with a document beyond the limit: `"error"`, it is refused, or `"truncate"`, it is cut.
        stride: None: embeddings have no windows.

    Raises:
        InputError: If an option cannot be used.
    """

    task = EMBEDDINGS
    columns: tuple[str, ...] = ("text",)

    def __init__(
        self,
        embedder: Embedder,
        *,
        tokens_per_batch: int = TOKENS_PER_BATCH,
        overflow: str | None = None,
        stride: int | None = None,
    ) -> None:
        if stride is not None:
            raise InputError(f"embeddings have no windows, and no stride, got {stride}")
        if overflow not in (None, ERROR, TRUNCATE):
            raise InputError(f"overflow must be {ERROR} or {TRUNCATE}, got {overflow}")
        if tokens_per_batch < 1:
            raise InputError(f"tokens_per_batch must be a whole number of at least 1, got {tokens_per_batch!r}")
        self.embedder, self.tokens_per_batch = embedder, tokens_per_batch
        self.options = {"max_seq_length": embedder.max_seq_length, "overflow": overflow or ERROR}
        embedder.how_to_cut = "--overflow truncate"

    @classmethod
    def load(cls, checkpoint: str, **options: Any) -> "EmbeddingPredictor":
        """A predictor from a checkpoint, as `Embedder.load` takes it.

        Raises:
            InputError: If the checkpoint cannot be loaded, or an option cannot be used.
        """
        own = {name: options.pop(name) for name in ("tokens_per_batch", "overflow", "stride") if name in options}
        pooling, size = options.pop("pooling", None), options.pop("chunk_size", None)
        if pooling not in (None, *POOLINGS):
            raise InputError(f"--pooling must be one of {', '.join(POOLINGS)}, got {pooling}")
        if pooling == CHUNKS:
            return PassagePredictor(Embedder.load(checkpoint, **options), chunk_size=size, **own)
        if size is not None:
            raise InputError(f"--chunk-size is of --pooling {CHUNKS}, got {size} without it")
        found = cls(Embedder.load(checkpoint, pooling=pooling, **options), **own)
        found.options |= {} if pooling is None else {"pooling": pooling}
        return found

    def prepare(self, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows as they were read, and their tokens.

        Raises:
            InputError: If a document is no text, or beyond the limit.
        """
        is_cut = self.options["overflow"] == TRUNCATE
        return self.embedder.prepare([{"text": text_of(row["text"]), "truncate": is_cut} for row in rows])

    def outputs(self, windows: list[dict[str, Any]]) -> list[Any]:
        """A vector for every document, computed in batches of about the same length."""
        found: list[Any] = [None] * len(windows)
        for chosen in token_batches([len(one["input_ids"]) for one in windows], self.tokens_per_batch):
            for index, vector in zip(chosen, self.embedder.outputs([windows[index] for index in chosen]), strict=True):
                found[index] = vector
        return found

    def finish(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """One result per row."""
        results = self.embedder.finish(rows, windows, outputs)
        return [
            {**result, "embedding": result["embedding"].tolist()}
            | ({"truncated": True} if "tokens_cut" in result else {})
            for result in results
        ]

    def fields(self) -> dict[str, pa.DataType]:
        """The columns of results."""
        return {"embedding": pa.list_(pa.float32()), "tokens": pa.int64()}


class PassagePredictor(EmbeddingPredictor):
    """The embeddings of the passages of documents, each document read as a whole.

    A row has `text`, and `passages`, pairs of characters `[start, end]`, unless a size says how they are cut. A result
    has `passages`: of each `start`, `end`, `tokens` and `embedding`, the mean of its tokens' last hidden states, and
    what the folder's modules behind the pooling make of it.

    Args:
        embedder: What makes states of tokens.
        chunk_size: Tokens of a passage; None: rows say what their passages are.
        **options: As for `EmbeddingPredictor`.

    Raises:
        InputError: If an option cannot be used, or the folder has modules that passages cannot go through.
    """

    def __init__(self, embedder: Embedder, *, chunk_size: int | None = None, **options: Any) -> None:
        super().__init__(embedder, **options)
        if not embedder.tokenizer.is_fast:
            raise InputError(f"--pooling {CHUNKS} needs a fast tokenizer, got {type(embedder.tokenizer).__name__}")
        if embedder.modules is not None:
            place_of_pooling(embedder.modules)
        self.chunk_size = chunk_size
        self.options |= {"pooling": CHUNKS, "chunk_size": chunk_size}
        self.columns = ("text", PASSAGES) if chunk_size is None else ("text",)

    def complaint(self, row: dict[str, Any], names: Mapping[str, str] = MappingProxyType({})) -> str | None:
        """What is wrong with a row; None if nothing is."""
        found = super().complaint({**row, PASSAGES: PASSAGES} if PASSAGES in row else row, names)
        if found is None and self.chunk_size is None:
            found = complaint_of_passages(row[PASSAGES])
        elif found is not None and PASSAGES not in row and self.chunk_size is None and "text" in row:
            found += ": or say how documents are cut, --chunk-size"
        return found

    def prepare(self, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows as they were read, and their tokens with those of every passage.

        Raises:
            InputError: If a document is no text, or beyond the limit, or a passage is not in it.
        """
        is_cut = self.options["overflow"] == TRUNCATE
        rows = [{**row, "text": text_of(row["text"]), "truncate": is_cut} for row in rows]
        return rows, windows_of_passages(self.embedder, rows, self.chunk_size)

    def outputs(self, windows: list[dict[str, Any]]) -> list[Any]:
        """The passages of every document."""
        found: list[Any] = [None] * len(windows)
        for chosen in token_batches([len(one["input_ids"]) for one in windows], self.tokens_per_batch):
            batch = [windows[index] for index in chosen]
            for index, states in zip(chosen, self.embedder.token_states(batch), strict=True):
                found[index] = passages_of(windows[index], states, self.embedder.modules)
        return found

    def finish(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """One result per row."""
        return [
            {PASSAGES: output, "tokens": len(window["input_ids"])}
            | ({"truncated": True, "tokens_cut": row["cut"]} if row["cut"] else {})
            for row, window, output in zip(rows, windows, outputs, strict=True)
        ]

    def fields(self) -> dict[str, pa.DataType]:
        """The columns of results."""
        numbers = dict.fromkeys(("start", "end", "tokens"), pa.int64()) | {"embedding": pa.list_(pa.float32())}
        return {PASSAGES: pa.list_(pa.struct(numbers.items())), "tokens": pa.int64()}


PREDICTOR = EmbeddingPredictor


def _numbers(values: torch.Tensor) -> np.ndarray:
    """In float32.

    Raises:
        RuntimeError: If one is none.
    """
    found = values.float().cpu().numpy()
    if not np.isfinite(found).all():
        raise RuntimeError("the model must give numbers, got NaN: its weights, or the dtype, cannot be computed with")
    return found


def load_modules(
    checkpoint: str, device: str, dtype: torch.dtype, *, config: dict[str, Any] | None = None, **where: Any
) -> Any:
    """A checkpoint as a `SentenceTransformer`; None if it is no folder of sentence-transformers.

    Args:
        checkpoint: A folder or a Hub name.
        device: Where to compute.
        dtype: Of the weights.
        config: Fields of the encoder's configuration to be changed.
        **where: `revision`, `local_files_only`.

    Raises:
        InputError: If its modules cannot be used, or hold code or pickles.
    """
    modules = find_file(checkpoint, MODULES, **where)
    if modules is None:
        return None
    check_modules(modules.parent)
    from sentence_transformers import SentenceTransformer

    settings = {"dtype": dtype, "use_safetensors": True}
    try:
        found = SentenceTransformer(checkpoint, device=device, model_kwargs=settings, config_kwargs=config, **where)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise InputError(f"{checkpoint} cannot be used by sentence-transformers: {one_line(error)}") from error
    check_encoder(found, checkpoint)
    return found


def check_encoder(model: Any, checkpoint: str) -> None:
    """Refuses a `SentenceTransformer` of an encoder that is not this package's, such as stock Longformer.

    Raises:
        InputError: If it is.
    """
    kind = getattr(model.config, "model_type", None)
    if kind != HfLongformerConfig.model_type:
        raise InputError(
            f"sentence-transformers needs a checkpoint of this package, got one of {kind} in {checkpoint}: run "
            "`hf-longformer convert` first"
        )


def _exported_encoder(folder: Path, backend: str) -> tuple[ExportedModel, Any]:
    """An export and its tokenizer.

    Raises:
        InputError: If it has a head, whose outputs are no hidden states, or no tokenizer.
    """
    model, tokenizer = load_exported(folder, backend), load_tokenizer(folder)
    if model.model_class is not HfLongformerModel:
        raise InputError(
            f"embeddings need the export of an encoder without a head, got a {model.model_class.__name__} in {folder}"
        )
    if tokenizer is None:
        raise InputError(f"texts need a tokenizer, got none in {folder}")
    return model, tokenizer


def shortened(vector: np.ndarray, size: int) -> np.ndarray:
    """The first numbers of a vector, made as long as 1 again."""
    kept = vector[:size]
    return kept / max(float(np.linalg.norm(kept)), 1e-12)


def check_modules(root: Path) -> None:
    """Refuses code, pickles, and an encoder in a folder of its own.

    Raises:
        InputError: If there is any.
    """
    modules = read_modules(root)
    if modules[0]["path"]:
        raise InputError(f"the encoder must lie beside {MODULES}, got the folder {modules[0]['path']}: convert it")
    for module in modules[1:]:
        folder = root / module["path"]
        if module["path"] and any(folder.glob(SHARDS)) and not any(folder.glob("*.safetensors")):
            raise InputError(f"weights must be in safetensors, got a pickle in {module['path']}")
