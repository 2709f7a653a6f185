# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents with clusters: CoNLL-2012's files, LitBank's form of them, and tables of words and clusters."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Sequence, Value

from hf_longformer.conversion import InputError

from ..data import READERS, ROW, Table, check_encoding, read_table

NAME, TOKENS, CLUSTERS = "name", "tokens", "clusters"  # columns of what `read_documents` makes
FEATURES = Features(
    {
        NAME: Value("string"),
        TOKENS: Sequence(Value("string")),
        CLUSTERS: Sequence(Sequence(Sequence(Value("int64"), 2))),  # first and last word of mentions
        ROW: Value("int64"),
    }
)
BEGIN, END = "#begin document", "#end document"
RULE = f"begin documents with {BEGIN} and end them with {END}"
WORD_COLUMN, LEAST = 3, 12  # of CoNLL-2012: document, part, number of the word, word; and how many there are


def read_documents(file: str) -> Table:
    """Documents with their clusters, as they stand in a file: `checked` makes sure of them.

    Args:
        file: A file of CoNLL-2012 or LitBank (any ending but those of tables) or a folder of such files, which may lie
            in folders; or a table with lists of words in `tokens`, or lists of those in `sentences`, and `clusters`.

    Raises:
        InputError: If it is missing, empty, or not what it seems.
    """
    path = Path(file)
    if path.suffix.lower() in READERS:
        return read_table(file)
    if not path.exists():
        raise InputError(f"documents must be a file or a folder, got {file}, which does not exist")
    files = sorted(one for one in path.rglob("*conll*") if one.is_file()) if path.is_dir() else [path]
    rows = [row for one in files for row in _of_conll(one)]
    if not rows:
        raise InputError(
            f"{file} must hold documents in CoNLL-2012's form, in files with conll in their names, got none"
        )
    numbered = [{**row, ROW: number} for number, row in enumerate(rows, 1)]
    return Table(Dataset.from_list(numbered, features=FEATURES), path.name)


def checked(table: Table) -> Table:
    """Documents of any source in one form.

    Raises:
        InputError: If a row has no words, or clusters that are none.
    """
    sentences = TOKENS not in table.rows.column_names and "sentences" in table.rows.column_names
    table.check_columns(["sentences" if sentences else TOKENS, CLUSTERS])
    rows = []
    for row in table.rows:
        name = row.get("doc_key") or row.get(NAME) or row.get("id")
        where = table.where([row[ROW]]) + (f" ({name})" if name else "")
        words = row["sentences" if sentences else TOKENS]
        if sentences and isinstance(words, list):
            words = [word for one in words for word in (one if isinstance(one, list) else [one])]
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise InputError(
                f"{where} must have a list of words in tokens, or lists of them in sentences, got {words!r:.60}"
            )
        check_clusters(row[CLUSTERS] or [], len(words), where)
        rows.append({NAME: str(name or row[ROW]), TOKENS: words, CLUSTERS: row[CLUSTERS] or [], ROW: row[ROW]})
    return Table(Dataset.from_list(rows, features=FEATURES), table.name)


def check_clusters(clusters: Any, words: int, where: str) -> None:
    """Refuses what is not clusters of mentions, each its first and its last word.

    Raises:
        InputError: If they are something else, lie outside the document, or share a mention.
    """
    seen: set[tuple[int, int]] = set()
    for cluster in clusters if isinstance(clusters, list) else [None]:
        if not isinstance(cluster, list) or not cluster:
            raise InputError(f"{where} must have lists of mentions as clusters, got {cluster!r:.60}")
        for mention in cluster:
            if not isinstance(mention, list) or len(mention) != 2 or not all(type(one) is int for one in mention):
                raise InputError(f"{where} must have the first and the last word of every mention, got {mention!r:.60}")
            first, last = mention
            if not 0 <= first <= last < words:
                raise InputError(
                    f"{where} must have mentions within its {words} words, the last word included, got {mention}"
                )
            if (first, last) in seen:
                raise InputError(f"{where} must have every mention once, got {mention} twice")
            seen.add((first, last))


def _of_conll(path: Path) -> Iterator[dict[str, Any]]:
    """The documents of a file; each part of one is a document, as it is scored."""
    check_encoding(path)
    name: str | None = None
    lines: list[tuple[int, str]] = []
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.startswith(END) and name is not None:
                yield _document(name, lines, path)
                name, lines = None, []
            elif line.startswith((BEGIN, END)):
                if name is not None or lines or line.startswith(END):
                    raise InputError(f"{path} must {RULE}, got line {number} in another place")
                name = line[len(BEGIN) :].strip()
            elif line.strip() and not line.startswith("#"):
                lines.append((number, line))
    if name is not None or lines:
        raise InputError(f"{path} must {RULE}, got an end without: is the file whole?")


def _document(name: str, lines: list[tuple[int, str]], path: Path) -> dict[str, Any]:
    words: list[str] = []
    clusters: dict[str, list[list[int]]] = defaultdict(list)
    open_at: dict[str, list[int]] = defaultdict(list)
    for number, line in lines:
        # LitBank separates by tabs, and has nothing in the last field of words outside of mentions.
        fields = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
        if len(fields) < LEAST:
            raise InputError(
                f"line {number} of {path} must have the fields of CoNLL-2012, {LEAST} or more, got {len(fields)}"
            )
        for part in filter(None, fields[-1].strip().split("|")):
            if part in ("-", "_"):
                continue
            cluster = part.strip("()")
            if not cluster or part not in (f"({cluster}", f"{cluster})", f"({cluster})"):
                raise InputError(
                    f"line {number} of {path} must have clusters such as (3, 3) or (3) in its last field, got {part}"
                )
            if part.startswith("("):
                open_at[cluster].append(len(words))
            if part.endswith(")"):
                if not open_at[cluster]:
                    raise InputError(f"line {number} of {path} closes a mention of {cluster} that was not opened")
                clusters[cluster].append([open_at[cluster].pop(), len(words)])
        words.append(fields[WORD_COLUMN])
    if left := [cluster for cluster, places in open_at.items() if places]:
        raise InputError(f"{name} in {path} must close all mentions, got open ones of {', '.join(left[:5])}")
    return {NAME: name, TOKENS: words, CLUSTERS: [sorted(mentions) for mentions in clusters.values()]}
