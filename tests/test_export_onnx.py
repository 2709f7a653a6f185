# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.exporting`: ONNX files that give what the model in PyTorch gives, or are not written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cli import command  # noqa: F401  # a fixture

import hf_longformer
from hf_longformer import HfLongformerConfig
from hf_longformer.conversion import GateError, InputError
from hf_longformer.exporting import export, load_exported
from hf_longformer.exporting.heads import HEADS, REFUSED
from hf_longformer.exporting.samples import Case, sample

onnx = pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxscript", reason="needs onnxscript")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

SIZES: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "attention_window": 16,
    "max_position_embeddings": 402,  # 400 tokens
    "initializer_range": 0.3,
    "sep_token_id": 2,
}


def save(folder: Path, head: str, **settings: Any) -> Path:
    """A small checkpoint; its outputs are about 1."""
    torch.manual_seed(0)
    getattr(hf_longformer, f"HfLongformer{head}")(HfLongformerConfig(**(SIZES | settings))).save_pretrained(folder)
    return folder


def assert_equal(model: Any, exported: Any, inputs: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        expected = model(**inputs)
    found, real = exported(**inputs), inputs["attention_mask"].bool()
    assert sorted(found) == sorted(expected)
    for name, one in expected.items():
        kept = ... if one.shape[: real.dim()] != real.shape else real
        torch.testing.assert_close(found[name][kept], one[kept], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier and, beside it, `onnx`, its export."""
    place = tmp_path_factory.mktemp("classifier")
    save(place / "model", "ForSequenceClassification", type_vocab_size=2)
    export(place / "model", place / "onnx")
    return place


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder and, beside it, `onnx`, its export with global tokens as an input."""
    place = tmp_path_factory.mktemp("encoder")
    save(place / "model", "Model")
    export(place / "model", place / "onnx", global_attention_mask=True)
    return place


def test_export_of_a_classifier(classifier: Path) -> None:
    model = hf_longformer.HfLongformerForSequenceClassification.from_pretrained(classifier / "model").eval()
    exported = load_exported(classifier / "onnx")
    for case in (Case(1, 1, "none", None), Case(4, 399, "left", None), Case(2, 400, "right", None)):
        assert_equal(model, exported, sample(model.config, case, with_global_mask=False, seed=5))
    report = json.loads((classifier / "onnx" / "export_report.json").read_text())
    lengths = [int(check["name"].split()[2]) for check in report["checks"] if check["name"].startswith("outputs at")]
    assert lengths[:2] + lengths[-1:] == [1, 7, 400]
    assert {15, 17, 32, 33} < set(lengths)
    assert report["inputs"]["token_type_ids"] == ["batch", "length"]
    card = (classifier / "onnx" / "README.md").read_text()
    assert "| outputs at 400 tokens" in card


def test_export_has_plain_operators_and_named_dimensions(classifier: Path) -> None:
    file = onnx.load(classifier / "onnx" / "model.onnx")
    onnx.checker.check_model(file)
    assert {node.domain for node in file.graph.node} == {""}
    assert file.functions == []
    shapes = [[one.dim_param for one in value.type.tensor_type.shape.dim] for value in file.graph.input]
    assert shapes == [["batch", "length"]] * 3
    assert not any(str(Path.home()) in str(node.metadata_props) for node in file.graph.node)


def test_export_with_global_tokens_as_an_input(encoder: Path) -> None:
    model = hf_longformer.HfLongformerModel.from_pretrained(encoder / "model").eval()
    exported = load_exported(encoder / "onnx")
    for case in (Case(3, 200, "left", 70), Case(2, 1, "none", 1), Case(2, 333, "right", 0)):
        assert_equal(model, exported, sample(model.config, case, with_global_mask=True, seed=5))
    without = sample(model.config, Case(2, 50, "right", None), with_global_mask=False)
    assert_equal(model, exported, without)  # the model's own choice


@pytest.mark.slow
@pytest.mark.parametrize("with_global_mask", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_export_of_every_head(head: str, with_global_mask: bool, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"tag_layers": 3} if head == "ForTokenClassification" else {}
    settings |= {"num_hidden_layers": 2, "attention_window": [16, 32], "attention_dilation": [[1, 1], [1, 2]]}
    save(tmp_path / "model", head, **settings)
    export(tmp_path / "model", tmp_path / "onnx", global_attention_mask=with_global_mask)
    model = getattr(hf_longformer, f"HfLongformer{head}").from_pretrained(tmp_path / "model").eval()
    exported = load_exported(tmp_path / "onnx")
    for case in (Case(2, 111, "left", 40 if with_global_mask else None), Case(1, 257, "none", None)):
        assert_equal(model, exported, sample(model.config, case, case.num_global is not None, seed=5))


REFUSALS = {
    "length": ({"input_ids": torch.full((1, 401), 7)}, ValueError, "the longest text has 401 tokens"),
    "id": ({"input_ids": torch.tensor([[5, 90]])}, ValueError, "input_ids must lie in 0 … 89, got 5 … 90"),
    "type": (
        {"input_ids": torch.tensor([[5, 6]]), "token_type_ids": torch.tensor([[0, 2]])},
        ValueError,
        "token_type_ids must lie in 0 … 1",
    ),
    "shape": (
        {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)},
        ValueError,
        r"attention_mask must have the shape \(1, 2\)",
    ),
    "mask": (
        {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.tensor([[1, 2]])},
        ValueError,
        "attention_mask must hold 0 and 1 only",
    ),
    "padding": ({"input_ids": torch.tensor([[5, 1]])}, ValueError, "attention_mask is needed"),
    "global": (
        {"input_ids": torch.tensor([[5, 6]]), "global_attention_mask": torch.tensor([[1, 0]])},
        NotImplementedError,
        "export it with --global-attention-mask",
    ),
    "embeddings": (
        {"input_ids": torch.tensor([[5, 6]]), "inputs_embeds": torch.ones(1, 2, 16)},
        NotImplementedError,
        "got inputs_embeds",
    ),
    "empty": ({"input_ids": torch.ones(1, 0, dtype=torch.long)}, ValueError, "none empty"),
}


@pytest.mark.parametrize("wrong", REFUSALS)
def test_exported_model_refuses(wrong: str, classifier: Path) -> None:
    """What the model in PyTorch refuses; ONNX Runtime would give numbers for some of it."""
    inputs, error, words = REFUSALS[wrong]
    with pytest.raises(error, match=words):
        load_exported(classifier / "onnx")(**inputs)


def test_exported_model_refuses_global_padding(encoder: Path) -> None:
    ids, real, mask = torch.tensor([[5, 1]]), torch.tensor([[1, 0]]), torch.tensor([[0, 1]])
    with pytest.raises(ValueError, match="a global token must be a real token"):
        load_exported(encoder / "onnx")(ids, real, mask)


def test_a_wrong_export_is_not_written(classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate reads the file that was written: here, that of another checkpoint."""

    def write(model: Any, inputs: Any, dimensions: Any, file: Path) -> None:
        file.write_bytes((classifier / "onnx" / "model.onnx").read_bytes())

    monkeypatch.setattr("hf_longformer.exporting.to_onnx.write", write)
    other = save(tmp_path / "other", "ForSequenceClassification", type_vocab_size=2, initializer_range=0.31)
    with pytest.raises(GateError, match="the export is not equal to its checkpoint: outputs at 1 tokens"):
        export(other, tmp_path / "onnx")
    assert [one.name for one in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize("head", ["ForCausalLM", "ForCoreference", "ForEvidenceQuestionAnswering"])
def test_export_refuses_a_head_by_its_name(head: str, tmp_path: Path) -> None:
    settings = {"is_decoder": True} if head == "ForCausalLM" else {}
    save(tmp_path / "model", head, **settings)
    with pytest.raises(InputError, match=f"HfLongformer{head} cannot be exported to a graph: {REFUSED[head][:20]}"):
        export(tmp_path / "model", tmp_path / "onnx")


def test_command_refuses(command, classifier: Path, tmp_path: Path) -> None:  # noqa: F811
    done = command("export", classifier / "model", classifier / "onnx", "--format", "onnx")
    assert (done.code, "--overwrite replaces it" in done.sentence) == (2, True)
    done = command("export", classifier / "model", tmp_path / "stock", "--global-attention-mask")
    assert (done.code, "--global-attention-mask is of graphs" in done.sentence) == (2, True)
    save(tmp_path / "coref", "ForCoreference")
    done = command("export", tmp_path / "coref", tmp_path / "onnx", "--format", "onnx")
    assert (done.code, "HfLongformerForCoreference cannot be exported" in done.sentence) == (2, True)


def test_load_exported_refuses_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got no export_report\.json"):
        load_exported(save(tmp_path / "model", "Model"))
    with pytest.raises(InputError, match="a backend must be one of"):
        load_exported(tmp_path / "model", "tensorrt")
