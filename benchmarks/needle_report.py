# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What `hf-longformer bench needle` found, as a table and as a picture."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_longformer.drawing import draw_heat_maps

from .needle import READERS

Entry = dict[str, Any]


def recall(entries: Sequence[Entry]) -> float:
    """Names found, in per cent of the texts."""
    return 100 * sum(entry["right"] for entry in entries) / sum(entry["texts"] for entry in entries)


def by_seed(entries: Sequence[Entry]) -> list[float]:
    """Names found in per cent, seed by seed; depths count alike."""
    seeds = sorted({entry["seed"] for entry in entries})
    return [statistics.mean(recall([entry]) for entry in entries if entry["seed"] == seed) for seed in seeds]


def table(results: dict[str, Any]) -> str:
    """A row per length: of every reader mean and standard deviation of seeds over all depths, and how many names of
    how many; and of a global mask the share of its attention that is on the name, in the layer where it is most.
    """
    cells = results["cells"]
    readers = [reader for reader in READERS if any(cell["reader"] == reader for cell in cells)]
    lines = [f"| tokens | {' | '.join(readers)} | attention on the name |", "|--:|" + "--:|" * (len(readers) + 1)]
    for length in sorted({cell["length"] for cell in cells}):
        row = []
        for reader in readers:
            entries = [cell for cell in cells if (cell["reader"], cell["length"]) == (reader, length)]
            row.append(_said(entries) if entries else "–")
        lines.append(f"| {length:,} | {' | '.join(row)} | {_attention(cells, length)} |")
    return "\n".join(lines)


def _said(entries: Sequence[Entry]) -> str:
    scores = by_seed(entries)
    spread = f" ± {statistics.stdev(scores):.0f}" if len(scores) > 1 else ""
    counts = f"{sum(entry['right'] for entry in entries)} of {sum(entry['texts'] for entry in entries)}"
    return f"{statistics.mean(scores):.0f} %{spread} ({counts})"


def _attention(cells: Sequence[Entry], length: int) -> str:
    """Median over texts of the best layer's share, and of its margin."""
    reader = next(iter(READERS))
    of_texts = [
        max(layers, key=lambda layer: layer["margin"])
        for cell in cells
        if (cell["reader"], cell["length"]) == (reader, length)
        for layers in cell["attention"]
        if layers
    ]
    if not of_texts:
        return "–"
    share, margin = (statistics.median(one[name] for one in of_texts) for name in ("share", "margin"))
    return f"{100 * share:.1f} % (margin {margin:+.1f})"


def draw(results: dict[str, Any], file: Path) -> None:
    """Heat maps of depth and length, one per reader, as PNG."""
    cells = results["cells"]
    lengths = sorted({cell["length"] for cell in cells})
    depths = sorted({cell["depth"] for cell in cells})
    panels: dict[str, list[list[float | None]]] = {}
    for reader in READERS:
        chosen = {
            (depth, length): [
                cell for cell in cells if (cell["reader"], cell["depth"], cell["length"]) == (reader, depth, length)
            ]
            for depth in depths
            for length in lengths
        }
        panels[reader] = [
            [recall(entries) if (entries := chosen[depth, length]) else None for length in lengths] for depth in depths
        ]
    draw_heat_maps(
        panels,
        [_short(length) for length in lengths],
        [f"{depth} %" for depth in depths],
        ("tokens of the text", "where the name is said"),
        file,
    )


def _short(tokens: int) -> str:
    """4k, 1M: 1,024 and its square are what is counted in."""
    for unit, size in (("M", 2**20), ("k", 2**10)):
        if tokens >= size and tokens % size == 0:
            return f"{tokens // size}{unit}"
    return f"{tokens:,}"
