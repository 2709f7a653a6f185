# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Questions with paragraphs, answers and supporting facts: HotpotQA's own files, JSON lines, tables of the Hub."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Sequence, Value

from hf_longformer.conversion.errors import InputError

from ..data import ROW, Table, TableArguments, check_file, read_table, read_tables, text_of
from ..json_rows import objects_of
from ..question_files import name_of_question, pairs_of, paragraphs_of, state_of, table_of

ENTRIES = ("question", "answer", "context", "supporting_facts")
TEXT, NUMBER = Value("string"), Value("int64")
FEATURES = Features(
    {
        "id": TEXT,
        "question": TEXT,
        "answer": TEXT,
        "titles": Sequence(TEXT),
        "sentences": Sequence(Sequence(TEXT)),  # of every paragraph
        "fact_titles": Sequence(TEXT),  # of the supporting facts, as they were given
        "fact_sentences": Sequence(NUMBER),
        ROW: NUMBER,
    }
)


def read_questions(
    arguments: TableArguments, local_files_only: bool = False, needs_train: bool = True
) -> dict[str, Table]:
    """The questions by split, a row each, with the columns of `FEATURES`.

    Args:
        arguments: Files or a data set.
        local_files_only: Whether to stay off the network.
        needs_train: Whether there is something to train on.

    Raises:
        InputError: If a file is missing or not in HotpotQA's form, or two questions have one `_id`.
    """
    tables = read_tables(arguments, local_files_only, needs_train, _read_file)
    found = {split: table if "titles" in table.rows.column_names else _of(table) for split, table in tables.items()}
    for table in found.values():
        _check_names(table)
    return found


def _read_file(file: str) -> Table:
    path = Path(file)
    if path.suffix.lower() not in (".json", ".jsonl"):
        return _of(read_table(file))
    check_file(path)
    return table_of(path.name, _of_file, {"file": file, "state": state_of([path])}, FEATURES)


def _of(table: Table) -> Table:
    """A table of the Hub, or of Parquet, in our form."""
    table.check_columns(ENTRIES)
    return table_of(table.name, _of_rows, {"rows": table.rows, "name": table.name}, FEATURES)


def _of_file(file: str, state: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(objects_of(Path(file)), 1):
        yield question_row(row, number, Path(file).name)


def _of_rows(rows: Dataset, name: str) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield question_row(row, row[ROW], name)


def question_row(row: dict[str, Any], number: int, name: str) -> dict[str, Any]:
    """A question as `FEATURES` has it.

    Args:
        row: With `_id` or `id`, `question`, `answer`, `context` and `supporting_facts`.
        number: Of the row.
        name: Of the file.

    Raises:
        InputError: If an entry is missing or of another kind.
    """
    try:
        if missing := [entry for entry in ENTRIES if row.get(entry) is None]:
            raise InputError(
                f"entries {', '.join(missing)} are needed to train and to measure, got none: questions alone are for "
                "`hf-longformer predict hotpotqa`"
            )
        paragraphs, facts = paragraphs_of(row["context"]), facts_of(row["supporting_facts"])
        answer = row["answer"]
        if not isinstance(answer, str) or not answer.strip():
            raise InputError(f"answer must be a text that is not empty, got {str(answer)[:60]!r}")
        return {
            "id": name_of_question(row.get("_id", row.get("id")), number),
            "question": text_of(row["question"]),
            "answer": answer,
            "titles": [title for title, _ in paragraphs],
            "sentences": [sentences for _, sentences in paragraphs],
            "fact_titles": [title for title, _ in facts],
            "fact_sentences": [sentence for _, sentence in facts],
            ROW: number,
        }
    except InputError as error:
        raise InputError(f"row {number} of {name} cannot be used: {error}") from error


def facts_of(facts: Any) -> list[tuple[str, int]]:
    """Supporting facts: the title of a paragraph and the number of a sentence in it, from 0.

    Args:
        facts: `[[title, number], …]`, as HotpotQA's own files have it, or `{"title": […], "sent_id": […]}`.

    Raises:
        InputError: If they are in neither form.
    """
    pairs = facts
    if isinstance(facts, dict):
        pairs = pairs_of(facts, "title", "sent_id")
    if isinstance(pairs, list) and all(map(_is_fact, pairs)):
        return [(title, number) for title, number in pairs]
    raise InputError(f"supporting_facts must be titles with numbers of sentences, got {str(facts)[:60]}")


def _is_fact(pair: Any) -> bool:
    is_pair = isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str)
    return is_pair and isinstance(pair[1], int) and not isinstance(pair[1], bool)


def supporting_sentences(row: dict[str, Any]) -> tuple[set[tuple[int, int]], int]:
    """The paragraph and the sentence of every supporting fact that there is, and how many facts name none.

    Args:
        row: As `FEATURES` has it. Of paragraphs with one title the first is meant that has such a sentence.
    """
    found, missing = set(), 0
    for title, sentence in set(zip(row["fact_titles"], row["fact_sentences"], strict=True)):
        places = [
            (paragraph, sentence)
            for paragraph, (name, sentences) in enumerate(zip(row["titles"], row["sentences"], strict=True))
            if name == title and 0 <= sentence < len(sentences)
        ]
        found |= set(places[:1])
        missing += not places
    return found, missing


def _check_names(table: Table) -> None:
    """Refuses an `_id` that two questions have: predictions are written by it."""
    first: dict[str, int] = {}
    for name, row in zip(table.rows["id"], table.rows[ROW], strict=True):
        if first.setdefault(name, row) != row:
            raise InputError(
                f"every question of {table.name} must have an _id of its own, got {name} for rows {first[name]} and "
                f"{row}"
            )
