# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Every column that is to hold a text: a text, a list of paragraphs, nothing, or refused by its row; never trained on
as the Python representation of something else.
"""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset
from helpers import tiny_tokenizer
from sources import make_source

from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune import run_classification, run_multiple_choice, run_qa, run_token_classification
from hf_longformer.finetune.classification.windows import make_windows
from hf_longformer.finetune.data import ROW, Table, TableArguments, read_table, text_of
from hf_longformer.finetune.mlm.documents import load_documents
from hf_longformer.finetune.qa.data import gold_answers, read_questions
from hf_longformer.finetune.question_files import read_nested
from hf_longformer.finetune.rows import identity

NO_TEXTS = (3, 2.5, True, {"a": "b"}, [["a"]], [3, 4], [{"a": "b"}])
NOTHING = (None, float("nan"), [], "")
CHOICE = {"candidates": ["a", "b"], "supports": ["c"], "answer": "a"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder for 130 tokens."""
    folder = tmp_path_factory.mktemp("model")
    make_source(folder / "source", "bert")
    convert(folder / "source", folder / "model", max_length=130, attention_window=16, check=False)
    return folder / "model"


def parquet(file: Path, rows: list[dict[str, Any]]) -> str:
    Dataset.from_list(rows).to_parquet(file)
    return str(file)


def words(model: Path, folder: Path, file: str) -> list[str]:
    given = {"model_name_or_path": model, "train_file": file, "output_dir": folder / "run", "report_to": "none"}
    given |= {"max_steps": 1, "validation_share": 0, "eval_strategy": "no", "bf16": False, "disable_tqdm": True}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def test_text_of() -> None:
    assert [text_of(value) for value in NOTHING] == [""] * len(NOTHING)
    assert text_of(["one", "two"]) == text_of(("one", "two")) == "one\n\ntwo"
    for value in (*NO_TEXTS, ["a", None], b"a"):
        with pytest.raises(InputError, match="a text, or a list of texts, is needed, got"):
            text_of(value)


@pytest.mark.parametrize("value", NO_TEXTS)
@pytest.mark.parametrize("column", ["text", "other"])
def test_classification_refuses(column: str, value: Any, model: Path, tmp_path: Path) -> None:
    rows = [{"text": "a", "other": "b", "label": "x"}, {"text": "c", "other": "d", "label": "y"}]
    file = parquet(tmp_path / "train.parquet", [{**row, column: value} for row in rows])
    with pytest.raises(InputError, match=r"row 1 of train.parquet cannot be used: .*, got"):
        run_classification.main([*words(model, tmp_path, file), "--text_pair_column", "other"])


@pytest.mark.parametrize("label", [{"a": "b"}, [["a"]]])
def test_labels_are_refused(label: Any, model: Path, tmp_path: Path) -> None:
    file = parquet(tmp_path / "train.parquet", [{"text": "a", "label": label}, {"text": "b", "label": label}])
    with pytest.raises(InputError, match=r"row 1 of train.parquet must have a label or a list of labels in label"):
        run_classification.main(words(model, tmp_path, file))


def test_classification_joins_paragraphs() -> None:
    rows = {ROW: [1, 2, 3]}
    parts = Table(Dataset.from_dict({"text": [["the quick", "fox"], [], ["dog"]], **rows}), "a")
    texts = Table(Dataset.from_dict({"text": ["the quick\n\nfox", "", "dog"], **rows}), "a")
    made = [
        make_windows(one, [0, 1, 0], tiny_tokenizer(), ["text"], length=20, stride=None)[0] for one in (parts, texts)
    ]
    assert made[0]["input_ids"] == made[1]["input_ids"]


@pytest.mark.parametrize("value", NO_TEXTS)
@pytest.mark.parametrize("column", ["question", "context"])
def test_questions_are_refused(column: str, value: Any, tmp_path: Path) -> None:
    row = {"question": "a", "context": "b", "answers": ["b"], column: value}
    file = parquet(tmp_path / "train.parquet", [row])
    with pytest.raises(InputError, match=rf"row 1 of train.parquet cannot be used: {column}: a text"):
        read_questions(TableArguments(train_file=file), None)


@pytest.mark.parametrize("answers", [[3], 3, {"text": [["a"]]}, {"text": ["b"], "answer_start": [0, 1]}])
def test_answers_are_refused(answers: Any, model: Path, tmp_path: Path) -> None:
    file = parquet(tmp_path / "train.parquet", [{"question": "a", "context": "b", "answers": answers}])
    with pytest.raises(InputError, match=r"row 1 of train.parquet must have a (text|place)"):
        run_qa.main(words(model, tmp_path, file))


def test_answers_of_every_kind(tmp_path: Path) -> None:
    row = {"question": "a", "context": ["the dog", "the fox"]}
    for number, answers in enumerate(("fox", ["fox"], {"text": ["fox"], "answer_start": [13]}, {"text": ["fox"]})):
        file = parquet(tmp_path / f"{number}.parquet", [{**row, "answers": answers}])
        (found,) = read_questions(TableArguments(train_file=file), None)["train"].rows
        assert (found["context"], found["answers"], found["spans"]) == ("the dog\n\nthe fox", ["fox"], [[13, 16]])


