# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/data.py` and `finetune/windows.py`: tables read and refused, splits, leaks, and windows of tokens."""

import itertools
import json
import re
import socket
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import Dataset
from helpers import tiny_tokenizer
from hypothesis import given, settings, strategies as st
from sources import FAMILIES
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from hf_longformer.conversion import InputError
from hf_longformer.finetune.data import (
    ROW,
    Table,
    TableArguments,
    add_splits,
    deal,
    find_leaks,
    read_table,
    read_tables,
)
from hf_longformer.finetune.windows import check_length, encode

ROWS = [{"text": "one,\ttwo\n“three”", "label": "None"}, {"text": 'a "fox"', "label": "01"}, {"text": "", "label": ""}]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is warned of."""
    found: list[str] = []
    monkeypatch.setattr(logging.get_logger("hf_longformer.finetune.data"), "warning", found.append)
    return found


def write(file: Path, content: str | bytes) -> str:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


def write_table(file: Path, rows: list[dict[str, Any]]) -> str:
    """The rows in the format that the name of the file says."""
    if file.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(file)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows))
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        separator = "\t" if file.suffix == ".tsv" else ","
        lines = [list(rows[0]), *(['"' + str(one).replace('"', '""') + '"' for one in row.values()] for row in rows)]
        file.write_text("".join(separator.join(line) + "\n" for line in lines))
    return str(file)


def table(texts: list[Any], **columns: list[Any]) -> Table:
    rows = {"text": texts, ROW: list(range(1, len(texts) + 1)), **columns}
    return Table(Dataset.from_dict(rows), "train.csv")


# ---- reading ----


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_read_table(suffix: str, tmp_path: Path) -> None:
    """Separators, line breaks and quotation marks inside, and words that pandas takes for nothing."""
    found = read_table(write_table(tmp_path / f"train{suffix}", ROWS))
    assert found.name == f"train{suffix}"
    assert found.rows.to_list() == [{**row, ROW: number} for number, row in enumerate(ROWS, 1)]


def test_read_table_keeps_what_stands_in_a_csv(tmp_path: Path) -> None:
    """Zeros in front, a byte order mark, empty lines, and the nameless index column that pandas writes."""
    content = "\ufeff,text,label\n\n0,NA,007\n\n1,nan,1.50\n"
    rows = read_table(write(tmp_path / "train.csv", content)).rows
    assert rows["text"] == ["NA", "nan"]
    assert rows["label"] == ["007", "1.50"]
    assert rows[ROW] == [1, 2]


@pytest.mark.parametrize("name", ["a[1].csv", "a*.csv", "UPPER.CSV", "with space.csv"])
def test_read_table_by_awkward_names(name: str, tmp_path: Path) -> None:
    write(tmp_path / "ab.csv", "text\nwrong\n")
    assert read_table(write(tmp_path / name, "text\nright\n")).rows["text"] == ["right"]


def test_read_table_after_a_change(tmp_path: Path) -> None:
    """Nothing old comes out of a cache."""
    for text in ("a", "b"):
        assert read_table(write(tmp_path / "train.csv", f"text\n{text}\n")).rows["text"] == [text]


def test_read_table_long_document(tmp_path: Path) -> None:
    document = "word " * 60_000  # beyond the csv module's limit of 131,072 characters
    assert read_table(write_table(tmp_path / "train.csv", [{"text": document}])).rows["text"] == [document]


def test_read_table_replaces_a_column_row(tmp_path: Path) -> None:
    assert read_table(write(tmp_path / "train.csv", "row,text\n9,a\n")).rows[ROW] == [1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.txt", "text", "one of .csv, .tsv, .json, .jsonl, .parquet, got .*train.txt"),
        ("train.csv", "", "a file with something in it, got .*train.csv"),
        ("train.csv", "text,label\n", "rows below its header, got none in .*train.csv"),
        ("train.csv", "\n\n", "rows below its header, got none in .*train.csv"),
        ("train.csv", "text,label\na,b\nc,d,e\n", "every row of .*train.csv must have 2 fields.* got 3 in line 3"),
        ("train.csv", "text,label\na,b,c\nd,e,f\n", "2 fields.* got 3 in line 2"),  # all of them
        ("train.csv", 'text,label\n"a\nb",c\nd\n', "2 fields.* got 1 in line 4"),
        ("train.csv", 'text,label\na,"b\nc,d\n', "line 3 of .*train.csv cannot be read: unexpected end of data"),
        ("train.tsv", 'text\tlabel\n"So," he said\tb\n', "line 2 of .*train.tsv .* quotation marks inside them twice"),
        ("train.csv", "text,text\na,b\n", "different names, got text, text"),
        ("train.csv", "text\ncafé\n".encode("latin-1"), "train.csv must be in UTF-8, got .*: save it"),
        ("train.jsonl", '{"text": "a"}\n{"text": "b", "lab', "every line of .*train.jsonl .* line 2"),
        ("train.jsonl", '{"text": "a"}\n\n{"text" "b"}\n{"text": "c"}\n', "in line 3: Expecting ':' delimiter"),
        ("train.jsonl", '{"text": "a"}\n[1, 2]\n', r"a JSON object, got '\[1, 2\].*' in line 2"),
        ("train.jsonl", b'{"text": "caf\xe9"}\n', "train.jsonl must be in UTF-8, got .*: save it"),
        ("train.json", '[{"text": "a"}, {"text"', "train.json cannot be read"),
        ("train.parquet", "no table", "train.parquet cannot be read: Parquet magic bytes not found"),
    ],
)
def test_read_table_refuses(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    file = write(tmp_path / name, content)
    with pytest.raises(InputError, match=message):
        read_table(file)


def test_read_table_refuses_what_is_not_there(tmp_path: Path) -> None:
    for file in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(InputError, match=re.escape(f"got {file}")):
            read_table(str(file))


def test_read_tables(tmp_path: Path) -> None:
    names = {split: f"{split}{suffix}" for split, suffix in (("train", ".csv"), ("test", ".jsonl"))}
    files = {f"{split}_file": write_table(tmp_path / name, [{"text": split}]) for split, name in names.items()}
    found = read_tables(TableArguments(**files))
    assert {split: one.rows["text"] for split, one in found.items()} == {"train": ["train"], "test": ["test"]}
    with pytest.raises(InputError, match="give --train_file or --dataset_name, got neither"):
        read_tables(TableArguments(test_file=files["test_file"]))
    with pytest.raises(InputError, match="cannot both be given, got --test_file"):
        read_tables(TableArguments(dataset_name=str(tmp_path), test_file=files["test_file"]))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_read_tables_of_a_folder(suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "README.md").write_text("about it")
    for split in ("train", "validation", "test"):
        write_table(folder / f"{split}{suffix}", [{"text": split, "label": "None"}])
    found = read_tables(TableArguments(dataset_name=str(folder)))
    assert {split: one.name for split, one in found.items()} == {split: f"{split}{suffix}" for split in found}
    assert [one.rows[0] for one in found.values()] == [
        {"text": split, "label": "None", ROW: 1} for split in ("train", "validation", "test")
    ]


def test_read_tables_of_a_folder_with_other_names(tmp_path: Path) -> None:
    """As the library finds them: `dev` is for validation."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "dev"):
        write_table(folder / f"{split}.jsonl", [{"text": split}])
    found = read_tables(TableArguments(dataset_name=str(folder)))
    assert {split: one.rows["text"] for split, one in found.items()} == {"train": ["train"], "validation": ["dev"]}
    assert found["validation"].name == f"{folder} (validation)"
    (folder / "train.jsonl").rename(folder / "test.jsonl")
    with pytest.raises(InputError, match="must have a split train, got validation, test"):
        read_tables(TableArguments(dataset_name=str(folder)))


