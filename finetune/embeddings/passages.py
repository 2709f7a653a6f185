# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Embeddings of the passages of a document that is read as a whole ("late chunking", arXiv 2409.04701), and other ways
than a folder's own to make one vector of many.
"""

from typing import Any

import numpy as np
import torch

from hf_longformer.conversion import InputError

MEAN, FIRST, CHUNKS = "mean", "cls", "chunks"
POOLINGS = (MEAN, FIRST, CHUNKS)
PASSAGES = "passages"
Span = tuple[int, int]


def with_pooling(modules: Any, pooling: str) -> Any:
    """A `SentenceTransformer` that pools in another way; its other modules stay.

    Args:
        modules: The model, changed in place.
        pooling: `"mean"`, or `"cls"`, the first token.

    Raises:
        InputError: If it has not one module that pools.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling

    place = place_of_pooling(modules)
    known = modules[place]
    modules[place] = Pooling(known.embedding_dimension, pooling, include_prompt=known.include_prompt)
    return modules


def place_of_pooling(modules: Any) -> int:
    """Which of a model's modules pools; it must be the second, behind the encoder.

    Raises:
        InputError: If it is not.
    """
    names = [type(module).__name__ for module in modules]
    if names.count("Pooling") != 1 or names.index("Pooling") != 1:
        raise InputError(f"--pooling needs a folder with one Pooling behind its encoder, got {', '.join(names)}")
    return 1


def behind_pooling(modules: Any, vectors: torch.Tensor) -> torch.Tensor:
    """What the modules behind the pooling, such as a normalisation, make of vectors `(n, size)`."""
    features = {"sentence_embedding": vectors}
    for module in list(modules)[place_of_pooling(modules) + 1 :]:
        features = module(features)
    return features["sentence_embedding"]


def complaint_of_passages(passages: Any) -> str | None:
    """What is wrong with the passages of a row, whatever its text; None if nothing is."""
    pairs = passages if isinstance(passages, list | tuple) else [None]
    for pair in pairs or [None]:
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2
        if not is_pair or any(not isinstance(one, int) or isinstance(one, bool) for one in pair):
            return f"{PASSAGES} must be pairs of characters, [[start, end], …], got {str(passages)[:60]}"
    return None


def tokens_of_passages(offsets: list[Span], passages: list[Span], characters: int) -> list[list[int]]:
    """For every passage the tokens that have a character in it.

    Args:
        offsets: Of every token of the text its first character and the one behind its last; -1 twice for special ones.
        passages: The same of the passages.
        characters: Of the text.

    Raises:
        InputError: If a passage is not inside the text, or has no token: it is empty, or lies beyond the limit.
    """
    found = []
    for number, (start, end) in enumerate(passages):
        if not 0 <= start < end <= characters:
            raise InputError(
                f"every passage must lie inside its text of {characters:,} characters, got [{start}, {end}]"
            )
        inside = [place for place, (first, behind) in enumerate(offsets) if first < end and behind > start]
        if not inside:
            raise InputError(
                f"every passage must have a token that is read, got none in passage {number}, [{start}, {end}]"
            )
        found.append(inside)
    return found


def chunks_of(offsets: list[Span], size: int) -> tuple[list[list[int]], list[Span]]:
    """Tokens in chunks, one behind the other, and the characters that they hold.

    Args:
        offsets: As above.
        size: Tokens of a chunk.

    Raises:
        InputError: If there is no token but special ones.
    """
    real = [place for place, (_, behind) in enumerate(offsets) if behind > 0]
    if not real:
        raise InputError("a document must have a token, got none")
    chunks = [real[start : start + size] for start in range(0, len(real), size)]
    return chunks, [(offsets[chunk[0]][0], offsets[chunk[-1]][1]) for chunk in chunks]


def windows_of_passages(embedder: Any, rows: list[dict[str, Any]], size: int | None) -> list[dict[str, Any]]:
    """Documents as tokens, and the tokens of their passages.

    Args:
        embedder: With `tokenizer`, `prompt`, `over` and `cut`.
        rows: Each with `text`, `truncate` and, without a size, `passages`; `cut` is added.
        size: Tokens of a chunk; None: passages are given.

    Raises:
        InputError: If a text is too long, or has no such passages.
    """
    before = len(embedder.prompt)
    texts = [embedder.prompt + row["text"] for row in rows]
    wanted: dict[str, Any] = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "verbose": False}
    encoded = embedder.tokenizer(texts, **wanted)
    windows = []
    for number, row in enumerate(rows):
        ids = encoded["input_ids"][number]
        row["cut"] = embedder.over(len(ids), row["truncate"])
        characters = [
            (max(0, start - before), end - before) if not special and end > before else (-1, -1)
            for (start, end), special in zip(
                encoded["offset_mapping"][number], encoded["special_tokens_mask"][number], strict=True
            )
        ]
        kept = embedder.cut(characters, row["cut"])
        if size is None:
            spans = [(start, end) for start, end in row[PASSAGES]]
            places = tokens_of_passages(kept, spans, len(row["text"]))
        else:
            places, spans = chunks_of(kept, size)
        windows.append({"input_ids": embedder.cut(ids, row["cut"]), "text": number, "places": places, "spans": spans})
    return windows


def passages_of(window: dict[str, Any], states: np.ndarray, modules: Any) -> list[dict[str, Any]]:
    """Of every passage `start`, `end`, `tokens` and `embedding`.

    Args:
        window: As above.
        states: Of its tokens, `(tokens, hidden_size)`.
        modules: Of sentence-transformers; None if there are none.
    """
    vectors = torch.from_numpy(np.stack([states[places].mean(axis=0) for places in window["places"]]))
    if modules is not None:
        with torch.inference_mode():
            vectors = behind_pooling(modules, vectors.to(modules.device, modules.dtype or vectors.dtype)).float().cpu()
    return [
        {"start": start, "end": end, "tokens": len(places), "embedding": vector}
        for (start, end), places, vector in zip(window["spans"], window["places"], vectors.tolist(), strict=True)
    ]
