# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.exporting` to ExecuTorch: one text of one length at a time, and the same numbers."""

import json
from pathlib import Path

import pytest
import torch
from test_export_onnx import assert_equal, load, save

from hf_longformer.conversion import InputError
from hf_longformer.exporting import export, load_exported
from hf_longformer.exporting.samples import Case, sample


@pytest.mark.parametrize(
    ("head", "fields", "sentence"),
    [
        ("ForMultipleChoice", {}, "reads one text, got a head that reads several choices"),
        ("Model", {"repeat_positions": True}, "texts of one length, got a checkpoint for texts of any length"),
    ],
)
def test_export_to_executorch_refuses(head: str, fields: dict[str, object], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        export(save(tmp_path / "model", head, **fields), tmp_path / "out", format="executorch")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("head", ["ForTokenClassification", "ForSequenceClassification"])
@pytest.mark.parametrize("with_mask", [False, True])
def test_export_to_executorch(head: str, with_mask: bool, tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason="needs executorch")
    model = load(save(tmp_path / "model", head))
    report = export(tmp_path / "model", tmp_path / "out", format="executorch", global_attention_mask=with_mask)
    assert {check["passed"] for check in report["checks"]} == {True}
    assert "executorch" in json.loads((tmp_path / "out" / "export_report.json").read_text())["versions"]
    exported = load_exported(tmp_path / "out", "executorch")
    for case in (Case(1, 1, "none", 1), Case(3, 399, "left", 4), Case(2, 400, "right", 0)):
        case = case if with_mask else case._replace(num_global=None)
        assert_equal(model, exported, sample(model.config, case, with_mask, seed=5))
    ids = torch.full((1, 401), 7)
    with pytest.raises(ValueError, match="the longest text has 401 tokens"):
        exported(ids)
    mask = torch.ones_like(ids)
    mask[:, 0] = 0
    with pytest.raises(ValueError, match="reads 400 tokens, padding included, got 401"):
        exported(ids, mask)
    with pytest.raises(InputError, match="must be exported with --format onnx, got an export to executorch"):
        load_exported(tmp_path / "out", "onnx")


def test_damaged_programs_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason="needs executorch")
    export(save(tmp_path / "model", "Model"), tmp_path / "out", format="executorch")
    (tmp_path / "out" / "model.pte").write_bytes(b"no program")
    with pytest.raises(InputError, match="cannot be opened by ExecuTorch"):
        load_exported(tmp_path / "out", "executorch")
