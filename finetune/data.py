# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables of examples: read from files or from the Hub, checked row by row, split, and searched for leaks."""

import csv
import glob
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value, config, load_dataset
from transformers.utils import logging

from hf_longformer.conversion.errors import InputError, one_line

from .json_rows import ROW, read_json_rows

logger = logging.get_logger(__name__)
PARAGRAPHS_ARE_JOINED_BY = "\n\n"
SEPARATORS = {".csv": (",", ";", "\t"), ".tsv": ("\t",)}
READERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
SPLITS = ("train", "validation", "test")
NAMED = 5  # rows that a message names
LARGEST_FIELD = 2**31 - 1  # characters; the csv module's own limit is far below a long document


@dataclass
class TableArguments:
    """Where examples come from."""

    train_file: str | None = field(
        default=None,
        metadata={
            "help": "CSV (with commas or semicolons), TSV, JSON lines or Parquet. A document is a text, or a list of "
            "paragraphs, which are joined with an empty line between them."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "The same, to choose the best model by."})
    test_file: str | None = field(default=None, metadata={"help": "The same, measured once, at the end."})
    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the Hub, or a folder of files."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    validation_share: float = field(
        default=0.1, metadata={"help": "Share of the training rows to validate on, if there are no others."}
    )
    test_share: float = field(default=0.0, metadata={"help": "The same for the test."})
    split_seed: int = field(default=0, metadata={"help": "Of these shares, whatever the seed of the training."})
    max_seq_length: int | None = field(
        default=None, metadata={"help": "Tokens at once, special ones included; the model's limit if left out."}
    )
    preprocessing_num_workers: int | None = field(default=None, metadata={"help": "Processes that tokenise."})


@dataclass
class Table:
    """Rows, and the name of the file that they come from; every row has its number there in the column `row`.

    Args:
        rows: The rows.
        name: Of the file.
        mixed: What is said of columns whose values are of several kinds, or cannot be trusted; if they are in `rows` at
            all, they hold lists of texts where the file has texts or lists of texts.
    """

    rows: Dataset
    name: str
    mixed: dict[str, str] = field(default_factory=dict)

    def where(self, numbers: Iterable[int]) -> str:
        """A few rows by their numbers, as "rows 3, 5 and 7 more of train.csv"."""
        numbers = list(numbers)
        more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
        return f"row{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:NAMED]))}{more} of {self.name}"

    def check_columns(self, names: Iterable[str], texts: Iterable[str] = ()) -> None:
        """Refuses a table that lacks a column, or has values of several kinds in it.

        Args:
            names: Of the columns.
            texts: Of further ones, that may hold texts in some rows and lists of texts in others.

        Raises:
            InputError: If it does.
        """
        texts = list(texts)
        for name in (*texts, *names):
            if name in self.mixed and not (name in texts and name in self.rows.column_names):
                raise InputError(self.mixed[name])
            if name not in self.rows.column_names:
                present = ", ".join(column for column in self.rows.column_names if column != ROW)
                raise InputError(
                    f"{self.name} must have a column {name}, got {present}: the options whose names end in _column "
                    "give it another name"
                )

    def without(self, bad: Callable[[dict[str, Any]], bool], why: str) -> "Table":
        """The table without bad rows, after a warning that counts and names them.

        Args:
            bad: Whether a row is bad.
            why: What is said of them, as "an empty text".

        Raises:
            InputError: If `bad` raises it; the row is named.
        """
        flags = []
        for row in self.rows:
            try:
                flags.append(bad(row))
            except InputError as error:
                raise InputError(f"{self.where([row[ROW]])} cannot be used: {error}") from error
        if not any(flags):
            return self
        numbers = [number for number, flag in zip(self.rows[ROW], flags, strict=True) if flag]
        logger.warning(f"skipped {len(numbers)} of {len(flags)} rows for {why}: {self.where(numbers)}")
        return Table(self.rows.select([index for index, flag in enumerate(flags) if not flag]), self.name)


