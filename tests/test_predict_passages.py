# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`predict embeddings --pooling …`: passages of documents that are read as a whole, and other poolings."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedding_runs import document, make_encoder

import hf_longformer_cli as cli
from hf_longformer.conversion import InputError
from hf_longformer.finetune.embeddings import EmbeddingPredictor
from hf_longformer.finetune.embeddings.passages import chunks_of, tokens_of_passages
from hf_longformer.finetune.long_documents import LongDocumentPredictor
from hf_longformer.finetune.predict import predict

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
from sentence_transformers import SentenceTransformer

TEXTS = [document("lazy dog", 0, 90), "the fox", document("windows", 1, 200)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("passages")
    make_encoder(folder)
    return folder


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def states(checkpoint: Path, text: str, prompt: str = "") -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Last hidden states of a whole text, and the characters of its tokens."""
    model = SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)
    encoded = model.tokenizer(prompt + text, return_offsets_mapping=True)
    ids = torch.tensor([encoded["input_ids"]])
    with torch.inference_mode():
        found = model[0].auto_model(ids, torch.ones_like(ids)).last_hidden_state[0]
    return found, [(start - len(prompt), end - len(prompt)) for start, end in encoded["offset_mapping"]]


def mean(found: torch.Tensor, places: list[int]) -> np.ndarray:
    return torch.nn.functional.normalize(found[places].mean(dim=0), dim=0).numpy()


def test_a_passage_is_the_mean_of_its_tokens_in_the_whole_document(made: Path, tmp_path: Path) -> None:
    passages = [[0, 40], [41, 300], [90, 95]]
    rows = [{"id": "a", "text": TEXTS[0], "passages": passages}, {"id": "b", "text": TEXTS[1], "passages": [[0, 7]]}]
    output = tmp_path / "out.jsonl"
    report = predict("embeddings", str(made / "model"), write(tmp_path / "in.jsonl", rows), output, pooling="chunks")
    assert (report["lines"], report["failed"]) == (2, [])
    lines = read(output)
    assert [(one["line"], one["id"], one["passage"], one["passages"]) for one in lines] == [
        (1, "a", 0, 3),
        (1, "a", 1, 3),
        (1, "a", 2, 3),
        (2, "b", 0, 1),
    ]
    found, offsets = states(made / "model", TEXTS[0])
    for line, (start, end) in zip(lines, passages, strict=False):
        places = [place for place, (first, behind) in enumerate(offsets) if behind > start and first < end and behind]
        assert (line["start"], line["end"], line["tokens"]) == (start, end, len(places))
        np.testing.assert_allclose(line["embedding"], mean(found, places), atol=1e-6)


def test_chunks_hold_all_tokens_once(made: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    given = write(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS])
    predict("embeddings", str(made / "model"), given, output, pooling="chunks", chunk_size=50)
    lines = read(output)
    for number, text in enumerate(TEXTS, 1):
        mine = [line for line in lines if line["line"] == number]
        found, offsets = states(made / "model", text)
        assert [line["tokens"] for line in mine[:-1]] == [50] * (len(mine) - 1)
        assert sum(line["tokens"] for line in mine) == len(offsets) - 2
        assert (mine[0]["start"], mine[-1]["end"]) == (0, len(text))
        for line in mine:
            first = 1 + 50 * line["passage"]
            places = list(range(first, first + line["tokens"]))
            assert (line["start"], line["end"]) == (offsets[places[0]][0], offsets[places[-1]][1])
            np.testing.assert_allclose(line["embedding"], mean(found, places), atol=1e-6)


def test_a_prompt_is_read_and_is_no_passage(made: Path) -> None:
    model = SentenceTransformer(str(made / "model"), device="cpu", local_files_only=True)
    model.prompts, model.default_prompt_name = {"document": "long windows: "}, "document"
    predictor = EmbeddingPredictor.load(str(made / "model"), pooling="chunks", chunk_size=20)
    predictor.embedder.prompt = "long windows: "
    (result,) = predictor([{"text": TEXTS[0]}])
    found, offsets = states(made / "model", TEXTS[0], "long windows: ")
    real = [place for place, (_, behind) in enumerate(offsets) if behind > 0]
    assert result["passages"][0]["start"] == 0
    np.testing.assert_allclose(result["passages"][0]["embedding"], mean(found, real[:20]), atol=1e-6)


def test_a_killed_run_goes_on_behind_its_last_whole_document(made: Path, tmp_path: Path) -> None:
    rows = [{"text": text} for text in TEXTS * 3]
    given, output = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    options: dict[str, Any] = {"pooling": "chunks", "chunk_size": 50, "max_seq_length": 150, "overflow": "truncate"}
    whole = predict("embeddings", str(made / "model"), given, output, **options)
    text = output.read_text()
    assert whole["truncated"] == 3
    output.unlink()

    def stop(line: str) -> None:
        raise KeyboardInterrupt(line)

    broken = [*rows[:4], {"text": ""}, *rows[4:]]  # a bad row, at which the run is killed
    given = write(tmp_path / "broken.jsonl", broken)
    with pytest.raises(KeyboardInterrupt):
        predict("embeddings", str(made / "model"), given, output, say=stop, **options)
    partial = tmp_path / ".out.jsonl.partial"
    lines = text.splitlines(keepends=True)
    of_third = [index for index, line in enumerate(lines) if json.loads(line)["line"] == 3]
    partial.write_text("".join(lines[: of_third[0] + 1]) + lines[of_third[1]][:30])  # in the middle of a document
    report = predict("embeddings", str(made / "model"), given, output, **options)
    assert (report["resumed"], report["lines"], report["failed"]) == (2, 10, [5])
    assert report["truncated"] == whole["truncated"]
    again = read(output)
    assert [one["line"] for one in again if "error" in one] == [5]
    kept = [{**one, "line": one["line"] - (one["line"] > 5)} for one in again if "error" not in one]
    for one, other in zip(kept, read_text(text), strict=True):
        np.testing.assert_allclose(one.pop("embedding"), other.pop("embedding"), atol=1e-6)
        assert one == other


def read_text(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_other_poolings_go_through_the_same_modules(made: Path, pooling: str) -> None:
    found, _ = states(made / "model", TEXTS[0])
    expected = {"mean": found.mean(dim=0), "cls": found[0]}[pooling]
    normalised = torch.nn.functional.normalize(expected, dim=0).numpy()
    (result,) = EmbeddingPredictor.load(str(made / "model"), pooling=pooling)([{"text": TEXTS[0]}])
    np.testing.assert_allclose(result["embedding"], normalised, atol=1e-6)


def test_an_encoder_without_modules_has_them_too(made: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (plain / name).write_bytes((made / "model" / name).read_bytes())
    found, offsets = states(made / "model", TEXTS[0])
    (first,) = EmbeddingPredictor.load(str(plain), pooling="cls")([{"text": TEXTS[0]}])
    np.testing.assert_allclose(first["embedding"], found[0], atol=1e-5)
    (chunked,) = EmbeddingPredictor.load(str(plain), pooling="chunks", chunk_size=1000)([{"text": TEXTS[0]}])
    np.testing.assert_allclose(chunked["passages"][0]["embedding"], found[1:-1].mean(dim=0), atol=1e-5)
    assert chunked["passages"][0]["tokens"] == len(offsets) - 2


def test_passages_stand_in_tables(made: Path) -> None:
    documents = LongDocumentPredictor("embeddings", str(made / "model"), pooling="chunks", chunk_size=50)
    table = documents({"text": TEXTS})
    for passages, tokens in zip(table["passages"], table["tokens"], strict=True):
        assert sum(passage["tokens"] for passage in passages) == tokens - 2
        assert len(passages[0]["embedding"]) == 24


def test_tokens_of_passages() -> None:
    offsets = [(-1, -1), (0, 3), (4, 9), (9, 12), (-1, -1)]
    assert tokens_of_passages(offsets, [(0, 4), (2, 5), (10, 12)], 12) == [[1], [1, 2], [3]]
    assert chunks_of(offsets, 2) == ([[1, 2], [3]], [(0, 9), (9, 12)])
    for passages, message in (
        ([(0, 13)], r"inside its text of 12 characters, got \[0, 13\]"),
        ([(5, 5)], r"got \[5, 5\]"),
        ([(0, 2), (3, 4)], r"must have a token that is read, got none in passage 1, \[3, 4\]"),
    ):
        with pytest.raises(InputError, match=message):
            tokens_of_passages(offsets, passages, 12)
    with pytest.raises(InputError, match="must have a token, got none"):
        chunks_of([(-1, -1)], 2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "the fox"}, "an entry passages is needed, got none: or say how documents are cut, --chunk-size"),
        ({"text": "the fox", "passages": "0-3"}, "passages must be pairs of characters, [[start, end], …], got 0-3"),
        ({"text": "the fox", "passages": []}, "passages must be pairs of characters"),
        ({"text": "the fox", "passages": [[0, True]]}, "passages must be pairs of characters"),
        ({"text": "the fox", "passages": [[0, 3, 4]]}, "passages must be pairs of characters"),
        ({"text": "the fox", "passages": [[0, 30]]}, "every passage must lie inside its text of 7 characters"),
        ({"text": "", "passages": [[0, 3]]}, "text must not be empty"),
    ],
)
def test_rows_without_good_passages_are_errors(made: Path, tmp_path: Path, row: dict[str, Any], message: str) -> None:
    output = tmp_path / "out.jsonl"
    good = {"text": "the fox", "passages": [[0, 3]]}
    report = predict(
        "embeddings", str(made / "model"), write(tmp_path / "in.jsonl", [row, good]), output, pooling="chunks"
    )
    assert report["failed"] == [1]
    lines = read(output)
    assert message in lines[0]["error"]
    assert lines[1]["passage"] == 0


def test_command_line(made: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    given = write(tmp_path / "in.jsonl", [{"body": TEXTS[2], "parts": [[0, 9], [10, 99]]}])
    words = ["embeddings", str(made / "model"), given, "--output", str(tmp_path / "out.jsonl"), "--text-column", "body"]

    def run(*more: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hf-longformer", "predict", *words, *more])
        try:
            cli.main()
        except SystemExit as stopped:
            return int(stopped.code or 0)
        return 0

    assert run("--pooling", "chunk") == 2
    assert "--pooling must be one of mean, cls, chunks, got chunk" in capsys.readouterr().err
    assert run("--chunk-size", "5") == 2
    assert "--chunk-size is of --pooling chunks, got 5 without it" in capsys.readouterr().err
    assert run("--pooling", "chunks", "--passages-column", "parts") == 0
    assert [(line["start"], line["end"]) for line in read(tmp_path / "out.jsonl")] == [(0, 9), (10, 99)]
