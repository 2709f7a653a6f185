# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What documents are labelled with: one label, several labels or a number."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hf_longformer.conversion import InputError

from ..data import ROW, Table, is_nothing
from ..losses import MULTI, REGRESSION, SINGLE

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
    return is_nothing(value) or (isinstance(value, str) and not value.strip())


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
