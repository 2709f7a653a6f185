# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.exporting` in fewer bits: what they cost is measured, and what depends on a batch is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sources import make_source

from hf_longformer.conversion import InputError, convert
from hf_longformer.exporting import export
from hf_longformer.exporting.export import _check_batches
from hf_longformer.exporting.quality import halves, measure, sentences_of

pytest.importorskip("onnxscript", reason="needs onnxscript")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")


def make_model(folder: Path, head: str) -> Path:
    """A converted model for 130 tokens with random weights."""
    make_source(folder / "source", "bert", head, num_hidden_layers=1)
    convert(folder / "source", folder / "model", max_length=130, attention_window=16, check=False)
    return folder / "model"


def test_sentences_come_with_the_package(tmp_path: Path) -> None:
    found = sentences_of(None)
    assert len(found) >= 50
    assert not any("{" in one for one in found)
    one, other = halves(found)
    assert not set(one) & set(other)
    (tmp_path / "short.txt").write_text("One sentence stands in this file.")
    with pytest.raises(InputError, match="must have at least 20 sentences, got 1"):
        sentences_of(tmp_path / "short.txt")
    with pytest.raises(InputError, match="must be a text file"):
        sentences_of(tmp_path / "missing.txt")


def test_what_depends_on_the_batch_is_refused() -> None:
    assert not _check_batches({"unit": "labels", "of": 200, "changed_by_batch": 3})[0]["passed"]
    assert _check_batches({"unit": "labels", "of": 200, "changed_by_batch": 2})[0]["passed"]


def test_measure_counts_what_changes() -> None:
    """A file that says of every text that is not alone what it would say of the next one."""

    class HfLongformerForSequenceClassification(SimpleNamespace):
        def __call__(self, input_ids: Any, **_: Any) -> dict[str, Any]:
            return {"logits": torch.eye(2)[input_ids[:, 0] % 2]}

    config = SimpleNamespace(max_length_tokens=9, num_labels=2, problem_type=None)

    def tokenizer(texts: list[str], pairs: Any, **_: Any) -> dict[str, Any]:
        return {"input_ids": [[int(text)] for text in texts], "attention_mask": [[1]] * len(texts)}

    def run(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        ids = batch["input_ids"][:, 0]
        return {"logits": np.eye(2)[(ids + (len(ids) > 1) * (ids < 6)) % 2]}

    found = measure(
        HfLongformerForSequenceClassification(config=config),
        run,
        ("input_ids",),
        tokenizer,
        [str(n) for n in range(16)],
    )
    assert found == {"unit": "labels", "of": 16, "changed": 6, "changed_by_batch": 6, "texts": 16}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "dtype"),
    [("onnx", "float16"), ("onnx", "int8"), ("onnx", "int8-static"), ("openvino", "float16"), ("openvino", "int8")],
)
def test_export_in_fewer_bits(format: str, dtype: str, tmp_path: Path) -> None:
    """Half the bytes and less, the costs in the report and in the card."""
    if format == "openvino":
        pytest.importorskip("nncf", reason="needs nncf")
    model = make_model(tmp_path, "Model")
    report = export(model, tmp_path / "out", format=format, dtype=dtype)
    loss = report["loss"]
    assert (loss["unit"], loss["of"]) == ("nearest neighbours", loss["texts"])
    assert loss["changed"] <= loss["of"] // 3
    limits = {check["limit"] for check in report["checks"] if check["name"].startswith("outputs at")}
    assert limits == ({1e-4} if dtype == "float16" else {None})
    assert f"{loss['changed']} of {loss['of']} nearest neighbours" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["ForMaskedLM", "ForQuestionAnswering", "ForMultipleChoice", "ForTokenClassification"])
def test_losses_of_every_head(head: str, tmp_path: Path) -> None:
    report = export(make_model(tmp_path, head), tmp_path / "out", dtype="int8-static")
    assert report["loss"]["of"] > 0


def test_export_refuses_a_dtype(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--dtype of openvino must be one of float32, float16, int8, got"):
        export(tmp_path, tmp_path / "out", format="openvino", dtype="int8-static")
