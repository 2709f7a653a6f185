# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.exporting` to `torch.export`: a program that runs where this package is not installed."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_export_onnx import assert_equal, load, save

from hf_longformer.conversion import InputError
from hf_longformer.exporting import export, load_exported
from hf_longformer.exporting.samples import Case, sample
from hf_longformer.exporting.sessions import open_session

WITHOUT = """
import sys
sys.modules["hf_longformer"] = sys.modules["transformers"] = None
import torch
ids = torch.full((2, 77), 7)
outputs = torch.export.load(sys.argv[1]).module()(input_ids=ids, attention_mask=torch.ones_like(ids))
torch.save(outputs, sys.argv[2])
"""


def test_damaged_program_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In a sentence alone: PyTorch writes a traceback for what is no archive."""
    (tmp_path / "model.pt2").write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"model\.pt2 cannot be opened by PyTorch"):
        open_session(tmp_path, "torch-export")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_program_runs_without_the_package(tmp_path: Path) -> None:
    model = load(save(tmp_path / "model", "ForQuestionAnswering", type_vocab_size=1))
    export(tmp_path / "model", tmp_path / "out", format="torch-export")
    exported = load_exported(tmp_path / "out", "torch-export")
    for case in (Case(1, 1, "none", None), Case(4, 399, "left", None), Case(2, 400, "right", None)):
        assert_equal(model, exported, sample(model.config, case, with_global_mask=False, seed=5))
    words = [sys.executable, "-c", WITHOUT, str(tmp_path / "out" / "model.pt2"), str(tmp_path / "outputs")]
    subprocess.run(words, check=True)
    expected = exported(torch.full((2, 77), 7))
    for name, one in torch.load(tmp_path / "outputs").items():
        torch.testing.assert_close(one, expected[name])