def read_tables(
    arguments: TableArguments,
    local_files_only: bool = False,
    needs_train: bool = True,
    read: Callable[[str], Table] | None = None,
) -> dict[str, Table]:
    """The tables of a task by split; `train` is always there, if it is needed.

    Args:
        arguments: Where they are.
        local_files_only: Whether to stay off the network.
        needs_train: Whether there is training.
        read: What makes a table of a file; `read_table` if left out.

    Raises:
        InputError: If a file is missing, empty or not what its name says, or nothing to train on is given.
    """
    files = {split: getattr(arguments, f"{split}_file") for split in SPLITS}
    if arguments.dataset_name is not None:
        given = [f"--{split}_file {file}" for split, file in files.items() if file is not None]
        if given:
            raise InputError(f"--dataset_name and files cannot both be given, got {' and '.join(given)}")
        files = _files_of_folder(Path(arguments.dataset_name)) if arguments.dataset_config_name is None else {}
        if not files:
            return _from_hub(arguments, local_files_only, needs_train)
    if not needs_train and not any(files[split] for split in SPLITS[1:]):
        raise InputError("something to measure on is needed: give --validation_file or --test_file, got neither")
    if files["train"] is None and needs_train:
        raise InputError("something to train on is needed: give --train_file or --dataset_name, got neither")
    wanted = [split for split in SPLITS if files[split] is not None and (needs_train or split != "train")]
    return {split: (read or read_table)(str(files[split])) for split in wanted}


def read_table(file: str) -> Table:
    """A table from a CSV, TSV, JSON lines or Parquet file.

    What stands in CSV and TSV is text, as it stands there: no number loses a zero, and "None" is not nothing.

    Raises:
        InputError: If it is missing, empty or not what its name says; with the line, if that is known.
    """
    path = Path(file)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise InputError(f"a table must be one of {', '.join(READERS)}, got {file}")
    check_file(path)
    if READERS[suffix] != "parquet":
        check_encoding(path)
    if READERS[suffix] == "json":
        rows, mixed = read_json_rows(path)
        return _numbered(rows, path.name, mixed)
    options: dict[str, Any] = {}
    if READERS[suffix] == "csv":
        separator = separator_of(path)
        columns = {name: Value("large_string") for name in _columns_of_csv(path, separator)}
        options = {"sep": separator, "features": Features(columns), "keep_default_na": False}
    try:
        rows = load_dataset(READERS[suffix], data_files=glob.escape(file), split="train", **options)
    except Exception as error:  # whatever the readers underneath raise
        cause = error.__cause__ or error
        raise InputError(f"{file} cannot be read: {one_line(cause)}") from error
    return _numbered(rows, path.name)


def check_file(path: Path) -> None:
    """Refuses a table that is no file, or an empty one.

    Raises:
        InputError: If it is.
    """
    if not path.is_file() or not path.stat().st_size:
        raise InputError(f"a table must be a file with something in it, got {path}")


def check_encoding(path: Path) -> None:
    """Refuses a file that is not in UTF-8.

    Raises:
        InputError: If it is not.
    """
    with path.open(encoding="utf-8") as stream:
        try:
            while stream.read(1 << 20):
                pass
        except UnicodeDecodeError as error:
            raise InputError(f"{path} must be in UTF-8, got {error}: save it in that encoding") from error


def separator_of(path: Path) -> str:
    """What stands between the fields of a table: of a comma, a semicolon and a tab, what makes most of the header."""
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
        return separator_of_header(stream.readline(), path.suffix.lower())


def separator_of_header(header: str, suffix: str) -> str:
    """The same, of the first line of a file with this ending."""
    candidates = SEPARATORS.get(suffix, SEPARATORS[".csv"])
    return max(candidates, key=lambda separator: len(next(csv.reader([header], delimiter=separator), [])))


