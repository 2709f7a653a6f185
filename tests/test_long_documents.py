# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`LongDocumentPredictor`: columns in, what `hf-longformer predict` says of each row out, in one schema."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import test_predict
from test_predict import WHOLE, make_rows, read, write
from transformers import AutoTokenizer

from hf_longformer.conversion import InputError
from hf_longformer.finetune.classification.predictor import ClassificationPredictor
from hf_longformer.finetune.embeddings import Embedder, EmbeddingPredictor
from hf_longformer.finetune.long_documents import LongDocumentPredictor
from hf_longformer.finetune.predict import predict
from hf_longformer.finetune.tasks import ANSWERED

models = test_predict.models
COUNTS = ["truncated", "tokens_cut", "error"]


def checkpoint_of(models: Path, task: str) -> str:
    return str(models / ("encoder" if task == "embeddings" else task))


def options_of(task: str) -> dict[str, Any]:
    """That read documents to their end."""
    return {"overflow": {**WHOLE, "embeddings": "truncate"}[task]} if task in (*WHOLE, "embeddings") else {}


def without_nothing(value: Any) -> Any:
    """A result without what is null, in structs and below them, and without the counts of rows that were not cut."""
    if isinstance(value, dict):
        return {name: without_nothing(one) for name, one in value.items() if one is not None}
    return [without_nothing(one) for one in value] if isinstance(value, list) else value


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table as `hf-longformer predict` writes it, but for what is null."""
    found = {
        name: value for name, value in row.items() if value not in (None, False, 0) or name not in (*COUNTS, "at_limit")
    }
    if "supporting_facts" in found and found["supporting_facts"] is not None:
        found["supporting_facts"] = [[fact["title"], fact["sentence"]] for fact in found["supporting_facts"]]
    return without_nothing(found)


def columns_of(rows: list[dict[str, Any]], task: str) -> dict[str, list[Any]]:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    if task == "hotpotqa":  # paragraphs as tables can hold them
        columns["context"] = [
            {"title": [title for title, _ in one], "sentences": [sentences for _, sentences in one]}
            for one in columns["context"]
        ]
    return columns


@pytest.mark.parametrize("task", ANSWERED)
def test_columns_are_answered_as_lines_are(task: str, models: Path, tmp_path: Path) -> None:
    """Lists, arrays and tables in, also to what was pickled, with a row among them that cannot be answered."""
    rows = make_rows(task, 6)
    checkpoint, options = checkpoint_of(models, task), options_of(task)
    report = predict(task, checkpoint, str(write(tmp_path / "in.jsonl", rows)), tmp_path / "out.jsonl", **options)
    assert report["failed"] == []
    lines = [{name: one[name] for name in one if name != "line"} for one in read(tmp_path / "out.jsonl")]
    columns = {name: [*values[:2], None, *values[2:]] for name, values in columns_of(rows, task).items()}
    columns["id"][2] = "bad"
    documents = LongDocumentPredictor(task, checkpoint, keep=["id"], **options)
    assert len(pickle.dumps(documents)) < 1000
    found = documents(columns)
    assert len(pickle.dumps(documents)) < 1000  # without the model that it has loaded
    copy = pickle.loads(pickle.dumps(documents))  # noqa: S301
    table = copy(pa.table(columns))
    assert table.schema == pa.schema([("id", pa.string()), *documents.schema])
    assert table.to_pydict() == found
    arrays = copy({name: np.array([*values, None], dtype=object)[:-1] for name, values in columns.items()})
    assert {**arrays, "id": list(arrays["id"])} == found
    answered = table.to_pylist()
    bad = answered.pop(2)
    assert {name for name, value in bad.items() if value is not None} == {"id", "error"}
    assert bad["id"] == "bad"
    assert [as_json(row) for row in answered] == [pytest_approx(without_nothing(line)) for line in lines]
    assert documents(pa.table(columns).slice(0, 0)).schema == table.schema


def pytest_approx(value: Any) -> Any:
    """The same, with numbers to rounding: batches differ, and tables hold embeddings in float32."""
    if isinstance(value, dict):
        return {name: pytest_approx(one) for name, one in value.items()}
    if isinstance(value, list):
        return [pytest_approx(one) for one in value]
    return pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value


def test_cells_of_tables_are_plain_values(models: Path) -> None:
    """Lists of paragraphs and of words as arrays, and the NaN that tables have where nothing stands."""
    documents = LongDocumentPredictor("classification", str(models / "classification"))
    given = np.empty(3, dtype=object)
    given[:] = [np.array(["the dog", "who"], dtype=object), float("nan"), "the dog\n\nwho"]
    found = documents({"text": given})
    assert found["error"] == [None, "text must not be empty", None]
    assert found["scores"][0] == found["scores"][2]
    words = LongDocumentPredictor("token-classification", str(models / "token-classification"))
    cells = np.empty(1, dtype=object)
    cells[0] = np.array(["the", "dog"], dtype=object)
    assert words({"tokens": cells})["error"] == [None]
    both = words({"tokens": cells, "text": np.array([np.nan])})
    assert both == words({"tokens": [["the", "dog"]], "text": [None]})


def test_columns_of_other_names_and_those_that_are_kept(models: Path) -> None:
    checkpoint = str(models / "classification")
    documents = LongDocumentPredictor("classification", checkpoint, columns={"text": "body"}, keep=["number"])
    numbers = pa.array([7, 8], pa.int16())
    table = documents(pa.table({"number": numbers, "body": ["the dog", "who"], "other": [1, 2]}))
    assert table["number"].type == pa.int16()
    assert table["number"].to_pylist() == [7, 8]
    assert "other" not in table.column_names
    for batch, message in (
        ({"number": [1], "text": ["a"]}, "a batch must have a column body, got number, text"),
        ({"body": ["a"]}, "columns to keep must be in the batch, got number"),
        ({"body": ["a"], "number": [1, 2]}, "columns must be of one length"),
    ):
        with pytest.raises(InputError, match=message):
            documents(batch)
    with pytest.raises(InputError, match="other names than results, got error"):
        LongDocumentPredictor("classification", checkpoint, keep=["error"])({"text": ["a"], "error": [1]})
    with pytest.raises(InputError, match=r"a task must be one of .* got summaries"):
        LongDocumentPredictor("summaries", checkpoint)


def test_rows_that_break_the_model_are_found_in_halves(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, calls = ClassificationPredictor.forward, []

    def break_(self: Any, windows: list[dict[str, Any]]) -> Any:
        calls.append(len(windows))
        if any(len(window["input_ids"]) == longest for window in windows):
            raise RuntimeError("out of memory")
        return forward(self, windows)

    rows = [{"text": "row " + "dog " * count} for count in (*range(3, 30), 50, *range(3, 20), 50)]
    longest = len(AutoTokenizer.from_pretrained(models / "classification")(rows[27]["text"])["input_ids"])
    monkeypatch.setattr(ClassificationPredictor, "forward", break_)
    documents = LongDocumentPredictor("classification", str(models / "classification"))
    found = [result for pool in documents.answers(rows) for _, result in pool]
    assert [number for number, result in enumerate(found) if "error" in result] == [27, len(rows) - 1]
    assert len(calls) < len(rows)


def test_result_that_is_no_column_is_refused(models: Path) -> None:
    documents = LongDocumentPredictor("classification", str(models / "classification"))
    with pytest.raises(RuntimeError, match=r"must have the entries label, scores, .* got \['value'\]"):
        documents.table([{"value": 1.0}])


@pytest.mark.parametrize("n_best", [1, 3])
def test_answers_with_others_beside_them_have_a_schema(n_best: int, models: Path) -> None:
    documents = LongDocumentPredictor("qa", str(models / "qa"), n_best=n_best)
    found = documents(columns_of(make_rows("qa", 3), "qa"))
    assert ("n_best" in found) == (n_best > 1)
    assert all(len(one) == n_best for one in found.get("n_best", []))


def test_embeddings_are_those_of_the_embedder(models: Path, tmp_path: Path) -> None:
    """In batches of any size; a document beyond the limit is refused, or cut and counted."""
    checkpoint = str(models / "encoder")
    rows = make_rows("classification", 8)
    embedder = Embedder.load(checkpoint)
    tokens = [len(embedder.tokenizer(row["text"])["input_ids"]) for row in rows]
    over = [number for number, size in enumerate(tokens) if size > 130]
    assert 0 < len(over) < len(rows)
    for budget in (1, 200, 10_000):
        found = EmbeddingPredictor.load(checkpoint, overflow="truncate", tokens_per_batch=budget)(rows)
        for number, (row, result) in enumerate(zip(rows, found, strict=True)):
            read_, windows = embedder.prepare([{"text": row["text"], "truncate": True}])
            (expected,) = embedder.finish(read_, windows, embedder.outputs(windows))
            assert result["embedding"] == pytest.approx(expected["embedding"].tolist(), abs=1e-5)
            assert result["tokens"] == min(130, tokens[number])
            assert result.get("tokens_cut", 0) == max(0, tokens[number] - 130)
            assert result.get("truncated", False) == (number in over)
    report = predict("embeddings", checkpoint, str(write(tmp_path / "in.jsonl", rows)), tmp_path / "out.jsonl")
    assert report["failed"] == [number + 1 for number in over]
    lines = read(tmp_path / "out.jsonl")
    assert "at most 130 tokens" in lines[over[0]]["error"]
    assert "--overflow truncate" in lines[over[0]]["error"]
    assert len(json.dumps(lines[min({*range(8)} - {*over})]["embedding"])) > 100
    for options, message in (({"stride": 3}, "no windows"), ({"overflow": "x"}, "error or truncate, got x")):
        with pytest.raises(InputError, match=message):
            EmbeddingPredictor.load(checkpoint, **options)
