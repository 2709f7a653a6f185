# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows of JSON files as they stand there: texts stay texts, whatever they look like, and nothing is taken for a date.

The reader of `datasets` takes texts that look like dates for dates, and, where one number stands among texts, texts
that look like numbers for numbers.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, config

from hf_longformer.conversion.errors import InputError, one_line

ROW = "row"  # the column with the number of a row in its file, counted from 1
ROWS_AT_ONCE, BYTES_AT_ONCE = 10_000, 2**23
FORM = 1  # of the files in the cache
TEXT, NUMBER, TRUTH, LIST, OBJECT = "a text", "a number", "a truth value", "a list", "an object"
KINDS = {str: TEXT, int: NUMBER, float: NUMBER, bool: TRUTH, list: LIST, dict: OBJECT}
TEXTS = pa.list_(pa.string())
Rows = list[dict[str, Any]]


def load_object(text: str) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: If it is none, or an object in it says twice what an entry is.
    """
    return json.loads(text, object_pairs_hook=_object)


def objects_of(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, of which empty ones do not count, or of one JSON list.

    Raises:
        InputError: If a line, or an entry of the list, is none; it is named.
    """
    with file.open(encoding="utf-8-sig", newline="\n") as stream:
        number = 0
        try:
            for number, line in enumerate(stream, 1):
                if number == 1 and line.lstrip().startswith("["):
                    content = _list_of(line, stream.read(), file)
                    yield from (_checked(one, file, index, "entry") for index, one in enumerate(content, 1))
                    return
                if line.strip():
                    yield _checked(load_object(line), file, number, "line")
        except UnicodeDecodeError as error:
            raise InputError(f"{file} must be in UTF-8, got {error}: save it in that encoding") from error
        except (ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            why = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else error
            raise InputError(
                f"every line of {file} must be a JSON object, got one that breaks off or is malformed in line "
                f"{number}: {why}"
            ) from error


def read_json_rows(file: Path) -> tuple[Dataset, dict[str, str]]:
    """A file of JSON lines, or with a list of objects, as a table on disk.

    Args:
        file: In UTF-8.

    Returns:
        The rows, with their numbers; and for every column whose values are of several kinds a sentence about that.
        Such a column is left out, but for one of texts and lists of texts: its texts are lists of one text in the rows.

    Raises:
        InputError: As `objects_of`.
    """
    columns: dict[str, _Column] = {}
    done = 0
    for rows in _batches(objects_of(file)):
        for name in {name: None for row in rows for name in row}:
            columns.setdefault(name, _Column()).see([row.get(name) for row in rows], done)
        done += len(rows)
    kept = {
        name: TEXTS if one.is_text_or_list else one.type
        for name, one in columns.items()
        if (one.is_whole or one.is_text_or_list) and name != ROW
    }
    schema = pa.schema([*kept.items(), (ROW, pa.int64())])
    complaints = {
        name: f"the column {name} of {file.name} must hold one kind of values, got {one.complaint()}"
        for name, one in columns.items()
        if not one.is_whole
    }
    return Dataset.from_file(str(_on_disk(file, schema, done))), complaints


@dataclass
class _Column:
    """What was seen of a column so far.

    Args:
        type: How its values are stored.
        first: The kinds of values, and inside lists, with the first row of each.
        error: What Arrow says of values that it cannot store together.
    """

    type: pa.DataType = field(default_factory=pa.null)
    first: dict[str, int] = field(default_factory=dict)
    inside: dict[str, int] = field(default_factory=dict)
    error: str = ""

    @property
    def is_whole(self) -> bool:
        return len(self.first) <= 1 and len(self.inside) <= 1 and not self.error

    @property
    def is_text_or_list(self) -> bool:
        return self.first.keys() == {TEXT, LIST} and self.inside.keys() <= {TEXT}

    def see(self, values: list[Any], done: int) -> None:
        """Takes in what stands in the rows behind the first `done`."""
        if not {type(value) for value in values} <= {str, type(None)}:
            for row, value in enumerate(values, done + 1):
                if value is not None:
                    self.first.setdefault(KINDS[type(value)], row)
                for kind in _kinds_inside(value):
                    self.inside.setdefault(kind, row)
        elif TEXT not in self.first and (rows := [row for row, one in enumerate(values, done + 1) if one is not None]):
            self.first[TEXT] = rows[0]
        if self.is_whole:
            try:
                self.type = _together(self.type, pa.array(values).type)
            except (pa.ArrowException, OverflowError, UnicodeError) as error:
                self.error = one_line(error)

    def complaint(self) -> str:
        """Which kinds there are, and where."""
        kinds, where = (self.first, "") if len(self.first) > 1 else (self.inside, " in a list")
        if len(kinds) > 1:
            return " and ".join(f"{kind}{where} in row {row}" for kind, row in kinds.items())
        return f"values that cannot stand in one table: {self.error}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the entry {next(name for name in names if names.count(name) > 1)} stands there twice")
    return found


def _list_of(line: str, rest: str, file: Path) -> list[Any]:
    """The entries of a list that begins in the first line, or that line, if it is a list and others follow."""
    try:
        return list(load_object(line + rest))
    except (ValueError, RecursionError) as error:
        try:
            return [load_object(line)]
        except (ValueError, RecursionError):
            raise InputError(f"{file} cannot be read: {one_line(error)}") from error


def _checked(value: Any, file: Path, number: int, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(
            f"every {what} of {file} must be a JSON object, got {json.dumps(value)[:50]!r} in {what} {number}"
        )
    return value


def _kinds_inside(value: Any) -> set[str]:
    """Of what lists hold, at any depth."""
    if not isinstance(value, list):
        return set()
    types = set(map(type, value)) - {type(None)}
    found = {KINDS[one] for one in types - {list}}
    return found.union(*map(_kinds_inside, value)) if list in types else found


def _together(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """What holds values of both."""
    schemas = [pa.schema([("", kind)]) for kind in (one, other)]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[Rows]:
    batch: Rows = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, str | list))
        if len(batch) >= ROWS_AT_ONCE or size >= BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _on_disk(file: Path, schema: pa.Schema, number: int) -> Path:
    """The rows in the cache of `datasets`, under a name that says what they are."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    digest.update(f"{schema} {number} {FORM}".encode())
    place = Path(config.HF_DATASETS_CACHE) / "hf_longformer" / f"{digest.hexdigest()}.arrow"
    if place.is_file():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for rows in _batches({**row, ROW: index} for index, row in enumerate(objects_of(file), 1)):
                writer.write_table(pa.table([_values(rows, one) for one in schema], schema=schema))
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)
    return place


def _values(rows: Rows, column: pa.Field) -> pa.Array:
    values = [row.get(column.name) for row in rows]
    if column.type == TEXTS:
        values = [[value] if isinstance(value, str) else value for value in values]
    return pa.array(values, column.type)