def csv_rows(lines: Iterable[str], separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table with the number of their last line, without empty ones; the first has the names of columns.

    Raises:
        InputError: If quotation marks do not match, or names of columns are not different.
    """
    csv.field_size_limit(LARGEST_FIELD)
    rows = csv.reader(lines, delimiter=separator, strict=True)
    filled = filter(None, rows)
    try:
        columns = [column or f"Unnamed: {index}" for index, column in enumerate(next(filled, []))]  # pandas' name
        if len(set(columns)) < len(columns):
            raise InputError(f"the columns of {name} must have different names, got {', '.join(columns)}")
        yield rows.line_num, columns
        for fields in filled:
            yield rows.line_num, fields
    except csv.Error as error:
        raise InputError(
            f"line {rows.line_num} of {name} cannot be read: {error}: fields with separators, quotation marks or "
            "line breaks must stand in quotation marks, and quotation marks inside them twice"
        ) from error


def _columns_of_csv(path: Path, separator: str) -> list[str]:
    """The names of the columns, after a look at every row: pandas, which reads the file later, would fill a short row
    up, and take the first field for an index where all rows have one too many.
    """
    empty = True
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv_rows(stream, separator, str(path))
        _, columns = next(rows)
        for line, fields in rows:
            empty = False
            if len(fields) != len(columns):
                raise InputError(wrong_number_of_fields(str(path), columns, fields, line))
    if empty:
        raise InputError(f"a table must have rows below its header, got none in {path}")
    return columns


def wrong_number_of_fields(name: str, columns: list[str], fields: list[str], line: int) -> str:
    """The sentence for a row of a table with fields too few or too many."""
    return (
        f"every row of {name} must have {len(columns)} fields, as many as its header, got {len(fields)} in line "
        f"{line}: fields with separators, quotation marks or line breaks must stand in quotation marks"
    )


def _files_of_folder(folder: Path) -> dict[str, str | None]:
    """The files of the splits, if nothing but they are tables in a local folder."""
    files = [file for file in folder.glob("*") if file.suffix.lower() in READERS]
    names = sorted(file.stem for file in files)
    if "train" not in names or not set(names) <= set(SPLITS) or len(set(names)) < len(names):
        return {}
    return dict.fromkeys(SPLITS) | {file.stem: str(file) for file in files}


def _from_hub(arguments: TableArguments, local_files_only: bool, needs_train: bool) -> dict[str, Table]:
    name = str(arguments.dataset_name)
    if Path(name).is_dir() and glob.escape(name) != name:
        raise InputError(f"a folder of files must have a name without *, ? and [, which are patterns, got {name}")
    offline = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = offline or local_files_only  # no argument of `load_dataset` keeps it off the network
    try:
        loaded = load_dataset(name, arguments.dataset_config_name)
    except Exception as error:  # network, names, formats: what the libraries say is the best there is
        raise InputError(f"the data set {name} cannot be loaded: {one_line(error)}") from error
    finally:
        config.HF_HUB_OFFLINE = offline
    wanted = [split for split in SPLITS if needs_train or split != "train"]
    if (needs_train and "train" not in loaded) or not any(split in loaded for split in wanted):
        raise InputError(f"the data set {name} must have a split {wanted[0]}, got {', '.join(map(str, loaded))}")
    return {split: _numbered(loaded[split], f"{name} ({split})") for split in wanted if split in loaded}


def _numbered(rows: Dataset, name: str, mixed: dict[str, str] | None = None) -> Table:
    if not len(rows):
        raise InputError(f"a table must have rows, got none in {name}")
    if mixed is None:
        mixed = {column: why for column in rows.column_names if (why := _doubt(rows, column, name))}
        rows = rows.remove_columns([*mixed, *({ROW} & {*rows.column_names} - {*mixed})])
        rows = rows.add_column(ROW, list(range(1, len(rows) + 1)))
    return Table(rows, name, mixed)


def _doubt(rows: Dataset, column: str, name: str) -> str:
    """What is said of a column of a data set that may not hold what its files do: readers take texts that look like
    dates for dates, and texts that look like numbers for numbers where a number stands among them.
    """
    kind = rows.features[column]
    element = getattr(kind, "feature", kind)
    is_json = type(kind).__name__ == "Json" and not all(
        isinstance(one, dict | list | type(None)) for one in rows[column]
    )
    if is_json or str(getattr(element, "dtype", "")).startswith(("timestamp", "date", "time")):
        return f"the column {column} of {name} must hold texts, or numbers, in all rows alike, got {kind}"
    return ""


def add_splits(
    tables: dict[str, Table], arguments: TableArguments, strata: str | None = None, evaluate: bool = True
) -> dict[str, Table]:
    """Takes the test and validation rows out of the training rows where there are no others.

    Args:
        tables: As `read_tables` gives them.
        arguments: The shares and their seed.
        strata: A column whose values are spread evenly over the splits.
        evaluate: Whether rows to validate on are wanted.

    Raises:
        InputError: If the shares leave nothing to train on.
    """
    if "train" not in tables:
        return tables
    wanted = {"test": arguments.test_share, "validation": arguments.validation_share if evaluate else 0.0}
    shares = {split: share for split, share in wanted.items() if share > 0 and split not in tables}
    train = tables["train"]
    parts = deal(train, list(shares.values()), arguments.split_seed, strata)
    if any(share < 0 for share in wanted.values()) or sum(shares.values()) >= 1 or not all(map(len, parts)):
        text = " and ".join(f"--{split}_share {share}" for split, share in wanted.items())
        raise InputError(f"shares must leave rows for every split, got {text} of {len(train.rows)} rows")
    new = {split: Table(train.rows.select(part), train.name) for split, part in zip(shares, parts[1:], strict=True)}
    return {**tables, "train": Table(train.rows.select(parts[0]), train.name), **new}


def deal(table: Table, shares: list[float], seed: int, strata: str | None = None) -> list[list[int]]:
    """Row indices of the rest, then of every share; at random, but in equal shares of every stratum.

    Args:
        table: The rows.
        shares: Each below 1.
        seed: With one seed, rows are dealt in one way.
        strata: The column whose values are spread evenly.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(table.rows))
    if strata is not None:  # sorted by stratum, random inside: neighbours go to different shares
        values = np.asarray([str(value) for value in table.rows[strata]])
        order = order[np.argsort(values[order], kind="stable")]
    # Every row in turn goes to the part that is farthest behind what it should have.
    wanted = np.asarray([1 - sum(shares), *shares])
    parts: list[list[int]] = [[] for _ in wanted]
    for count, index in enumerate(order, 1):
        behind = wanted * count - [len(part) for part in parts]
        parts[int(behind.argmax())].append(int(index))
    return [sorted(part) for part in parts]


