# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.exporting` to OpenVINO: the same numbers, and refusals where OpenVINO gives numbers all the same."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from test_export_onnx import assert_equal, load, save

from hf_longformer.conversion import InputError
from hf_longformer.exporting import export, load_exported
from hf_longformer.exporting.samples import Case, sample

pytest.importorskip("onnxscript", reason="needs onnxscript")
if importlib.util.find_spec("openvino") is None:  # importing it here would import its telemetry
    pytest.skip("needs openvino", allow_module_level=True)


def test_export_to_openvino(tmp_path: Path) -> None:
    model = load(save(tmp_path / "model", "ForTokenClassification", tag_layers=2))
    export(tmp_path / "model", tmp_path / "out", format="openvino")
    exported = load_exported(tmp_path / "out", "openvino")
    for case in (Case(1, 1, "none", None), Case(4, 399, "left", None), Case(2, 400, "right", None)):
        assert_equal(model, exported, sample(model.config, case, with_global_mask=False, seed=5))
    with pytest.raises(ValueError, match="the longest text has 401 tokens"):
        exported(torch.full((1, 401), 7))
    assert sys.modules["openvino_telemetry"] is None  # which would report every import
    with pytest.raises(InputError, match="must be exported with --format onnx, got an export to openvino"):
        load_exported(tmp_path / "out", "onnx")


@pytest.mark.slow
def test_export_with_global_tokens_as_an_input(tmp_path: Path) -> None:
    model = load(save(tmp_path / "model", "ForQuestionAnswering"))
    export(tmp_path / "model", tmp_path / "out", format="openvino", global_attention_mask=True)
    exported = load_exported(tmp_path / "out", "openvino")
    for case in (Case(3, 200, "left", 70), Case(2, 1, "none", 1), Case(2, 333, "right", 0)):
        assert_equal(model, exported, sample(model.config, case, with_global_mask=True, seed=5))
