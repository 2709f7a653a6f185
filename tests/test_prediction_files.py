# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`predict … --output FILE.parquet` and `.npy`: what JSON lines say, as a table and as an array."""

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_runs import document, make_encoder
from pyarrow import parquet

from hf_longformer.conversion import InputError
from hf_longformer.finetune import prediction_files
from hf_longformer.finetune.embeddings import EmbeddingPredictor
from hf_longformer.finetune.predict import predict

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")

ROWS: list[Any] = [
    {"id": "a", "text": document("lazy dog", 0, 40)},
    {"id": 7, "text": ""},
    {"text": document("windows", 1, 700)},  # beyond the limit
    {"id": ["b"], "text": "the fox"},
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_encoder(tmp_path_factory.mktemp("encoder")))


@pytest.fixture
def input(tmp_path: Path) -> str:
    return write(tmp_path / "rows.jsonl", ROWS)


def write(file: Path, rows: list[Any]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("options", [{}, {"pooling": "chunks", "chunk_size": 16}], ids=["documents", "passages"])
def test_array_has_a_row_for_every_line(options: dict[str, Any], encoder: str, input: str, tmp_path: Path) -> None:
    reports = [
        predict("embeddings", encoder, input, tmp_path / name, **options) for name in ("lines.jsonl", "array.npy")
    ]
    assert reports[0] == reports[1]
    assert reports[0]["failed"] == [2, 3]
    found, lines = np.load(tmp_path / "array.npy"), read(tmp_path / "lines.jsonl")
    assert found.dtype == np.float32
    assert len(found) == len(lines) == (6 if options else 4)
    for vector, line in zip(found, lines, strict=True):
        if "error" in line:
            assert np.isnan(vector).all()
        else:
            assert vector.tolist() == line.pop("embedding")
    assert read(tmp_path / "array.npy.jsonl") == lines  # without embeddings
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(".")) == []


@pytest.mark.parametrize("options", [{}, {"pooling": "chunks", "chunk_size": 16}], ids=["documents", "passages"])
def test_parquet_has_a_row_for_every_row(
    options: dict[str, Any], encoder: str, input: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_files, "POOL", 3)  # the file is written in two pieces
    predict("embeddings", encoder, input, tmp_path / "lines.jsonl", **options)
    predict("embeddings", encoder, input, tmp_path / "table.parquet", **options)
    table = parquet.read_table(tmp_path / "table.parquet")
    assert table["line"].to_pylist() == [1, 2, 3, 4]
    assert table["id"].to_pylist() == ["a", "7", None, '["b"]']
    lines = read(tmp_path / "lines.jsonl")
    for row in table.to_pylist():
        own = [line for line in lines if line["line"] == row["line"]]
        assert row["error"] == own[0].get("error")
        if row["error"] is None and options:
            known = [{name: line[name] for name in ("start", "end", "tokens", "embedding")} for line in own]
            assert row["passages"] == known
            assert (row["truncated"], row["tokens_cut"]) == (False, 0)
        elif row["error"] is None:
            assert row["embedding"] == own[0]["embedding"]
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(".")) == []


