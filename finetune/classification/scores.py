# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""How good labels are, and what is written and drawn of them."""

from pathlib import Path
from typing import Any

import numpy as np

from ..losses import MULTI, REGRESSION
from ..metrics import Classification, Regression
from .labels import Labels
from .windows import probabilities


def scores(logits: np.ndarray, gold: list[Any], labels: Labels) -> dict[str, Any]:
    """What `Classification` and `Regression` measure, of one row of logits per text."""
    found = probabilities(logits, labels.problem_type)
    if labels.problem_type == REGRESSION:
        return Regression().compute(predictions=found[:, 0], references=gold)
    metric = Classification("multi_label" if labels.problem_type == MULTI else None)
    return metric.compute(predictions=found, references=np.asarray(gold).astype(int), names=labels.names)


def predictions(rows: list[int], logits: np.ndarray, gold: list[Any], labels: Labels) -> list[dict[str, Any]]:
    """What is written of every text: its row, what was found, the gold label, and the probabilities of the labels.

    Args:
        rows: Of the texts in their file.
        logits: `(texts, labels)`.
        gold: As `Labels.encode` gives it.
        labels: What is predicted.
    """
    lines: list[dict[str, Any]] = []
    for row, values, answer in zip(rows, probabilities(logits, labels.problem_type), gold, strict=True):
        lines.append({"row": row, **labels.describe(values), "gold": labels.decode(answer)})
    return lines


def draw_confusion(confusion: list[list[int]], names: list[str], file: Path) -> None:
    """Draws a confusion matrix: a row per gold label, a column per predicted one.

    Args:
        confusion: Counts.
        names: Of the labels.
        file: The PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.asarray(confusion)
    named = [name[:30] for name in names] if len(names) <= 60 else []  # of more, none could be read
    side = 2.5 + 0.4 * min(len(names), 60)
    figure = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(named)), named, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(len(named)), named, parse_math=False)
    if len(names) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    figure.savefig(file, dpi=120)
