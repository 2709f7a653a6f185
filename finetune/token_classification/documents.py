# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents with a word and its tags per line, as CoNLL-2003 and LitBank have them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_longformer.conversion import InputError

from ..data import READERS, ROW, Table, check_encoding, read_table
from .words import OUTSIDE, TAGS, TOKENS

BOUNDARY = "-DOCSTART-"  # of documents, as in CoNLL-2003


def read_tagged(file: str) -> Table:
    """A table, or documents in columns: a word per line, and behind it its tags, one per layer, between tabs or spaces.

    Args:
        file: A table; or, with another ending, a document in columns; or a folder of those. A line that begins with
            -DOCSTART- begins another document, an empty one ends a sentence, which is not kept.

    Returns:
        Of documents in columns a table with `tokens` and, as there are columns, `tags_1`, `tags_2`, …. What a document
        lacks of them is `O`.

    Raises:
        InputError: If it is missing or empty, or a line has other columns than those before.
    """
    path = Path(file)
    if path.suffix.lower() in READERS and not path.is_dir():
        return read_table(file)
    if not path.exists():
        raise InputError(f"documents must be a table, a file in columns or a folder of those, got no such file: {file}")
    files = (
        sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
        if path.is_dir()
        else [path]
    )
    documents = [document for one in files for document in _in_columns(one)]
    layers = max((len(document) - 1 for document in documents), default=0)
    if not layers:
        raise InputError(f"{file} must hold documents with a word and its tags per line, got none")
    names = [TOKENS, *(f"{TAGS}_{layer}" for layer in range(1, layers + 1))]
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for document in documents:
        outside = [OUTSIDE] * len(document[0])
        for name, column in zip(names, [*document, *[outside] * (len(names) - len(document))], strict=True):
            rows[name].append(column)
    return Table(Dataset.from_dict({**rows, ROW: list(range(1, len(documents) + 1))}), path.name)


def _in_columns(path: Path) -> Iterator[list[list[str]]]:
    """The documents of a file, each as its columns."""
    check_encoding(path)
    lines: list[list[str]] = []
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            # LitBank ends its lines with a tab.
            fields = line.rstrip("\r\n").rstrip("\t").split("\t") if "\t" in line else line.split()
            if line.startswith(BOUNDARY):
                if lines:
                    yield [list(column) for column in zip(*lines, strict=True)]
                lines = []
            elif line.strip():
                if len(fields) < 2 or (lines and len(fields) != len(lines[0])) or not all(fields):
                    as_before = f"{len(lines[0])} fields, as the lines before" if lines else "a word and its tags"
                    raise InputError(f"line {number} of {path} must have {as_before}, got {line.strip()[:60]!r}")
                lines.append(fields)
    if lines:
        yield [list(column) for column in zip(*lines, strict=True)]
