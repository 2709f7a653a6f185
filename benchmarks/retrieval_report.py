# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What `hf-longformer bench retrieval` found, as a table and as a picture."""

import statistics
from pathlib import Path
from typing import Any

from hf_longformer.drawing import Curves, draw_curves

from .retrieval import SOURCE, WHOLE
from .retrieval_tasks import QUESTIONS

Entry = dict[str, Any]


def named(entry: Entry) -> str:
    """Encoder and way, as people call them."""
    return f"{entry['way']} of the {SOURCE}" if entry["encoder"] == SOURCE else f"{entry['encoder']}, {entry['way']}"


def table(results: dict[str, Any]) -> str:
    """A row per task and length: of every encoder and way documents found first, in per cent, over seeds."""
    cells = results["cells"]
    ways = list(dict.fromkeys(map(named, cells)))
    lines = [f"| | tokens | documents | {' | '.join(ways)} |", "|---|--:|--:|" + "--:|" * len(ways)]
    for task, length in dict.fromkeys((cell["task"], cell["length"]) for cell in cells):
        chosen = [cell for cell in cells if (cell["task"], cell["length"]) == (task, length)]
        row = [_said([cell for cell in chosen if named(cell) == way], "recall_at_1", 100, 0) for way in ways]
        start = f"| {task} | {f'{length:,}' if length else 'their own'} | {chosen[0]['documents']} |"
        lines.append(f"{start} {' | '.join(row)} |")
    return "\n".join([*lines, *_costs(cells, ways), *_cut(cells)])


def _cut(cells: list[Entry]) -> list[str]:
    """What long encoders did not read."""
    over = [cell for cell in cells if cell["cut"] and cell["encoder"] != SOURCE and cell["way"] == WHOLE]
    lines = [
        f"\n{cell['encoder']} reads fewer tokens than documents of {cell['task']} have: {cell['cut']:,} were cut off"
        for cell in over
    ]
    return list(dict.fromkeys(lines))


def _costs(cells: list[Entry], ways: list[str]) -> list[str]:
    """What the longest documents of the last task cost: mean reciprocal rank, vectors and seconds of a document."""
    last = cells[-1]
    chosen = [cell for cell in cells if (cell["task"], cell["length"]) == (last["task"], last["length"])]
    lines = []
    for label, name, factor, digits in (("MRR", "mrr", 100, 0), ("s per document", "seconds_per_document", 1, 2)):
        row = [_said([cell for cell in chosen if named(cell) == way], name, factor, digits) for way in ways]
        lines.append(f"| {last['task']}, {label} | | | {' | '.join(row)} |")
    counts = [next(cell for cell in chosen if named(cell) == way) for way in ways]
    row = [f"{cell['vectors'] / cell['documents']:.3g}" for cell in counts]
    return [*lines, f"| {last['task']}, vectors per document | | | {' | '.join(row)} |"]


def _said(entries: list[Entry], name: str, factor: float, digits: int) -> str:
    """Mean and, of several seeds, standard deviation."""
    if not entries:
        return "–"
    values = [factor * entry[name] for entry in entries]
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def draw(results: dict[str, Any], file: Path) -> None:
    """Curves of recall over the length, a panel per generated task, as PNG."""
    panels = {}
    for task in dict.fromkeys(cell["task"] for cell in results["cells"] if cell["task"] != QUESTIONS):
        points: dict[str, list[tuple[float, float]]] = {}
        cells = [cell for cell in results["cells"] if cell["task"] == task]
        for way, length in dict.fromkeys((named(cell), cell["length"]) for cell in cells):
            values = [cell["recall_at_1"] for cell in cells if (named(cell), cell["length"]) == (way, length)]
            points.setdefault(way, []).append((length, 100 * statistics.mean(values)))
        panels[task] = Curves("tokens of the documents", "found first, %", points, is_log=False)
    draw_curves(panels, file)
