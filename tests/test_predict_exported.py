# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer predict … --backend …` says of documents what it says in PyTorch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sources import make_source
from test_cli import command  # noqa: F401  # a fixture
from test_predict import HEADS, TAGS, make_rows, read, write
from transformers import pipeline

from hf_longformer.conversion import convert
from hf_longformer.exporting import load_exported
from hf_longformer.finetune.prediction_defaults import save_defaults
from hf_longformer.serving.models import load

pytest.importorskip("onnxscript", reason="needs onnxscript")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")


def make_model(task: str, folder: Path) -> None:
    """A model of a task for 130 tokens with random weights."""
    torch.manual_seed(0)
    tags = {"id2label": dict(enumerate(TAGS)), "label2id": {name: number for number, name in enumerate(TAGS)}}
    settings: dict[str, Any] = tags if task == "token-classification" else {}
    make_source(folder / "source", "bert", HEADS[task], num_hidden_layers=1, **settings)
    convert(folder / "source", folder / "model", max_length=130, attention_window=16, check=False)
    save_defaults(folder / "model", task, {"stride": 9})


def assert_alike(one: Any, other: Any) -> None:
    """The same words and places; numbers to four digits."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_alike(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_alike(*pair)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-4)
    else:
        assert one == other


@pytest.mark.parametrize(
    "task",
    [
        "qa",
        pytest.param("classification", marks=pytest.mark.slow),
        pytest.param("token-classification", marks=pytest.mark.slow),
    ],
)
def test_predict_says_the_same(task: str, command, tmp_path: Path) -> None:  # noqa: F811
    make_model(task, tmp_path)
    done = command("export", tmp_path / "model", tmp_path / "exported", "--format", "onnx")
    assert (done.code, "✓ outputs at 130 tokens" in done.out) == (0, True), done.err
    assert "as onnx, float32, 130 tokens" in done.out
    file = write(tmp_path / "in.jsonl", make_rows(task))
    for backend, folder in {"torch": "model", "onnx": "exported"}.items():
        output = tmp_path / f"{backend}.jsonl"
        done = command("predict", task, tmp_path / folder, file, "--output", output, "--backend", backend)
        assert done.code == 0, done.err
    expected, found = (read(tmp_path / f"{backend}.jsonl") for backend in ("torch", "onnx"))
    assert_alike(expected, found)
    if task == "classification":
        rows = [row["text"] for row in make_rows(task)][:3]
        asked = pipeline("text-classification", str(tmp_path / "model"), truncation=True)
        options = {"tokenizer": asked.tokenizer, "truncation": True}
        exported = pipeline("text-classification", load_exported(tmp_path / "exported"), **options)
        assert_alike(asked(rows), exported(rows))
    served = load(str(tmp_path / "exported"), backend="onnx")
    assert served.task == task
    kept = [{name: line[name] for name in line if name not in ("id", "line")} for line in found]
    assert_alike(kept, served(make_rows(task)))
    wrong = ("--output", tmp_path / "x", "--backend", "onnx", "--dtype", "bfloat16")
    done = command("predict", task, tmp_path / "exported", file, *wrong)
    assert (done.code, "an export computes on a CPU in what it was exported as" in done.sentence) == (2, True)
    done = command("predict", task, tmp_path / "model", file, "--output", tmp_path / "x", "--backend", "onnx")
    assert (done.code, "hf-longformer export --format onnx" in done.sentence) == (2, True)
