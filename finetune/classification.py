# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Classification and regression of documents of any length: labels, windows, losses, scores of whole documents."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from hf_longformer.conversion import InputError

from .data import ROW, Table, texts_of
from .metrics import Classification, Regression
from .windows import CUT, encode

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
POOLING: dict[str, Callable] = {"stride-mean": np.mean, "stride-max": np.max}
MAX_CLASSES = 1000


@dataclass
class Labels:
    """What is predicted.

    Args:
        problem_type: `"single_label_classification"`, `"multi_label_classification"` or `"regression"`.
        names: The labels in the order of the model's outputs; empty for regression.
    """

    problem_type: str
    names: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, table: Table, column: str, problem_type: str | None, delimiter: str | None) -> "Labels":
        """The labels that stand in a table, sorted by name.

        Args:
            table: To train on.
            column: Where they stand: names or numbers, lists of them, or several in one text.
            problem_type: As above; None: several labels if there are lists or a delimiter, a number to be predicted if
                there are nothing but numbers, some with fractions, and otherwise one label.
            delimiter: What stands between several labels of one text.

        Raises:
            InputError: If there are too few or too many, or what is there does not suit the problem.
        """
        values = _values(table, column)
        kind = problem_type or _guess(values, delimiter)
        if kind == REGRESSION:
            return cls(kind)
        if kind == SINGLE and any(isinstance(value, list) for value in values):
            raise InputError(f"the column {column} of {table.name} must hold single labels for {SINGLE}, got lists")
        names = {label for value in values for label in _names(value, kind, delimiter)}
        if kind == SINGLE and (len(names) > MAX_CLASSES or (len(names) > 20 and 2 * len(names) > len(values))):
            raise InputError(
                f"the column {column} of {table.name} must hold labels, got {len(names)} different ones in "
                f"{len(values)} rows: numbers to be predicted need --problem_type regression"
            )
        if len(names) < (2 if kind == SINGLE else 1):
            raise InputError(f"the column {column} of {table.name} must hold different labels, got {sorted(names)}")
        known = getattr(_element(table, column), "names", None)  # the order of a data set that numbers its labels
        return cls(kind, list(known or sorted(names, key=_as_numbers_first)))

    @classmethod
    def of_model(cls, config: Any) -> "Labels":
        """The labels that a trained model knows, in the order of its outputs."""
        kind = config.problem_type or SINGLE
        return cls(kind, [] if kind == REGRESSION else [config.id2label[index] for index in range(config.num_labels)])

    def encode(self, table: Table, column: str, delimiter: str | None) -> list[Any]:
        """The labels of all rows, as the model wants them: a number each, or 0 or 1 for every label.

        Raises:
            InputError: If one is missing or unknown, with its row.
        """
        position = {name: index for index, name in enumerate(self.names)}
        encoded: list[Any] = []
        for value, row in zip(_values(table, column), table.rows[ROW], strict=True):
            if self.problem_type == REGRESSION:
                encoded.append(_number(value))
                if not np.isfinite(encoded[-1]):
                    raise InputError(f"row {row} of {table.name} must have a number to be predicted, got {value!r}")
                continue
            found = _names(value, self.problem_type, delimiter)
            unknown = [name for name in found if name not in position]
            if unknown or (self.problem_type == SINGLE and not found):
                raise InputError(
                    f"row {row} of {table.name} must have a label that training knows ({', '.join(self.names[:10])}"
                    f"{', …' * (len(self.names) > 10)}), got {unknown[0] if unknown else 'none'}"
                )
            chosen = [position[name] for name in found]
            encoded.append(chosen[0] if self.problem_type == SINGLE else _one_hot(chosen, len(self.names)))
        return encoded

    def decode(self, encoded: Any) -> Any:
        """A label, labels or a number, from what `encode` made of it."""
        if self.problem_type == MULTI:
            return [name for name, chosen in zip(self.names, encoded, strict=True) if chosen]
        return self.names[encoded] if self.problem_type == SINGLE else encoded

    def describe(self, values: np.ndarray) -> dict[str, Any]:
        """What is said of a text whose probabilities (or number) are `(labels,)`."""
        if self.problem_type == REGRESSION:
            return {"value": float(values[0])}
        found = {name: float(value) for name, value in zip(self.names, values, strict=True)}
        if self.problem_type == MULTI:
            return {"labels": self.decode(values > 0.5), "scores": found}
        return {"label": self.names[int(values.argmax())], "scores": found}

    def config(self) -> dict[str, Any]:
        """The entries of a model's configuration that say all this."""
        if self.problem_type == REGRESSION:
            return {"problem_type": REGRESSION, "num_labels": 1}
        return {
            "problem_type": self.problem_type,
            "id2label": dict(enumerate(self.names)),
            "label2id": {name: index for index, name in enumerate(self.names)},
        }


