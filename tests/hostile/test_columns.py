# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Every column that is to hold a text: a text, a list of paragraphs, nothing, or refused by its row; never trained on
as the Python representation of something else.
"""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset
from helpers import tiny_tokenizer
from sources import make_source

from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune import run_classification, run_multiple_choice, run_qa
from hf_longformer.finetune.classification import make_windows
from hf_longformer.finetune.data import ROW, Table, read_table, text_of
from hf_longformer.finetune.mlm import load_documents
from hf_longformer.finetune.qa_data import TableArguments, read_questions

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
