# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/gpu_check.sh`, as far as a machine without a GPU can run it: with tiny sizes, on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_longformer.benchmarks import gpu_check

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu_check.sh"


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OUT": str(folder), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run([str(SCRIPT), *arguments], env=environment, capture_output=True, text=True)


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    return json.loads((folder / "gpu_check.json").read_text())["rows"]


def test_one_part_and_what_is_left_out(tmp_path: Path) -> None:
    """Every row of the table is there, with a figure or a reason."""
    result = run(tmp_path, "--dry-run", PARTS="quick")
    assert result.returncode == 0, result.stdout + result.stderr
    (rows,) = rows_of(tmp_path).values()
    assert list(rows) == [row for rows in gpu_check.PARTS.values() for row in rows]
    assert set(rows) == set(gpu_check.ROWS)
    measured = {name for name, row in rows.items() if "value" in row}
    assert measured == {
        *("operator_masks", "operator_number", "operator_roles", "inference_1", "inference_16", "training_1"),
    }
    assert rows["flash_attention_4"]["missing"] == "needs a GPU and the package flash-attn-4"
    assert rows["training_16"]["missing"] == "training_compiled ended before it"
    table = (tmp_path / "gpu_check.txt").read_text()
    assert result.stdout.startswith(table)
    assert table.count("\n| ") == len(gpu_check.ROWS)
    assert "a CPU, tiny sizes: figures mean nothing" in table


@pytest.mark.slow
def test_all_parts_beside_an_older_commit(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository's history")
    result = run(tmp_path, "--dry-run", "HEAD")
    assert result.returncode == 0, result.stdout + result.stderr
    one, other = rows_of(tmp_path).values()
    assert {name for name in one if "value" in one[name]} == {name for name in other if "value" in other[name]}
    assert {name for name in one if "missing" in one[name]} == {
        *("kernels", "kernels_dropout", "operator_over_kernels", "operator_flex", "flash_attention_4"),
    }
    assert not (tmp_path / "older").exists()


def test_what_is_over_time_is_said_and_passed_over(tmp_path: Path) -> None:
    result = run(tmp_path, "--dry-run", PARTS="quick inference_graph", BUDGET="0")
    assert result.returncode == 1
    assert result.stdout.count("left out, the time is over") == 2
    assert all("missing" in row for row in next(iter(rows_of(tmp_path).values())).values())


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (("--fast",), {}, "usage: gpu_check.sh [--dry-run] [OLDER_COMMIT], got --fast"),
        (("--dry-run", "no-such-commit"), {}, "OLDER_COMMIT must be a commit of this repository, got no-such-commit"),
        (("--dry-run",), {"PARTS": "all"}, "got all"),
    ],
)
def test_refused(arguments: tuple[str, ...], variables: dict[str, str], sentence: str, tmp_path: Path) -> None:
    result = run(tmp_path, *arguments, **variables)
    assert result.returncode == 2
    assert sentence in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_is_asked_for(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.returncode == 2
    assert "needs a GPU that PyTorch sees, got none: --dry-run" in result.stderr


def test_rows_that_fail_do_not_end_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And without parity there are none."""

    def fail(*_: Any) -> None:
        raise RuntimeError("no room\nand more")

    monkeypatch.setattr(gpu_check.Check, "kernels", fail)
    monkeypatch.setitem(gpu_check.PARTS, "quick", ("kernels", "operator_masks", "operator_over_kernels"))
    file = tmp_path / "rows.json"
    assert gpu_check.run_part("quick", file, ROOT, is_dry=True) == 1
    rows = json.loads(file.read_text())
    assert rows["kernels"]["missing"] == "failed: RuntimeError: no room"
    assert rows["operator_masks"]["value"] > 0
    assert "missing" in rows["operator_over_kernels"]
    monkeypatch.setattr(gpu_check.Check, "parity", fail)
    assert gpu_check.run_part("quick", file, ROOT, is_dry=True) == 1
    assert {row["missing"] for row in json.loads(file.read_text()).values()} == {"no parity: no room\nand more"}


def test_another_package_than_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the package must be that of"):
        gpu_check.run_part("quick", tmp_path / "rows.json", tmp_path, is_dry=True)