@pytest.mark.parametrize("question", NO_TEXTS)
def test_choices_are_refused(question: Any, model: Path, tmp_path: Path) -> None:
    file = parquet(tmp_path / "train.parquet", [{**CHOICE, "question": question}])
    with pytest.raises(InputError, match=r"row 1 of train.parquet cannot be used: question: a text"):
        run_multiple_choice.main(words(model, tmp_path, file))


DATES = ("2024-05-01", "2024-05-01 10:00:00", "2024-05-01T10:00:00Z", "10:00", "01", "1", "1.0", "1e3", "true", "null")


def lines(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.mark.parametrize("form", ["lines", "list"])
def test_texts_of_json_stay_as_they_are(form: str, tmp_path: Path) -> None:
    """Whatever they look like, in columns and in lists, alone and beside nothing."""
    rows = [{"text": text, "one": DATES[0], "parts": [text, None], "deep": {"a": [text]}} for text in DATES]
    rows.append({"text": None, "one": DATES[0], "parts": None, "deep": None})
    file = tmp_path / "a.json"
    file.write_text(json.dumps(rows) if form == "list" else "\n\n".join(map(json.dumps, rows)))
    read = read_table(str(file))
    assert [{name: row[name] for name in rows[0]} for row in read.rows] == rows
    assert read.rows[ROW] == list(range(1, len(rows) + 1))
    assert read.mixed == {}


def test_values_keep_their_types_across_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hf_longformer.finetune.json_rows.ROWS_AT_ONCE", 1)
    rows = [{"a": None, "b": [], "c": {"x": 1}, "d": 1}, {"a": "2", "b": ["3"], "c": {"y": ["4"]}, "d": 2.5}]
    assert read_table(lines(tmp_path / "a.jsonl", rows)).rows.to_list() == [
        {"a": None, "b": [], "c": {"x": 1, "y": None}, "d": 1.0, ROW: 1},
        {"a": "2", "b": ["3"], "c": {"x": None, "y": ["4"]}, "d": 2.5, ROW: 2},
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["01", "1", 1, "2"], "one kind of values, got a text in row 1 and a number in row 3"),
        ([1, None, "1"], "got a number in row 1 and a text in row 3"),
        ([True, 1], "got a truth value in row 1 and a number in row 2"),
        ([["a", "1"], ["b", 1]], "got a text in a list in row 1 and a number in a list in row 2"),
        (["a", ["b"]], "got a text in row 1 and a list in row 2"),
        (["a", {"b": 1}], "got a text in row 1 and an object in row 2"),
        ([1, 2**70], "values that cannot stand in one table"),
    ],
)
def test_columns_of_several_kinds_are_refused(values: list[Any], message: str, model: Path, tmp_path: Path) -> None:
    """As labels, ids, candidates and tags; a column that no task reads may hold what it wants."""
    rows = [{"text": f"a {number}", "label": value, "odd": value} for number, value in enumerate(values)]
    file = lines(tmp_path / "train.jsonl", rows)
    with pytest.raises(InputError, match=rf"the column label of train\.jsonl must hold .*{message}"):
        run_classification.main(words(model, tmp_path, file))
    asked = [{"id": value, "question": "a", "context": "b", "answers": ["b"]} for value in values]
    with pytest.raises(InputError, match=rf"the column id of .*{message}"):
        read_questions(TableArguments(train_file=lines(tmp_path / "ids.jsonl", asked)), None)
    chosen = lines(tmp_path / "choice.jsonl", [{**CHOICE, "question": "a", "candidates": value} for value in values])
    with pytest.raises(InputError, match=rf"the column candidates of .*{message}"):
        run_multiple_choice.main(words(model, tmp_path, chosen))
    tagged = lines(tmp_path / "tags.jsonl", [{"tokens": ["a", "b"], "tags": value} for value in values])
    with pytest.raises(InputError, match=rf"the column tags of .*{message}"):
        run_token_classification.main(words(model, tmp_path, tagged))
    rows = [{**row, "label": str(number % 2)} for number, row in enumerate(rows)]
    run_classification.main(words(model, tmp_path, lines(tmp_path / "odd.jsonl", rows)))


def test_texts_beside_lists_of_texts_are_documents(tmp_path: Path) -> None:
    rows = [{"question": "a", "context": context, "answers": ["b"]} for context in ("b", ["c", "b"], None)]
    found = read_questions(TableArguments(train_file=lines(tmp_path / "a.jsonl", rows)), None)["train"].rows
    assert found["context"] == ["b", "c\n\nb", ""]


def test_object_that_says_something_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "b", "text": "c"}\n')
    with pytest.raises(InputError, match="in line 2: the entry text stands there twice"):
        read_table(str(tmp_path / "a.jsonl"))


