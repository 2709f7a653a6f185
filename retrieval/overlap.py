# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""How much of a text stands in what was found for it: section 2.6 of RETRO's paper, whose measure of leakage it is."""

from typing import Any

import numpy as np

THRESHOLDS = (0.125, 0.25, 0.5, 0.75, 1.0)  # the paper's lowest is 8 of 64 tokens
ROWS_AT_ONCE = 4_096


def overlap(chunks: np.ndarray, neighbours: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The longest run of tokens that a chunk has in common with one of its neighbours, over the tokens of a chunk.

    Args:
        chunks: `(n, m)`.
        neighbours: `(n, k, r)`, each with its continuation.
        mask: The same shape, bool, what of these is real.

    Returns:
        `(n,)`, from 0 to 1.
    """
    longest = np.zeros(len(chunks), dtype=np.int64)
    for first in range(0, len(chunks), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        run = np.zeros(neighbours[part].shape, dtype=np.int16)  # of tokens alike that end in the chunk's token and here
        for token in range(chunks.shape[1]):
            before = np.zeros_like(run)
            before[..., 1:] = run[..., :-1]
            alike = (neighbours[part] == chunks[part, token, None, None]) & mask[part]
            run = np.where(alike, before + 1, 0).astype(np.int16)
            if run.size:
                longest[part] = np.maximum(longest[part], run.max(axis=(1, 2)))
    return longest / chunks.shape[1]


def by_overlap(nats: np.ndarray, tokens: np.ndarray, shares: np.ndarray) -> list[dict[str, Any]]:
    """Losses of the chunks that have at most so much in common with their neighbours.

    Args:
        nats: `(n,)`, sums over the scored tokens of chunks.
        tokens: `(n,)`, how many those are.
        shares: `(n,)`, as `overlap` gives them.

    Returns:
        For every threshold `overlap`, `chunks`, their `share` of all, and `bits_per_token`, None without any.
    """
    rows = []
    for threshold in THRESHOLDS:
        kept = shares <= threshold
        number = int(tokens[kept].sum())
        bits = float(nats[kept].sum()) / number / float(np.log(2)) if number else None
        share = float(kept.mean()) if len(kept) else 0.0
        rows.append({"overlap": threshold, "chunks": int(kept.sum()), "share": share, "bits_per_token": bits})
    return rows