def test_read_tables_takes_no_folder_by_a_pattern(tmp_path: Path) -> None:
    for name in ("d[1]", "d1"):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "any.csv", [{"text": name}])
    with pytest.raises(InputError, match=r"a name without \*, \? and \[, which are patterns, got .*d\[1\]"):
        read_tables(TableArguments(dataset_name=str(tmp_path / "d[1]")))


def test_read_tables_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = datasets.config.HF_HUB_OFFLINE
    with pytest.raises(InputError, match="the data set nobody/nothing cannot be loaded: Couldn't reach"):
        read_tables(TableArguments(dataset_name="nobody/nothing"), local_files_only=True)
    assert before == datasets.config.HF_HUB_OFFLINE


def test_check_columns() -> None:
    table(["a"], label=["b"]).check_columns(["text", "label"])
    with pytest.raises(InputError, match=r"train\.csv must have a column words, got text, label: .*_column"):
        table(["a"], label=["b"]).check_columns(["text", "words"])


def test_without(warnings: list[str]) -> None:
    found = table(["a", "", " ", "b", None]).without(lambda row: not (row["text"] or "").strip(), "an empty text")
    assert found.rows[ROW] == [1, 4]
    assert warnings == ["skipped 3 of 5 rows for an empty text: rows 2, 3, 5 of train.csv"]
    many = table([""] * 9 + ["a"]).without(lambda row: not row["text"], "an empty text")
    assert many.rows[ROW] == [10]
    assert warnings[1].endswith("rows 1, 2, 3, 4, 5 and 4 more of train.csv")
    assert many.without(lambda row: False, "nothing") is many
    assert len(warnings) == 2


