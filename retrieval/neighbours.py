# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What is found for all chunks of a long text, once, and kept beside the index."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hf_longformer.conversion import InputError

from .index import Index

CHUNKS_AT_ONCE = 65_536


@dataclass
class TextNeighbours:
    """What was found for the chunks of a text.

    Args:
        index: Where.
        found: `(chunks, k)`, numbers of chunks of the index, -1 where there is none.
        length: Tokens of a neighbour.
        excluded: Documents of the index that are documents of the text, in which nothing was looked for.
    """

    index: Index
    found: np.ndarray
    length: int
    excluded: list[str]

    def of(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Of chunks `first` to `last`, without it: `neighbour_ids` and `neighbour_mask`, `(chunks, k, r)`."""
        return self.index.neighbours(self.found[first:last], self.length)


def find_neighbours(
    index: Index, ids: np.ndarray, documents: Sequence[dict[str, Any]], number: int, length: int, progress: Any = None
) -> TextNeighbours:
    """Finds neighbours of every whole chunk of a text, none of them in a document that the chunk itself stands in, as
    in section 2.1 of RETRO's paper.

    Args:
        index: The index.
        ids: `(tokens,)`, of documents one after the other.
        documents: Of each `start` and `stop` in tokens, `id` and `sha256`, by either of which it is known in the index.
        number: Neighbours of a chunk.
        length: Tokens of one.
        progress: Told how many chunks are done.

    Raises:
        InputError: If what is found cannot be kept beside the index.
    """
    like = [(one["start"], one["stop"], index.documents_like([one["id"]], [one["sha256"]])) for one in documents]
    excluded = sorted({index.record["documents"][one]["id"] for _, _, numbers in like for one in numbers})
    file = _place_of(index, ids, like, number)
    found = _read(file)
    if found is None:
        found = _search(index, ids, like, number, progress)
        _write(file, found)
    return TextNeighbours(index, found, length, excluded)


def _search(index: Index, ids: np.ndarray, like: list[tuple[int, int, list[int]]], number: int, progress: Any) -> Any:
    size = index.chunk_size
    chunks = ids[: len(ids) // size * size].reshape(-1, size)
    groups: dict[tuple[int, ...], list[int]] = {}
    starts, stops = np.array([one[0] for one in like]), np.array([one[1] for one in like])
    for chunk in range(len(chunks)):
        first, last = np.searchsorted(stops, chunk * size, "right"), np.searchsorted(starts, (chunk + 1) * size)
        without = {one for _, _, numbers in like[first:last] for one in numbers}
        groups.setdefault(tuple(sorted(without)), []).append(chunk)
    found = np.full((len(chunks), number), -1, dtype=np.int64)
    for excluded, members in groups.items():
        for at in range(0, len(members), CHUNKS_AT_ONCE):
            part = members[at : at + CHUNKS_AT_ONCE]
            found[part] = index.search(index.embed(list(chunks[part]), progress), number, excluded)[0]
    return found


def _place_of(index: Index, ids: np.ndarray, like: list[tuple[int, int, list[int]]], number: int) -> Path:
    """The file of what was found, named after all that decides what that is."""
    decides = [index.digest, index.record["encoder"]["sha256"], index.chunk_size, number, like]
    digest = hashlib.sha256(json.dumps(decides).encode())
    digest.update(np.ascontiguousarray(ids, dtype=np.int64).tobytes())
    return index.folder.with_name(f"{index.folder.name}.neighbours") / f"{digest.hexdigest()}.safetensors"


def _read(file: Path) -> np.ndarray | None:
    """What was found before; None if there is nothing of it, or not all."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="numpy") as opened:
            found, digest = opened.get_tensor("found"), (opened.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return found if digest == hashlib.sha256(found.tobytes()).hexdigest() else None


def _write(file: Path, found: np.ndarray) -> None:
    partial = file.with_suffix(".partial")
    try:
        file.parent.mkdir(exist_ok=True)
        save_file({"found": found}, partial, metadata={"sha256": hashlib.sha256(found.tobytes()).hexdigest()})
        partial.replace(file)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"what was found for a text is kept in {file.parent}, which cannot be written: {error}"
        ) from error
