# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Questions with documents and answers: files of SQuAD, TriviaQA and HotpotQA, tables, data sets of the Hub."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from hf_longformer.conversion.errors import InputError

from ..data import ROW, SPLITS, Table, TableArguments, read_tables, texts_of
from ..question_files import is_nested, name_of_question, question_row, read_nested, table_of


def read_questions(
    arguments: TableArguments, evidence: str | None, local_files_only: bool = False, needs_train: bool = True
) -> dict[str, Table]:
    """The questions of a task by split, one row per question and document.

    Columns: `id`, `question`, `context`, `answers` (texts), `spans` (characters of the context, first and behind the
    last, where an answer stands), `row`.

    Args:
        arguments: Files or a data set.
        evidence: The folder with TriviaQA's documents.
        local_files_only: Whether to stay off the network.
        needs_train: Whether there is something to train on.

    Raises:
        InputError: If a file is missing or not in one of the formats, or two questions have one `id`.
    """
    files = {split: getattr(arguments, f"{split}_file") for split in SPLITS if needs_train or split != "train"}
    given = [Path(file) for file in files.values() if file is not None]
    has_train = files.get("train") is not None or not needs_train
    if arguments.dataset_name is None and has_train and given and all(map(is_nested, given)):
        found = {split: read_nested(Path(file), evidence) for split, file in files.items() if file is not None}
    else:
        tables = read_tables(arguments, local_files_only, needs_train)
        for table in tables.values():
            table.check_columns({"id"} & {*table.mixed}, texts=["question", "context", "answers"])
        found = {
            split: table_of(table.name, _of_table, {"rows": table.rows, "name": table.name})
            for split, table in tables.items()
        }
    for table in found.values():
        _check_names(table)
    return found


def _check_names(table: Table) -> None:
    """Refuses an `id` that two questions have: they would become one, with the answers of both."""
    asked: dict[str, tuple[str, int]] = {}
    for name, question, row in zip(*(table.rows[column] for column in ("id", "question", ROW)), strict=True):
        before, first = asked.setdefault(name, (question, row))
        if before != question:
            raise InputError(
                f"every question of {table.name} must have an id of its own, got {name} for rows {first} and {row}: "
                "only several documents of one question share it"
            )


def _of_table(rows: Dataset, name: str) -> Iterator[dict[str, Any]]:
    for row in rows:
        one = {column: [row[column]] for column in ("question", "context", ROW)}
        (question,), (context,) = (texts_of(one, column, name) for column in ("question", "context"))
        answers = row["answers"] or {"text": []}
        if not isinstance(answers, dict):
            answers = {"text": answers}
        texts, starts = answers.get("text"), answers.get("answer_start")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"row {row[ROW]} of {name} must have a text or a list of texts in answers, got {answers}")
        starts = [None if starts == [] else starts] * len(texts) if not starts or isinstance(starts, int) else starts
        if len(starts) != len(texts):
            raise InputError(f"row {row[ROW]} of {name} must have a place for every answer or for none, got {answers}")
        yield question_row(name_of_question(row.get("id"), row[ROW]), question, context, texts, starts, row[ROW])


def hold_out(table: Table, share: float, seed: int) -> tuple[Table, Table]:
    """Splits questions by their documents, so that no document stands on both sides.

    Args:
        table: The questions.
        share: Of the documents that is held out.
        seed: With one seed, the same ones.

    Raises:
        InputError: If there are not documents enough.
    """
    contexts = np.asarray([hashlib.sha256(text.encode()).hexdigest() for text in table.rows["context"]])
    names = np.unique(contexts)
    number = round(share * len(names))
    if not 0 < number < len(names):
        raise InputError(
            f"a share of {share} of the {len(names)} documents of {table.name} leaves nothing on one side: "
            "give --validation_file, or another share"
        )
    chosen = np.isin(contexts, np.random.default_rng(seed).permutation(names)[:number])
    sides = (np.flatnonzero(~chosen), np.flatnonzero(chosen))
    kept, held = (Table(table.rows.select(indices), table.name) for indices in sides)
    return kept, held


def gold_answers(table: Table) -> dict[str, list[str]]:
    """The gold answers by `id`: those of all documents of a question."""
    found: dict[str, list[str]] = {}
    for name, answers in zip(table.rows["id"], table.rows["answers"], strict=True):
        found[name] = list(dict.fromkeys([*found.get(name, []), *answers]))
    return found