# ---- splits ----


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    st.lists(st.floats(0.01, 0.3), max_size=3),
    st.integers(0, 5),
    st.booleans(),
)
def test_deal_covers_every_row_once(labels: list[str], shares: list[float], seed: int, stratified: bool) -> None:
    rows, strata = table(labels), "text" if stratified else None
    parts = deal(rows, shares, seed, strata)
    assert sorted(index for part in parts for index in part) == list(range(len(labels)))
    for part, share in zip(parts, [1 - sum(shares), *shares], strict=True):
        assert abs(len(part) - share * len(labels)) <= len(shares)
    assert deal(rows, shares, seed, strata) == parts


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_deal_folds_evenly(folds: int) -> None:
    """Every fold has as many rows of every label, but for one."""
    labels = ["a"] * 50 + ["b"] * 22 + ["c"] * 7
    parts = deal(table(labels), [1 / folds] * (folds - 1), 0, "text")
    assert {len(part) for part in parts} <= {len(labels) // folds, -(-len(labels) // folds)}
    for label in "abc":
        counts = [sum(labels[index] == label for index in part) for part in parts]
        assert max(counts) - min(counts) <= 1


def test_deal_is_random_and_reproducible() -> None:
    rows = table(["a", "b"] * 50)
    one, other = (deal(rows, [0.2], seed, "text") for seed in (0, 1))
    assert one != other
    assert one[1] != sorted(range(0, 100, 5))
    # Exactly these, on every machine and with every version: what was published can be measured again.
    assert one[1] == [12, 14, 17, 19, 20, 24, 33, 51, 53, 57, 62, 63, 64, 73, 75, 78, 83, 86, 90, 98]


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 60), st.floats(0.2, 0.4), st.floats(0.2, 0.4), st.booleans())
def test_add_splits_puts_no_row_in_two(number: int, validation: float, test: float, stratified: bool) -> None:
    rows = table([f"text {index}" for index in range(number)], label=["ab"[index % 2] for index in range(number)])
    arguments = TableArguments(validation_share=validation, test_share=test)
    found = add_splits({"train": rows}, arguments, "label" if stratified else None)
    assert sorted(row for one in found.values() for row in one.rows[ROW]) == list(range(1, number + 1))
    assert set(found) == {"train", "validation", "test"}
    assert all(row["text"] == f"text {row[ROW] - 1}" for one in found.values() for row in one.rows)


def test_add_splits_keeps_what_is_there() -> None:
    tables = {"train": table(list("abcdefghij")), "test": table(["x"])}
    found = add_splits(tables, TableArguments(validation_share=0.2, test_share=0.5))
    assert found["test"] is tables["test"]
    assert (len(found["train"].rows), len(found["validation"].rows)) == (8, 2)
    assert add_splits(tables, TableArguments(), evaluate=False).keys() == {"train", "test"}


