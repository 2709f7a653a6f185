# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.exporting.sentence_encoder`: embeddings by sentence-transformers around an export."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from hf_longformer import HfLongformerForMaskedLM, HfLongformerModel
from hf_longformer.conversion import InputError, convert, export as export_to_stock
from hf_longformer.exporting import export

pytest.importorskip("onnxscript", reason="needs onnxscript")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")

from test_sentence_transformers import TEXTS, load, make_sentence_source

from hf_longformer.exporting.sentence_encoder import load_sentence_encoder
from hf_longformer.finetune.embeddings import Embedder


def embeddings(embedder: Any, texts: list[str]) -> list[numpy.ndarray]:
    """By the server's way."""
    rows, windows = embedder.prepare([{"text": text, "truncate": True} for text in texts])
    return [one["embedding"] for one in embedder.finish(rows, windows, embedder.outputs(windows))]


def test_embeddings_are_those_of_pytorch(tmp_path: Path) -> None:
    make_sentence_source(tmp_path)
    convert(tmp_path / "sentences", tmp_path / "model", max_length=300, attention_window=16)
    export(tmp_path / "model", tmp_path / "onnx")
    model, exported = load(tmp_path / "model"), load_sentence_encoder(tmp_path / "onnx")
    texts = [*TEXTS, "fox " * 400, "a text " * 60]  # the fifth is cut
    for prompt in (None, "query: "):
        found, expected = (one.encode(texts, prompt=prompt) for one in (exported, model))
        numpy.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert exported.get_embedding_dimension() == 7
    served = [
        Embedder.load(str(tmp_path / name), backend=backend) for name, backend in (("model", "torch"), ("onnx", "onnx"))
    ]
    assert served[0].size == served[1].size == 7
    found, expected = (embeddings(one, TEXTS) for one in served[::-1])
    numpy.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    with pytest.raises(NotImplementedError, match="an export is saved already"):
        exported.save(str(tmp_path / "again"))
    shutil.rmtree(next((tmp_path / "onnx").glob("1_*")))  # a module
    with pytest.raises(InputError, match="cannot be used by sentence-transformers"):
        load_sentence_encoder(tmp_path / "onnx")


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be made of a sentence-transformers folder"):
        load_sentence_encoder(tmp_path)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [(HfLongformerForMaskedLM, "without a head, got a HfLongformerForMaskedLM in"), (HfLongformerModel, "a tokenizer")],
)
def test_export_that_gives_no_embeddings_is_refused(
    kind: Any, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with a head, and one without a tokenizer."""
    exported = SimpleNamespace(model_class=kind)
    monkeypatch.setattr("hf_longformer.finetune.embeddings.predictor.load_exported", lambda *_: exported)
    with pytest.raises(InputError, match=sentence):
        Embedder.load(str(tmp_path), backend="onnx")


def test_stock_encoder_inside_modules_is_refused(tmp_path: Path) -> None:
    """Which sentence-transformers would load as stock Longformer."""
    make_sentence_source(tmp_path)
    convert(tmp_path / "sentences", tmp_path / "model", max_length=300, attention_window=16, check=False)
    export_to_stock(tmp_path / "model", tmp_path / "stock")
    with pytest.raises(InputError, match="needs a checkpoint of this package, got one of longformer in"):
        Embedder.load(str(tmp_path / "stock"))