def test_cut_documents_are_counted_in_tables(encoder: str, input: str, tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.parquet", "a.npy"):
        for more in ({}, {"pooling": "chunks", "chunk_size": 64}):
            report = predict("embeddings", encoder, input, tmp_path / name, overflow="truncate", overwrite=True, **more)
            assert report["truncated"] == 1
            if name == "a.parquet":
                [cut] = [row for row in parquet.read_table(tmp_path / name).to_pylist() if row["truncated"]]
                assert (cut["line"], cut["tokens_cut"]) == (3, report["tokens_cut"])


def test_no_rows_and_no_embeddings(encoder: str, tmp_path: Path) -> None:
    for number, rows in enumerate(([], [{"text": ""}])):
        input = write(tmp_path / f"{number}.jsonl", rows)
        predict("embeddings", encoder, input, tmp_path / f"{number}.npy")
        found = np.load(tmp_path / f"{number}.npy")
        assert found.shape == (len(rows), 24)
        assert np.isnan(found).all()
        predict("embeddings", encoder, input, tmp_path / f"{number}.parquet")
        table = parquet.read_table(tmp_path / f"{number}.parquet")
        assert len(table) == len(rows)
        assert table.column_names == ["line", "id", "embedding", "tokens", "truncated", "tokens_cut", "error"]


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`predict`, which dies in the second of its pools of 256 rows."""

    def run(*arguments: Any, **options: Any) -> None:
        calls: list[int] = []

        def die_in_the_second_pool(self: Any, rows: list[dict[str, Any]]) -> Any:
            calls.append(len(rows))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return answer(self, rows)

        answer = EmbeddingPredictor.__call__
        with monkeypatch.context() as patched:
            patched.setattr(EmbeddingPredictor, "__call__", die_in_the_second_pool)
            with pytest.raises(KeyboardInterrupt):
                predict(*arguments, **options)

    return run


@contextmanager
def death_before(output: Path) -> Iterator[None]:
    """Inside, a run dies when it is about to give its output its name."""

    def replace_others(source: Path, target: Path) -> None:
        if target == output:
            raise KeyboardInterrupt
        replace(source, target)

    replace = os.replace
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "replace", replace_others)
        yield


def many(file: Path, topic: str) -> str:
    return write(file, [{"text": document(topic, number, 9)} for number in range(300)])


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.parquet"])
@pytest.mark.parametrize("where", ["rows", "end"])
def test_killed_run_goes_on(name: str, where: str, encoder: str, tmp_path: Path, killed: Callable[..., None]) -> None:
    given = ("embeddings", encoder, many(tmp_path / "many.jsonl", "fox"))
    whole = tmp_path / f"whole-{name}"
    predict(*given, whole)
    if where == "rows":
        killed(*given, tmp_path / name)
    else:  # an array's lines are there already
        with death_before(tmp_path / name), pytest.raises(KeyboardInterrupt):
            predict(*given, tmp_path / name)
    assert not (tmp_path / name).exists()
    report = predict(*given, tmp_path / name)
    assert report["resumed"] == (256 if where == "rows" else 300)
    if name.endswith(".npy"):
        np.testing.assert_array_equal(np.load(tmp_path / name), np.load(whole))
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (tmp_path / f"whole-{name}.jsonl").read_bytes()
    else:
        assert parquet.read_table(tmp_path / name) == parquet.read_table(whole)


def test_standard_input_is_read_from_its_beginning(
    encoder: str, tmp_path: Path, killed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether it is the same as that of the run that was killed."""
    files = [many(tmp_path / f"{topic}.jsonl", topic) for topic in ("fox", "dog")]
    for file, run in zip(files, (killed, predict), strict=True):
        stream = io.TextIOWrapper(io.BytesIO(Path(file).read_bytes()), newline="")
        monkeypatch.setattr(sys, "stdin", stream)
        report = run("embeddings", encoder, "-", tmp_path / "found.npy")
    assert report["resumed"] == 0
    predict("embeddings", encoder, files[1], tmp_path / "expected.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), np.load(tmp_path / "expected.npy"))


@pytest.mark.parametrize("changed", ["1_Pooling/config.json", "model.pt2", "model.pte", "vocab.txt"])
def test_run_goes_on_with_the_same_files_only(
    changed: str, encoder: str, tmp_path: Path, killed: Callable[..., None]
) -> None:
    """Those of modules in folders of their own are some; those of a run whose output lies in the checkpoint are not."""
    checkpoint = shutil.copytree(encoder, tmp_path / "model")
    (checkpoint / changed).touch()
    given = ("embeddings", str(checkpoint), many(tmp_path / "many.jsonl", "fox"))
    for name in ("same.jsonl", "other.jsonl"):
        killed(*given, checkpoint / name)
    assert predict(*given, checkpoint / "same.jsonl")["resumed"] == 256
    os.utime(checkpoint / changed, (0, 0))
    with pytest.raises(InputError, match="another input, checkpoint, version or options"):
        predict(*given, checkpoint / "other.jsonl")


def test_killed_replacement_leaves_no_array_beside_lines_of_another(encoder: str, input: str, tmp_path: Path) -> None:
    output = tmp_path / "vectors.npy"
    predict("embeddings", encoder, write(tmp_path / "old.jsonl", ROWS[:1]), output)
    with death_before(output), pytest.raises(KeyboardInterrupt):
        predict("embeddings", encoder, input, output, overwrite=True)
    assert not output.exists()
    assert predict("embeddings", encoder, input, output)["resumed"] == len(ROWS)
    assert len(np.load(output)) == len(read(tmp_path / "vectors.npy.jsonl")) == len(ROWS)


def test_folder_that_cannot_be_written(
    encoder: str, input: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(InputError, match="which is to hold the output, cannot be written: Permission denied"):
        predict("embeddings", encoder, input, tmp_path / "a.npy")


def test_bad_outputs(encoder: str, input: str, tmp_path: Path) -> None:
    (tmp_path / "there.npy.jsonl").write_text("somebody's\n")
    for output, message in {
        "a.csv": "results are written as .jsonl, .parquet or, of embeddings, .npy, got .*a.csv",
        "a.npz": "results are written as",
        "a.jsonl.gz": "results are written as",
        "A.SAFETENSORS": "results are written as",
        "there.npy": "the output must not exist, got .*there.npy.jsonl",
    }.items():
        with pytest.raises(InputError, match=message):
            predict("embeddings", encoder, input, tmp_path / output)
    with pytest.raises(InputError, match=r"a \.npy file has embeddings, got .* for classification"):
        predict("classification", encoder, input, tmp_path / "a.npy")
    own = write(tmp_path / "a.npy.jsonl", ROWS)
    with pytest.raises(InputError, match="input and output must be different files"):
        predict("embeddings", encoder, own, tmp_path / "a.npy", overwrite=True)
    assert (tmp_path / "there.npy.jsonl").read_text() == "somebody's\n"
    assert len(read(tmp_path / "a.npy.jsonl")) == len(ROWS)