def test_add_splits_does_not_depend_on_the_other_share() -> None:
    """The test rows of a seed stay the same when validation is left out, in size at least."""
    tables = {"train": table([str(index) for index in range(100)])}
    for evaluate in (True, False):
        found = add_splits(tables, TableArguments(test_share=0.1), evaluate=evaluate)
        assert len(found["test"].rows) == 10


@pytest.mark.parametrize(
    "options",
    [
        {"validation_share": 1.0},
        {"validation_share": 0.6, "test_share": 0.4},
        {"test_share": -0.1},
        {"test_share": 0.001},
    ],
)
def test_add_splits_refuses(options: dict[str, float]) -> None:
    with pytest.raises(
        InputError, match=r"leave rows for every split, got --test_share .* --validation_share .* of 10"
    ):
        add_splits({"train": table(list("abcdefghij"))}, TableArguments(**options))


# ---- leaks ----


def test_find_leaks(warnings: list[str]) -> None:
    train = table(["A fox.", "a  FOX.\n", "a dog", "", "fox"], pair=["x", "x", "x", "x", "x"])
    test = table(["a fox.", "a cat", "A\tDOG", "dog"], pair=["X", "x", "y", "x"])
    assert find_leaks({"train": train, "test": test}, ["text"]) == {
        "repeated in train": {"rows": 1, "such as": [2]},
        "test also in train": {"rows": 2, "such as": [1, 3]},
    }
    assert len(warnings) == 2
    assert find_leaks({"train": train, "test": test}, ["text", "pair"])["test also in train"] == {
        "rows": 1,
        "such as": [1],
    }


def test_find_leaks_invents_none(warnings: list[str]) -> None:
    """Neither of texts that begin alike, nor of pairs that are alike when put together, nor of 0 and nothing."""
    train = table(["long " * 1000 + "a", "ab", "0", None], pair=["", "c", "", ""])
    test = table(["long " * 1000 + "b", "a", "00", "0 0"], pair=["", "bc", "", ""])
    assert find_leaks({"train": train, "test": test}, ["text", "pair"]) == {}
    assert not warnings


# ---- windows ----


def tokenizer_of(family: str, folder: Path) -> PreTrainedTokenizerBase:
    return FAMILIES[family][1](folder)


TEXTS = ["the quick brown fox jumps over the lazy dog " * 5, "long documents", "", "windows " * 33, "the " * 60]