def _element(table: Table, column: str) -> Any:
    """What a column holds, or holds lists of."""
    feature = table.rows.features[column]
    return getattr(feature, "feature", feature)


def _values(table: Table, column: str) -> list[Any]:
    """What stands in a column, with names for the numbers of a data set that numbers its labels; -1 there is none.

    Raises:
        InputError: If there is anything else than labels, numbers and lists of them.
    """
    element = _element(table, column)
    for value, row in zip(table.rows[column], table.rows[ROW], strict=True):
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, (list, dict)) for part in parts):
            raise InputError(f"{table.where([row])} must have a label or a list of labels in {column}, got {value}")

    def name(value: Any) -> Any:
        if isinstance(value, list):
            return [name(one) for one in value]
        return element.int2str(value) if value is not None and value >= 0 else None

    return [name(value) for value in table.rows[column]] if hasattr(element, "int2str") else list(table.rows[column])


def _is_missing(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _guess(values: list[Any], delimiter: str | None) -> str:
    if delimiter is not None or any(isinstance(value, list) for value in values):
        return MULTI
    numbers = [_number(value) for value in values if not _is_missing(value)]
    fractions = np.isfinite(numbers).all() and any(not number.is_integer() for number in numbers)
    return REGRESSION if fractions else SINGLE


def _names(value: Any, kind: str, delimiter: str | None) -> list[str]:
    if _is_missing(value):
        return []
    if kind == MULTI:
        parts = value if isinstance(value, list) else str(value).split(delimiter or "|")
        return [str(part).strip() for part in parts if not _is_missing(part)]
    return [str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()]


def _number(value: Any) -> float:
    """NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _as_numbers_first(name: str) -> tuple:
    number = _number(name)
    return (0, number, name) if np.isfinite(number) else (1, 0.0, name)


def _one_hot(chosen: list[int], size: int) -> list[float]:
    return [float(index in chosen) for index in range(size)]


def make_windows(
    table: Table,
    labels: list[Any],
    tokenizer: PreTrainedTokenizerBase,
    columns: list[str],
    *,
    length: int,
    stride: int | None,
    workers: int | None = None,
) -> tuple[Dataset, dict[str, int]]:
    """Texts as rows of tokens, with their labels, sorted by length.

    Args:
        table: The texts.
        labels: One per row.
        tokenizer: Of the model.
        columns: One or two, the texts.
        length: Tokens at once.
        stride: Tokens that the windows of a text share; None: one window per text.
        workers: Processes that tokenise.

    Returns:
        One row per window: what the tokenizer makes, `labels`, `length`, and `row` in the table's file; and how many
        `documents` were cut off at the limit, by how many `tokens` in all.
    """
    rows, name = table.rows.select_columns([*columns, ROW]).add_column("labels", labels), table.name

    def cut_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts_and_pairs = (texts_of(batch, column, name) for column in columns)
        windows = encode(tokenizer, *texts_and_pairs, length=length, stride=stride)
        texts = windows.pop("text")
        return {**windows, **{one: [batch[one][text] for text in texts] for one in ("labels", ROW)}}

    windows = rows.map(cut_batch, batched=True, remove_columns=rows.column_names, num_proc=workers)
    beyond = np.asarray(windows[CUT])
    counts = {"documents": int((beyond > 0).sum()), "tokens": int(beyond.sum())}
    return windows.remove_columns(CUT).sort("length", reverse=True), counts


class Loss:
    """The loss of a batch, summed and divided by the labels of the whole step, over all processes: `Trainer`'s
    `compute_loss_func`.

    Args:
        problem_type: As in `Labels`.
        weights: Of the classes, `(labels,)`, for single labels.
        smoothing: Share of every single label that is spread over all labels.
    """

    def __init__(self, problem_type: str, weights: torch.Tensor | None = None, smoothing: float = 0.0) -> None:
        self.problem_type, self.weights, self.smoothing = problem_type, weights, smoothing

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """A scalar, from `outputs.logits` `(batch, labels)` and `labels` `(batch,)` or `(batch, labels)`."""
        logits = outputs.logits.float()
        if self.problem_type == SINGLE:
            weights = None if self.weights is None else self.weights.to(logits.device)
            options: dict[str, Any] = {"weight": weights, "label_smoothing": self.smoothing, "reduction": "sum"}
            total = torch.nn.functional.cross_entropy(logits, labels, **options)
        elif self.problem_type == MULTI:
            total = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum")
        else:
            total = (logits[:, 0] - labels.float()).square().sum()
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)


def balanced_weights(labels: list[int], number: int) -> torch.Tensor:
    """Weights `(number,)` that give every class the same weight in all, and a text 1 on average."""
    counts = np.bincount(labels, minlength=number)
    return torch.tensor(len(labels) / (np.maximum(counts, 1) * (counts > 0).sum()), dtype=torch.float32)


def pool(logits: np.ndarray, rows: list[int], overflow: str) -> tuple[list[int], np.ndarray]:
    """The windows of a text as one.

    Args:
        logits: `(windows, labels)`.
        rows: Which text every window belongs to.
        overflow: `"stride-mean"`, `"stride-max"`, or `"truncate"`: one window per text.

    Returns:
        The texts in order, and `(texts, labels)`.
    """
    texts, inverse = np.unique(np.asarray(rows), return_inverse=True)
    together = POOLING.get(overflow, np.mean)
    order = np.argsort(inverse, kind="stable")
    parts = np.split(logits[order], np.cumsum(np.bincount(inverse))[:-1])
    return texts.tolist(), np.stack([together(part, axis=0) for part in parts])


def probabilities(logits: np.ndarray, problem_type: str) -> np.ndarray:
    """Of the labels, `(texts, labels)`; for regression the numbers themselves."""
    if problem_type == REGRESSION:
        return logits
    values = torch.from_numpy(np.ascontiguousarray(logits)).double()
    return (values.sigmoid() if problem_type == MULTI else values.softmax(dim=-1)).numpy()


def scores(logits: np.ndarray, right: list[Any], labels: Labels) -> dict[str, Any]:
    """What `Classification` and `Regression` measure, of one row of logits per text."""
    found = probabilities(logits, labels.problem_type)
    if labels.problem_type == REGRESSION:
        return Regression().compute(predictions=found[:, 0], references=right)
    metric = Classification("multi_label" if labels.problem_type == MULTI else None)
    return metric.compute(predictions=found, references=np.asarray(right).astype(int), names=labels.names)


def predictions(rows: list[int], logits: np.ndarray, right: list[Any], labels: Labels) -> list[dict[str, Any]]:
    """What is written of every text: its row, what was found, what is right, and the probabilities of the labels.

    Args:
        rows: Of the texts in their file.
        logits: `(texts, labels)`.
        right: As `Labels.encode` gives it.
        labels: What is predicted.
    """
    lines: list[dict[str, Any]] = []
    for row, values, answer in zip(rows, probabilities(logits, labels.problem_type), right, strict=True):
        lines.append({"row": row, **labels.describe(values), "right": labels.decode(answer)})
    return lines


def draw_confusion(confusion: list[list[int]], names: list[str], file: Path) -> None:
    """Draws a confusion matrix: a row per right label, a column per predicted one.

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
    axes.set_ylabel("right")
    figure.savefig(file, dpi=120)
