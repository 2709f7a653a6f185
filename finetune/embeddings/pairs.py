# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Queries and their documents, read from tables by the names of columns: their order never matters."""

import re
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from transformers.utils import logging

from hf_longformer.conversion import InputError

from ..data import ROW, Table, read_table, texts_of

logger = logging.get_logger(__name__)
QUERY, DOCUMENT, NEGATIVE, TITLE = "anchor", "positive", "negative", "title"
# What columns hold, and the names that they are known by; `negative_1`, `negative_2` … are further negatives.
NAMES = {
    QUERY: ("anchor", "query", "question"),
    DOCUMENT: ("positive", "document", "passage", "answer", "text"),
    TITLE: ("title",),
}
NEGATIVES = re.compile(r"negative(_(\d+))?")
Row = dict[str, str]  # texts by role: `anchor`, `positive`, `negative_1` …, or `positive` and `title`


@dataclass
class Texts:
    """The rows of one or several files.

    Args:
        rows: Texts by role; a role that a row of unlabelled documents lacks is not there.
        has_queries: Whether they are pairs, and not documents alone.
        only_searched: Documents without a query, which queries are to be told from.
        skipped: How many rows were left out, since a text of theirs is empty.
    """

    rows: list[Row]
    has_queries: bool
    only_searched: list[str] = field(default_factory=list)
    skipped: int = 0

    @property
    def columns(self) -> list[str]:
        """The roles of every pair, in the order that losses want."""
        return [QUERY, DOCUMENT, *sorted(set(self.rows[0]) - {QUERY, DOCUMENT}, key=_number)]

    def dataset(self) -> Dataset:
        """The pairs as a table with the columns `anchor`, `positive`, `negative_1` and so on."""
        return Dataset.from_dict({name: [row[name] for row in self.rows] for name in self.columns})


def roles_of(columns: list[str], name: str) -> dict[str, str]:
    """Which column has which role.

    Args:
        columns: Their names.
        name: Of the file.

    Raises:
        InputError: If there is no document, or two columns have one role.
    """
    found: dict[str, str] = {}
    for role, known in NAMES.items():
        given = [column for column in columns if column in known]
        if len(given) > 1:
            raise InputError(f"{name} must have one column for every {role}, got {' and '.join(given)}: rename one")
        found |= dict.fromkeys([role], *given) if given else {}
    negatives = sorted((column for column in columns if NEGATIVES.fullmatch(column)), key=_number)
    if DOCUMENT not in found:
        raise InputError(
            f"{name} must have a column with documents, one of {', '.join(NAMES[DOCUMENT])}, got {', '.join(columns)}"
        )
    if negatives and QUERY not in found:
        raise InputError(f"{name} must have queries for its negatives, one of {', '.join(NAMES[QUERY])}, got none")
    found |= {f"{NEGATIVE}_{number}": column for number, column in enumerate(negatives, 1)}
    if QUERY in found:
        found.pop(TITLE, None)
    ignored = [column for column in columns if column not in found.values()]
    if ignored:
        logger.warning(f"not read of {name}, since their names mean nothing here: {', '.join(ignored)}")
    return found


def read_texts(files: list[str], training: bool) -> Texts:
    """The pairs, or the documents, of files in any format of `data.read_table`.

    Args:
        files: The files, all with the same columns of those that are read.
        training: Whether rows with an empty text are left out, and counted. Otherwise a document without a query is
            one that is only searched, and a query without a document is refused.

    Raises:
        InputError: If a file cannot be read, files have different columns, or nothing is left.
    """
    tables = [read_table(file) for file in files]
    roles = [_roles_of_table(table) for table in tables]
    for table, one in zip(tables, roles, strict=True):
        if one.keys() != roles[0].keys():
            raise InputError(
                f"all files must have the same columns, got {', '.join(roles[0])} in {tables[0].name} and "
                f"{', '.join(one)} in {table.name}"
            )
    texts = Texts([], QUERY in roles[0])
    for table, one in zip(tables, roles, strict=True):
        _add(texts, table, one, training)
    if not texts.rows:
        raise InputError(f"there must be rows with {' and '.join(roles[0])}, got none in {', '.join(files)}")
    if texts.skipped:
        logger.warning(f"skipped {texts.skipped} rows with an empty text")
    if texts.only_searched:
        logger.warning(f"{len(texts.only_searched)} documents have no query: they are only searched")
    return texts


def _roles_of_table(table: Table) -> dict[str, str]:
    columns = [name for name in dict.fromkeys([*table.rows.column_names, *table.mixed]) if name != ROW]
    roles = roles_of(columns, table.name)
    table.check_columns([], texts=roles.values())
    return roles


def _add(texts: Texts, table: Table, roles: dict[str, str], training: bool) -> None:
    read = table.rows.select_columns([*roles.values(), ROW])[:]
    columns = {role: texts_of(read, column, table.name) for role, column in roles.items()}
    for number, values in zip(read[ROW], zip(*columns.values(), strict=True), strict=True):
        row: Row = dict(zip(columns, values, strict=True))
        empty = [role for role, text in row.items() if not text.strip() and role != TITLE]
        if not empty:
            texts.rows.append(row)
        elif training or not texts.has_queries:
            texts.skipped += 1
        elif empty == [QUERY]:
            texts.only_searched.append(row[DOCUMENT])
        else:
            raise InputError(
                f"every query that is measured must have its document, got none in row {number} of {table.name}"
            )


def _number(name: str) -> int:
    """Of a column of negatives; -1 for those of one without a number."""
    match: Any = NEGATIVES.fullmatch(name)
    return -1 if match is None or match[2] is None else int(match[2])


def keys_of(rows: list[Row], columns: list[str]) -> list[list[int]]:
    """For every pair the numbers of its texts, equal where texts are, in the order of the columns."""
    numbers: dict[str, int] = {}
    return [[numbers.setdefault(row[name], len(numbers)) for name in columns] for row in rows]