@pytest.mark.parametrize("family", ["roberta", "bert", "xlm-roberta"])
@pytest.mark.parametrize(("length", "stride"), [(30, 0), (30, 7), (30, 27), (17, 8), (1000, 100)])
def test_encode_covers_every_token(family: str, length: int, stride: int, tmp_path: Path) -> None:
    """In order, with exactly `stride` tokens that neighbours share, and special tokens around every window."""
    tokenizer = tokenizer_of(family, tmp_path)
    found = encode(tokenizer, TEXTS, length=length, stride=stride)
    assert found["length"] == [len(ids) for ids in found["input_ids"]]
    assert sorted(set(found["text"])) == list(range(len(TEXTS)))
    for number, text in enumerate(TEXTS):
        whole = tokenizer(text, add_special_tokens=False)["input_ids"]
        windows = [ids for ids, index in zip(found["input_ids"], found["text"], strict=True) if index == number]
        first, last = tokenizer("")["input_ids"]
        assert all(ids[0] == first and ids[-1] == last and len(ids) <= length for ids in windows)
        assert all(len(ids) == length for ids in windows[:-1])
        inner = [ids[1:-1] for ids in windows]
        joined = inner[0]
        for one, other in itertools.pairwise(inner):
            assert one[len(one) - stride :] == other[:stride]
            assert len(other) > stride  # or it would bring nothing new
            joined = joined + other[stride:]
        assert joined == whole


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_encode_truncates(family: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(family, tmp_path)
    found = encode(tokenizer, TEXTS, length=20)
    assert found["text"] == list(range(len(TEXTS)))
    for ids, text in zip(found["input_ids"], TEXTS, strict=True):
        assert ids[1:-1] == tokenizer(text, add_special_tokens=False)["input_ids"][:18]


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_encode_cuts_only_the_second_of_a_pair(family: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(family, tmp_path)
    questions = ["the quick fox", "dog", "over"]
    found = encode(tokenizer, questions, [TEXTS[0], "", TEXTS[1]], length=40, stride=9)
    assert found["text"].count(0) >= 2
    assert found["text"].count(1) == 1
    second: dict[int, list[int]] = {}
    for ids, number in zip(found["input_ids"], found["text"], strict=True):
        head = tokenizer([questions[number]], [""])["input_ids"][0][:-1]
        assert ids[: len(head)] == head
        part = ids[len(head) : -1]
        second[number] = part if number not in second else second[number] + part[9:]
    for number, text in enumerate([TEXTS[0], "", TEXTS[1]]):
        assert second[number] == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_encode_cuts_the_second_of_a_pair_even_if_it_is_the_shorter_one() -> None:
    found = encode(tiny_tokenizer(), ["quick " * 12], ["the fox jumps over dog"], length=20, stride=2)
    assert found["input_ids"] == [[0, *[6] * 12, 2, 2, *part, 2] for part in ([5, 8, 9, 10], [9, 10, 12])]


def test_encode_gives_characters_of_the_last_text(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("bert", tmp_path)
    found = encode(tokenizer, ["fox"], ["the dog"], length=20, stride=2, offsets=True)
    assert found["offset_mapping"] == [[(-1, -1)] * 3 + [(0, 3), (4, 7), (-1, -1)]]


@pytest.mark.parametrize(
    ("stride", "pairs", "message"),
    [
        (-1, None, "--stride must be .* less than the 18 tokens .* window of 20 .* got -1"),
        (18, None, "--stride must be .* less than the 18 tokens .* got 18"),
        (
            14,
            ["the dog"],
            "--stride must be .* less than the 13 tokens .* got 14",
        ),  # four special tokens, and three of the first text
        (0, ["the dog", "fox"], "room for windows of the second within 20 tokens"),  # one first text fills the window
    ],
)
def test_encode_refuses(stride: int, pairs: list[str] | None, message: str) -> None:
    texts = ["the quick fox", "who " * 30][: len(pairs or [""])]
    with pytest.raises(InputError, match=message):
        encode(tiny_tokenizer(), texts, pairs, length=20, stride=stride)


def test_encode_needs_a_tokenizer_that_makes_windows() -> None:
    assert encode(ByT5Tokenizer(), ["abcdef"], length=4)["length"] == [4]
    with pytest.raises(InputError, match="windows need a tokenizer of the library tokenizers, got ByT5Tokenizer"):
        encode(ByT5Tokenizer(), ["abcdef"], length=4, stride=1)


def test_check_length() -> None:
    assert check_length(None, 260) == 260
    assert check_length(3, 260) == 3
    for asked in (2, 261, -5, 0):
        with pytest.raises(InputError, match=f"--max_seq_length must lie between 3 and the model's 260 .* got {asked}"):
            check_length(asked, 260)


def test_rows_of_the_tests_are_rows_of_their_files(tmp_path: Path) -> None:
    """Numbers stay with their rows through skipping and splitting."""
    rows = [{"text": "" if number % 4 == 0 else f"text {number}"} for number in range(1, 41)]
    read = read_table(write_table(tmp_path / "train.jsonl", rows)).without(lambda row: not row["text"], "no text")
    found = add_splits({"train": read}, TableArguments(test_share=0.3))
    assert {split: len(one.rows) for split, one in found.items()} == {"train": 18, "test": 9, "validation": 3}
    for one in found.values():
        assert one.rows["text"] == [f"text {number}" for number in one.rows[ROW]]
    assert np.unique([row for one in found.values() for row in one.rows[ROW]]).size == 30