def test_dates_that_a_reader_made_are_refused(model: Path, tmp_path: Path) -> None:
    """In Parquet and in data sets, whose texts cannot be had back."""
    rows = [{"text": "a", "label": datetime(2024, 5, day)} for day in (1, 2)]
    with pytest.raises(
        InputError, match=r"the column label of train\.parquet must hold texts, or numbers, in all rows"
    ):
        run_classification.main(words(model, tmp_path, parquet(tmp_path / "train.parquet", rows)))
    (tmp_path / "data").mkdir()
    lines(tmp_path / "data" / "any.jsonl", [{"text": "a", "label": f"2024-05-0{day}"} for day in (1, 2)])
    lines(tmp_path / "data" / "other.jsonl", [{"text": "a", "label": f"2024-05-0{day}"} for day in (3, 4)])
    given = [*words(model, tmp_path, ""), "--dataset_name", str(tmp_path / "data")]
    del given[given.index("--train_file") : given.index("--train_file") + 2]
    with pytest.raises(
        InputError, match=r"the column label of .*data \(train\) must hold texts, or numbers, in all rows"
    ):
        run_classification.main(given)


def test_ids_of_questions(tmp_path: Path) -> None:
    """What has none is called by its row; two questions never become one; documents of one question share its id."""
    row = {"question": "a", "context": "the dog", "answers": ["dog"]}
    rows = [{**row, "id": "x"}, {**row, "id": None, "question": "b"}, {**row, "question": "c"}]
    rows.append({**row, "id": "x", "context": "the fox", "answers": ["fox"]})
    table = read_questions(TableArguments(train_file=lines(tmp_path / "a.jsonl", rows)), None)["train"]
    assert table.rows["id"] == ["x", "2", "3", "x"]
    assert gold_answers(table)["x"] == ["dog", "fox"]
    rows.append({**row, "id": "x", "question": "d"})
    with pytest.raises(InputError, match=r"of a.jsonl must have an id of its own, got x for rows 1 and 5"):
        read_questions(TableArguments(train_file=lines(tmp_path / "a.jsonl", rows)), None)
    asked = [
        {"id": name, "question": name or "n", "answers": [{"text": "dog", "answer_start": 4}]} for name in (None, "7")
    ]
    asked.append({**asked[1], "id": 7, "question": "other"})
    squad = {"version": "1", "data": [{"paragraphs": [{"context": "the dog", "qas": asked}]}]}
    for count in (2, 3):
        squad["data"][0]["paragraphs"][0]["qas"] = asked[:count]
        file = tmp_path / f"{count}.json"
        file.write_text(json.dumps(squad))
        if count == 2:
            assert read_questions(TableArguments(train_file=str(file)), None)["train"].rows["id"] == ["1", "7"]
        else:
            with pytest.raises(InputError, match=r"an id of its own, got 7 for rows 2 and 3"):
                read_questions(TableArguments(train_file=str(file)), None)


def test_evidence_that_changed_is_read_anew(tmp_path: Path) -> None:
    """A document of the same size and time, too."""
    question = {"QuestionId": "t1", "Question": "who", "Answer": {"Aliases": ["fox", "dog"]}}
    question["EntityPages"] = [{"Filename": "a.txt"}]
    (tmp_path / "a.json").write_text(json.dumps({"Data": [question]}))
    document = tmp_path / "a.txt"
    for text in ("the fox", "the dog"):
        document.write_text(text)
        os.utime(document, (1, 1))
        (row,) = read_nested(tmp_path / "a.json", str(tmp_path)).rows
        assert row["context"] == text
    before = identity(str(tmp_path / "a.json"), str(tmp_path))
    document.write_text("the cat")
    os.utime(document, (1, 1))
    assert identity(str(tmp_path / "a.json"), str(tmp_path)) != before  # a run of `predict` is another one


@pytest.mark.parametrize("streaming", [False, True])
def test_texts_of_masked_words(streaming: bool, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": ["one", "two"]}) + "\n" + json.dumps({"text": ["three"]}) + "\n")
    found = load_documents([str(file)], "file", streaming)
    assert [row["text"] for row in found] == ["one\n\ntwo", "three"]
    file.write_text(json.dumps({"text": 3}) + "\n")
    with pytest.raises(InputError, match=r"row 1 of .*a.jsonl cannot be used: text: a text"):
        list(load_documents([str(file)], "file", streaming))


@pytest.mark.parametrize("name", ["semicolons.csv", "tabs.csv", "commas.csv", "tabs.tsv"])
def test_separators(name: str, tmp_path: Path) -> None:
    separator = {"semicolons": ";", "tabs": "\t", "commas": ","}[name.split(".")[0]]
    lines = [("text", "label"), ("a", "1"), ('"b; c, d\te"', "2")]
    (tmp_path / name).write_text("".join(separator.join(line) + "\n" for line in lines))
    table = read_table(str(tmp_path / name))
    assert table.rows["text"] == ["a", "b; c, d\te"]
    assert table.rows["label"] == ["1", "2"]
