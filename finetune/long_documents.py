# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Prediction and embedding of many documents as one object, which other processes can be sent: columns in and out."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hf_longformer.conversion.errors import InputError, one_line

from .prediction import Predictor
from .rows import NOT_UTF_8, Row, is_utf_8
from .tasks import ANSWERED, module_of

# Rows are answered in pools, so that texts of one length can be batched: so many rows at most, or so many characters
# per token of a batch.
POOL_ROWS, POOL_CHARACTERS = 256, 16
ERRORS = (ValueError, RuntimeError, IndexError)  # of a row, or of a model that cannot read it
LONGEST_ERROR = 300  # characters
ID_NAMES = ("id", "_id")  # of the entry with a row's name; HotpotQA's files have the second
COUNTS = {"truncated": pa.bool_(), "tokens_cut": pa.int64(), "error": pa.string()}  # columns of all tasks


class LongDocumentPredictor:
    """Reads documents of any length: a batch of columns in, as many rows of results out, in the same order.

    The checkpoint is loaded when it is first needed, in the process that needs it: until then, and when it is pickled,
    this is a handful of settings. Texts are cut into windows and computed in batches of about one length. What
    `hf-longformer predict` says of a row, this says of it, errors included: a row that cannot be answered, such as one
    without a text, has an `error`, and no row is left out.

    Args:
        task: One of `tasks.ANSWERED`, such as `"classification"` or `"embeddings"`.
        checkpoint: A folder or a Hub name, which every process must find.
        columns: Names in the batch of what the task calls `text`, `text_pair`, `tokens`, `question` or `context`.
        keep: Columns of the batch that are handed on unchanged, in front of the results.
        **options: For `Predictor.load` (`dtype`, `device`, `backend`, `local_files_only`, `tokens_per_batch`) and for
            the task; what is None is the checkpoint's own.

    Raises:
        InputError: If there is no such task.
    """

    def __init__(
        self,
        task: str,
        checkpoint: str,
        *,
        columns: Mapping[str, str] | None = None,
        keep: Sequence[str] = (),
        **options: Any,
    ) -> None:
        if task not in ANSWERED:
            raise InputError(f"a task must be one of {', '.join(ANSWERED)}, got {task}")
        self.task, self.checkpoint, self.options = task, str(checkpoint), options
        self.columns, self.keep = dict(columns or {}), tuple(keep)
        self._predictor: Predictor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_predictor": None}

    @property
    def predictor(self) -> Predictor:
        """What answers, loaded at the first use.

        Raises:
            InputError: If the checkpoint cannot be loaded or is for another task, or an option cannot be used.
        """
        if self._predictor is None:
            self._predictor = module_of(self.task).PREDICTOR.load(self.checkpoint, **self.options)
        return self._predictor

    @property
    def names(self) -> dict[str, str]:
        """What the entries that the task reads are called in the rows, by what the task calls them."""
        return {name: self.columns.get(name, name) for name in self.predictor.columns}

    @property
    def schema(self) -> pa.Schema:
        """The columns of the results: those of the task, then `truncated`, `tokens_cut` and `error`."""
        return pa.schema([*self.predictor.fields().items(), *COUNTS.items()])

    def __call__(self, batch: Any) -> Any:
        """The columns `keep` and those of `schema`, one row for each of the batch.

        Args:
            batch: Columns by name, each a list or an array of one value per row; or a `pyarrow.Table`, of which a table
                is made, with the same types whatever is in the batch.

        Raises:
            InputError: If a column is missing, or `keep` names one that results have too.
        """
        is_table = isinstance(batch, pa.Table)
        there = batch.column_names if is_table else list(batch)
        check_columns(self.names, there, "a batch", self.predictor.one_of)
        if unknown := [name for name in self.keep if name not in there]:
            raise InputError(f"columns to keep must be in the batch, got {', '.join(unknown)}")
        if doubled := [name for name in self.keep if name in self.schema.names]:
            raise InputError(f"columns to keep must have other names than results, got {', '.join(doubled)}")
        sizes = {name: len(batch[name]) for name in (*self.names.values(), *self.keep) if name in there}
        if len({*sizes.values()}) > 1:
            raise InputError(f"columns must be of one length, got {sizes}")
        needed = [column for column in dict.fromkeys(self.names.values()) if column in there]
        rows = batch.select(needed).to_pylist() if is_table else _rows_of({name: batch[name] for name in needed})
        results = self.table([result for pool in self.answers(rows) for _, result in pool])
        if is_table:
            for number, name in enumerate(self.keep):
                results = results.add_column(number, batch.schema.field(name), batch[name])
            return results
        return {**{name: batch[name] for name in self.keep}, **results.to_pydict()}

    def answers(self, rows: Iterable[Row]) -> Iterator[list[tuple[Row, dict[str, Any]]]]:
        """Rows and what is said of each, in order, pool by pool.

        Args:
            rows: With the names that `columns` gives; a row that could not be read is a sentence about that.
        """
        names = self.names
        budget = POOL_CHARACTERS * self.predictor.tokens_per_batch
        for pool in _pools((_renamed(row, names) for row in rows), names, budget):
            yield list(zip(pool, _answers(self.predictor, pool, names), strict=True))

    def table(self, results: list[dict[str, Any]]) -> pa.Table:
        """Results as a table of `schema`.

        Raises:
            RuntimeError: If a result has an entry that is no column.
        """
        schema = self.schema
        rows = [
            {**result, "error": as_text(result["error"])}
            if "error" in result
            else {"truncated": False, "tokens_cut": 0, **self.predictor.row_of_table(result)}
            for result in results
        ]
        if strange := sorted({name for row in rows for name in row} - {*schema.names}):
            raise RuntimeError(f"results of {self.task} must have the entries {', '.join(schema.names)}, got {strange}")
        return pa.Table.from_pylist(rows, schema=schema)


