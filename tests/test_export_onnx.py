# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.exporting`: ONNX files that give what the model in PyTorch gives, or are not written."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cli import command  # noqa: F401  # a fixture

import hf_longformer
from hf_longformer import HfLongformerConfig
from hf_longformer.conversion import GateError, InputError
from hf_longformer.exporting import ExportedModel, export, load_exported
from hf_longformer.exporting.gate import outputs_of
from hf_longformer.exporting.heads import HEADS, REFUSED
from hf_longformer.exporting.samples import Case, sample
from hf_longformer.exporting.sessions import Session
from hf_longformer.exporting.to_onnx import foreign_operators

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


def load(folder: Path) -> Any:
    config = HfLongformerConfig.from_pretrained(folder)
    return getattr(hf_longformer, config.architectures[0]).from_pretrained(folder).eval()


def assert_equal(model: Any, exported: Any, inputs: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        expected = model(**inputs)
    found, real = exported(**inputs), inputs["attention_mask"].bool()
    assert sorted(found) == sorted(expected)
    for name, one in expected.items():
        kept = ... if one.shape[: real.dim()] != real.shape else real
        torch.testing.assert_close(found[name][kept], one[kept], atol=1e-4, rtol=0)


def test_export_of_a_classifier(tmp_path: Path) -> None:
    model = load(save(tmp_path / "model", "ForSequenceClassification", type_vocab_size=2))
    export(tmp_path / "model", tmp_path / "onnx")
    exported = load_exported(tmp_path / "onnx")
    for case in (Case(1, 1, "none", None), Case(4, 399, "left", None), Case(2, 400, "right", None)):
        assert_equal(model, exported, sample(model.config, case, with_global_mask=False, seed=5))
    report = json.loads((tmp_path / "onnx" / "export_report.json").read_text())
    lengths = [int(check["name"].split()[2]) for check in report["checks"] if check["name"].startswith("outputs at")]
    assert lengths[:2] + lengths[-1:] == [1, 7, 400]
    assert {15, 17, 32, 33} < set(lengths)
    assert report["inputs"]["token_type_ids"] == ["batch", "length"]
    assert "| outputs at 400 tokens" in (tmp_path / "onnx" / "README.md").read_text()
    file = onnx.load(tmp_path / "onnx" / "model.onnx")
    onnx.checker.check_model(file)
    assert {node.domain for node in file.graph.node} == {""}  # ONNX's own operators
    assert (file.functions, foreign_operators(tmp_path / "onnx" / "model.onnx")) == ([], [])
    shapes = [[one.dim_param for one in value.type.tensor_type.shape.dim] for value in file.graph.input]
    assert shapes == [["batch", "length"]] * 3
    assert not [node.metadata_props for node in file.graph.node if node.metadata_props]  # places in whose source code


def test_export_with_global_tokens_as_an_input(tmp_path: Path) -> None:
    model = load(save(tmp_path / "model", "Model"))
    export(tmp_path / "model", tmp_path / "onnx", global_attention_mask=True)
    exported = load_exported(tmp_path / "onnx")
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
    model, exported = load(tmp_path / "model"), load_exported(tmp_path / "onnx")
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


def unopened(*inputs: str) -> ExportedModel:
    """A file for these inputs that must not be run."""
    config = HfLongformerConfig(**SIZES, type_vocab_size=2, architectures=["HfLongformerForSequenceClassification"])
    return ExportedModel(Path("nowhere"), Session(("input_ids", "attention_mask", *inputs), ("logits",), None), config)


@pytest.mark.parametrize("wrong", REFUSALS)
def test_exported_model_refuses(wrong: str) -> None:
    """What the model in PyTorch refuses; runtimes would give numbers for some of it."""
    inputs, error, words = REFUSALS[wrong]
    with pytest.raises(error, match=words):
        unopened("token_type_ids")(**inputs)


def test_exported_model_refuses_global_padding() -> None:
    ids, real, mask = torch.tensor([[5, 1]]), torch.tensor([[1, 0]]), torch.tensor([[0, 1]])
    with pytest.raises(ValueError, match="a global token must be a real token"):
        unopened("global_attention_mask")(ids, real, mask)


@pytest.mark.parametrize("damage", ["number", "nan", "shape", "name"])
def test_a_wrong_export_is_not_written(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose last text is read otherwise than in PyTorch, where there are several."""
    model = load(save(tmp_path / "model", "ForSequenceClassification"))

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        logits = outputs_of(model, {name: torch.from_numpy(array) for name, array in inputs.items()})["logits"].copy()
        if len(logits) == 1:
            return {"logits": logits}
        logits[-1, 0] += {"number": 2e-4, "nan": float("nan")}.get(damage, 0.0)
        return {"scores" if damage == "name" else "logits": logits[:, :1] if damage == "shape" else logits}

    monkeypatch.setattr("hf_longformer.exporting.to_onnx.write", lambda *_: None)
    monkeypatch.setattr(sys.modules[export.__module__], "open_session", lambda *_: Session((), ("logits",), run))
    with pytest.raises(GateError, match="the export is not equal to its checkpoint: outputs at 1 tokens") as failed:
        export(tmp_path / "model", tmp_path / "onnx")
    assert not any(check["passed"] for check in failed.value.report["checks"] if " 2 batches" not in check["name"])
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("head", ["ForCausalLM", "ForCoreference", "ForEvidenceQuestionAnswering"])
def test_export_refuses_a_head_by_its_name(head: str, tmp_path: Path) -> None:
    settings = {"is_decoder": True} if head == "ForCausalLM" else {}
    save(tmp_path / "model", head, **settings)
    with pytest.raises(InputError, match=f"HfLongformer{head} cannot be exported to a graph: {REFUSED[head][:20]}"):
        export(tmp_path / "model", tmp_path / "onnx")


def test_command_refuses(command, tmp_path: Path) -> None:  # noqa: F811
    model = save(tmp_path / "model", "ForSequenceClassification")
    (tmp_path / "there").mkdir()
    done = command("export", model, tmp_path / "there", "--format", "onnx")
    assert (done.code, "--overwrite replaces it" in done.sentence) == (2, True)
    done = command("export", model, tmp_path / "stock", "--global-attention-mask")
    assert (done.code, "--global-attention-mask are of graphs" in done.sentence) == (2, True)
    save(tmp_path / "coref", "ForCoreference")
    done = command("export", tmp_path / "coref", tmp_path / "onnx", "--format", "onnx")
    assert (done.code, "HfLongformerForCoreference cannot be exported" in done.sentence) == (2, True)


def test_load_exported_refuses_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got no export_report\.json"):
        load_exported(save(tmp_path / "model", "Model"))
    with pytest.raises(InputError, match="a backend must be one of"):
        load_exported(tmp_path / "model", "tensorrt")


@pytest.mark.parametrize("format", ["foo", ["onnx"], {}, None])
def test_load_exported_refuses_other_reports(format: Any, tmp_path: Path) -> None:
    (tmp_path / "export_report.json").write_text(json.dumps({"format": format}))
    with pytest.raises(InputError, match="must be exported with --format onnx, got an export to"):
        load_exported(tmp_path)


@pytest.mark.slow
def test_texts_of_any_length(tmp_path: Path) -> None:
    """Positions repeat in the graph as they do in the model."""
    source = save(tmp_path / "model", "Model", repeat_positions=True)
    report = export(source, tmp_path / "onnx", format="onnx")
    assert report["max_length"] is None
    assert "for texts of any length, as onnx" in (tmp_path / "onnx" / "README.md").read_text()
    exported = load_exported(tmp_path / "onnx", "onnx")
    model = hf_longformer.HfLongformerModel.from_pretrained(source).eval()
    ids = torch.randint(5, 90, (1, 5000), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(exported(ids).last_hidden_state, model(ids).last_hidden_state, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read as Linux says it")
def test_memory_of_long_texts_is_given_back(tmp_path: Path) -> None:
    export(save(tmp_path / "model", "ForTokenClassification"), tmp_path / "out")
    exported = load_exported(tmp_path / "out")
    exported(torch.full((1, 50), 7))
    before = resident_megabytes()
    exported(torch.full((256, 400), 7))
    assert resident_megabytes() - before < 100  # 248 are taken, which ONNX Runtime by itself would keep


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