def find_leaks(tables: dict[str, Table], columns: list[str]) -> dict[str, Any]:
    """Texts that stand in a split more than once, or in two splits: equal but for letter case and white space.

    Args:
        tables: By split.
        columns: What a text is made of.

    Returns:
        How many rows repeat another one of their split, and for two splits how many rows of the second stand in the
        first; each with the numbers of a few.
    """
    first: dict[str, dict[bytes, int]] = {}
    found: dict[str, Any] = {}
    for split, table in tables.items():
        keys = [_fingerprint([row[name] for name in columns]) for row in table.rows.select_columns(columns)]
        numbers = table.rows[ROW]
        seen: dict[bytes, int] = {}
        repeated = [number for key, number in zip(keys, numbers, strict=True) if seen.setdefault(key, number) != number]
        if repeated:
            found[f"repeated in {split}"] = {"rows": len(repeated), "such as": repeated[:NAMED]}
        for other, others in first.items():
            shared = [number for key, number in zip(keys, numbers, strict=True) if key in others]
            if shared:
                found[f"{split} also in {other}"] = {"rows": len(shared), "such as": shared[:NAMED]}
        first[split] = seen
    for what, rows in found.items():
        logger.warning(f"the same text more than once: {rows['rows']} rows {what}, such as {rows['such as']}")
    return found


def is_nothing(value: Any) -> bool:
    """Whether an entry of a row is left empty: None, or what tables have in its place, which is not even itself."""
    return value is None or value != value


def text_of(value: Any) -> str:
    """What stands in a cell, as text: a list of paragraphs with an empty line between them; empty where nothing does.

    Raises:
        InputError: If it is anything else: a number, a truth value, an object, or a list of other things than texts.
    """
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
        return PARAGRAPHS_ARE_JOINED_BY.join(value)
    if isinstance(value, (list, tuple)):
        other = next(one for one in value if not isinstance(one, str))
        raise InputError(f"a text, or a list of texts, is needed, got a list with {type(other).__name__} in it")
    raise InputError(f"a text, or a list of texts, is needed, got {type(value).__name__} {str(value)[:60]}")


def texts_of(rows: dict[str, list[Any]], column: str, name: str) -> list[str]:
    """A column of some rows as texts, as `text_of` has it.

    Args:
        rows: Columns, with `row` among them.
        column: Which.
        name: Of the file.

    Raises:
        InputError: If one is no text; the row is named.
    """
    texts = []
    for value, number in zip(rows[column], rows[ROW], strict=True):
        try:
            texts.append(text_of(value))
        except InputError as error:
            raise InputError(f"row {number} of {name} cannot be used: {column}: {error}") from error
    return texts


def _fingerprint(texts: list[Any]) -> bytes:
    joined = "\0".join(" ".join(text_of(text).lower().split()) for text in texts)
    return hashlib.sha256(joined.encode()).digest()