def check_columns(names: dict[str, str], there: Sequence[str] | None, what: str, one_of: bool) -> None:
    """Refuses a table without a column that is needed, or that was given a name; of several it may need one alone.

    Args:
        names: What the entries of a row are called, by what the task calls them.
        there: The columns of the table; None: every row has its own, and is looked at by itself.
        what: The table.
        one_of: Whether a row has one of the entries, not all of them.

    Raises:
        InputError: As said.
    """
    if there is None:
        return
    has_one = one_of and any(column in there for column in names.values())
    for name, column in names.items():
        if column not in there and not (has_one and column == name):
            option = f"--{name.replace('_', '-')}-column"
            raise InputError(
                f"{what} must have a column {column}, got {', '.join(there) or 'none'}: {option} gives it another name"
            )


def name_of_id(row: Row) -> str | None:
    """The entry with a row's name."""
    return next((name for name in ID_NAMES if isinstance(row, dict) and name in row), None)


def complaint_of(predictor: Predictor, row: Row, names: dict[str, str]) -> str | None:
    """What is wrong with a row, its texts included; None if nothing is.

    Args:
        predictor: Which is to answer it.
        row: The row, or what is wrong with it.
        names: What its entries are called where it comes from.
    """
    if isinstance(row, str):
        return row
    complaint = predictor.complaint(row, names)
    if complaint is None and not is_utf_8([row.get(name) for name in predictor.columns]):
        complaint = NOT_UTF_8
    return complaint


def as_text(value: Any) -> str | None:
    """A value as UTF-8 has it: texts as they are, None as None, all else, and texts with half characters, as JSON."""
    if value is None or (isinstance(value, str) and is_utf_8(value)):
        return value
    return json.dumps(value, default=str)


def _renamed(row: Row, names: dict[str, str]) -> Row:
    """A row's own name, and its entries under the names that the task has for them."""
    if isinstance(row, str):
        return row
    own = {name: row[name] for name in ID_NAMES if name in row and name not in names}
    return own | {name: row[column] for name, column in names.items() if column in row}


def _pools(rows: Iterable[Row], names: dict[str, str], characters: int) -> Iterator[list[Row]]:
    pool: list[Row] = []
    size = 0
    for row in rows:
        pool.append(row)
        size += sum(_length(row.get(name)) for name in names) if isinstance(row, dict) else 0
        if len(pool) == POOL_ROWS or size >= characters:
            yield pool
            pool, size = [], 0
    if pool:
        yield pool


def _length(text: Any) -> int:
    """Characters of a text, or of all paragraphs of one."""
    text = list(text.values()) if isinstance(text, dict) else text
    return len(text) if isinstance(text, str) else sum(map(_length, text)) if isinstance(text, list) else 0


def _answers(predictor: Predictor, rows: list[Row], names: dict[str, str]) -> list[dict[str, Any]]:
    """One result per row."""
    complaints = [complaint_of(predictor, row, names) for row in rows]
    good: list[Any] = [row for row, complaint in zip(rows, complaints, strict=True) if complaint is None]
    found = iter(_answers_of_good(predictor, good) if good else [])
    return [next(found) if complaint is None else {"error": complaint} for complaint in complaints]


def _answers_of_good(predictor: Predictor, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One result per row; rows that cannot be answered together are answered in halves, at last each alone."""
    try:
        return predictor(rows)
    except ERRORS as error:
        if len(rows) == 1:
            return [{"error": one_line(error)[:LONGEST_ERROR]}]
    half = len(rows) // 2
    return _answers_of_good(predictor, rows[:half]) + _answers_of_good(predictor, rows[half:])


def _rows_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Columns as rows of plain Python values; what tables of numbers have where nothing stands is None."""
    plain = [[_plain(value) for value in column] for column in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*plain, strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return None if isinstance(value, float) and value != value else value
