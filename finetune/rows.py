# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What `hf-longformer predict` reads: rows of every format that training reads, one after the other."""

import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from hf_longformer.conversion.errors import InputError, one_line

from .data import csv_rows, separator_of_header, wrong_number_of_fields
from .json_rows import load_object
from .question_files import is_nested, questions_of, state_of, state_of_all

FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".txt": "txt"}
KINDS = ("jsonl", *dict.fromkeys(FORMATS.values()))  # jsonl and json are read alike
STANDARD_INPUT = "-"
NOT_UTF_8 = "not in UTF-8"
Row = dict[str, Any] | str  # entries by name, or what is wrong with it


@dataclass
class Rows:
    """Rows that are being read.

    Args:
        rows: The rows.
        columns: Names that all of them have; None if every row has its own.
        size: Bytes of the input, None where that is not known.
        position: How many of them have been read.
    """

    rows: Iterator[Row]
    columns: list[str] | None = None
    size: int | None = None
    position: Callable[[], int] = lambda: 0


def kind_of(input: str, format: str | None, columns: list[str]) -> str:
    """How an input is to be read.

    Args:
        input: A file, a folder of `.txt` files, or `"-"`.
        format: One of `KINDS`; None: by the ending, and JSON lines from standard input.
        columns: What the task calls the entries of a row.

    Raises:
        InputError: If there is no such input, or it is in no format that the task reads.
    """
    if format is not None and format not in KINDS:
        raise InputError(f"the format of the input must be one of {', '.join(KINDS)}, got {format}")
    path = Path(input)
    if input == STANDARD_INPUT:
        kind = format or "json"
        if kind in ("parquet", "txt"):
            raise InputError(f"standard input is read as JSON lines, CSV or TSV, got {kind}: give a file")
    elif path.is_dir():
        if format not in (None, "txt"):
            raise InputError(f"a folder is read as .txt files, got the format {format}")
        kind = "txt"
        if not texts_of_folder(path):
            raise InputError(f"a folder must have .txt files in it, got none in {path}")
    else:
        kind = format or FORMATS.get(path.suffix.lower(), "")
        if not kind:
            raise InputError(f"input must end in {', '.join(FORMATS)}, or its format be given, got {input}")
        if not path.is_file():
            raise InputError(f"input must be a file, a folder of .txt files, or - for standard input, got {input}")
    if kind == "txt" and "text" not in columns:
        raise InputError(f"{' and '.join(columns)} are needed, got texts alone in {input}: give a table")
    return "json" if kind == "jsonl" else kind


def identity(input: str, evidence: str | None = None) -> dict[str, Any]:
    """What tells an input, with the documents that it names, from others, and from itself after a change."""
    if input == STANDARD_INPUT:
        return {"name": input}
    path = Path(input)
    files = texts_of_folder(path) if path.is_dir() else [path]
    state = state_of_all(path, evidence) if evidence is not None and is_nested(path) else state_of(files)
    return {"name": str(path.resolve()), "bytes": sum(file.stat().st_size for file in files), "changed": state}


def texts_of_folder(folder: Path) -> list[Path]:
    """The `.txt` files of a folder, by name; the ending may be in capitals."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".txt" and file.is_file())


@contextmanager
def open_rows(input: str, kind: str, evidence: str | None = None, as_they_stand: bool = False) -> Iterator[Rows]:
    """Opens an input; only lists and files of SQuAD and its like are read as a whole.

    Args:
        input: As for `kind_of`.
        kind: What that says.
        evidence: The folder with TriviaQA's documents.
        as_they_stand: Whether rows of HotpotQA are wanted with their paragraphs, not with one text of them.

    Raises:
        InputError: If it cannot be read; while rows are read, too.
    """
    path = Path(input)
    if kind == "txt":
        files = texts_of_folder(path) if path.is_dir() else [path]
        yield Rows(map(_of_text, files), ["id", "text"])
        return
    if kind == "parquet":
        with _open_parquet(path) as rows:
            yield rows
        return
    if kind == "json" and not as_they_stand and input != STANDARD_INPUT and path.stat().st_size and is_nested(path):
        yield Rows(questions_of(path, evidence), ["id", "question", "context"])
        return
    with ExitStack() as stack:
        if input == STANDARD_INPUT:
            stream: Any = sys.stdin
            stream.reconfigure(encoding="utf-8-sig", errors="surrogateescape", newline="")
            size, position = None, lambda: 0
        else:
            stream = stack.enter_context(open(input, encoding="utf-8-sig", errors="surrogateescape", newline=""))
            size, position = path.stat().st_size, lambda: stream.buffer.tell()
        if kind == "json":
            yield Rows(_of_json(stream), None, size, position)
        else:
            if input != STANDARD_INPUT:
                _check_quotes(path, kind)
            columns, lines = _of_csv(stream, kind, input)
            yield Rows(lines, columns, size, position)


def is_utf_8(row: Any) -> bool:
    """Whether the texts of a row were."""
    try:
        json.dumps(row, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_text(file: Path) -> Row:
    try:
        return {"id": file.name, "text": file.read_text(encoding="utf-8-sig")}
    except (OSError, UnicodeDecodeError) as error:
        return f"{file.name} cannot be read: {one_line(error)}"


@contextmanager
def _open_parquet(path: Path) -> Iterator[Rows]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            found = (row for batch in file.iter_batches(batch_size=64) for row in batch.to_pylist())
            yield Rows(found, file.schema_arrow.names)
    except ArrowException as error:
        raise InputError(f"{path} cannot be read: {one_line(error)}") from error


def _of_json(stream: TextIO) -> Iterator[Row]:
    """The objects of a list, or of lines."""
    first = stream.readline()
    if first.lstrip().startswith("["):
        rest = stream.read()
        try:
            yield from map(_object, load_object(first + rest))
            return
        except (ValueError, RecursionError):  # lines of which the first is a list, then
            lines = io.StringIO(first + rest, newline="")
    else:
        lines = itertools.chain([first] if first else [], stream)  # type: ignore[assignment]
    for line in filter(str.strip, lines):  # as for training, empty lines are none
        try:
            yield _object(load_object(line))
        except (ValueError, RecursionError) as error:
            yield NOT_UTF_8 if not is_utf_8(line) else f"not JSON: {one_line(error)}"


def _object(value: Any) -> Row:
    return value if isinstance(value, dict) else f"a JSON object is needed, got {type(value).__name__}"


def _of_csv(stream: TextIO, kind: str, name: str) -> tuple[list[str], Iterator[Row]]:
    header = stream.readline()
    rows = csv_rows(itertools.chain([header], stream), separator_of_header(header, f".{kind}"), name)
    _, columns = next(rows)

    def read() -> Iterator[Row]:
        for line, fields in rows:
            if len(fields) == len(columns):
                yield dict(zip(columns, fields, strict=True))
            else:
                yield wrong_number_of_fields(name, columns, fields, line)

    return columns, read()


def _check_quotes(path: Path, kind: str) -> None:
    """Refuses a table in which a quotation mark is left open, before anything is done: what follows it is not rows."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        _, rows = _of_csv(stream, kind, str(path))
        for _ in rows:
            pass
