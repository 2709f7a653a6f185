# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`context_parallel`: processes that share a document compute what one process computes; `context_parallel_runs.py` is
what each of them does.
"""

from pathlib import Path

import pytest
from warm import run_several

RUNS = Path(__file__).with_name("context_parallel_runs.py")


def check(number: int, folder: Path, *checks: str) -> None:
    """Runs checks in so many processes, one group for all of them."""
    done = run_several(number, ["python", RUNS, folder, ",".join(checks)])
    assert done.returncode == 0, done.stderr[-3000:]
    for words in checks:
        assert done.stdout.count(f"checked {words}\n") == number


def test_two_processes_compute_what_one_computes(tmp_path: Path) -> None:
    """Outputs, losses and all gradients of every head."""
    check(2, tmp_path, "seeds 0 8", "bytes", "dropout", "refusals")


def test_four_processes_compute_what_one_computes(tmp_path: Path) -> None:
    """Slices are often shorter than what windows reach; and two groups of two, under DDP and FSDP2."""
    check(4, tmp_path, "seeds 14 19", "bytes", "mesh 5 8")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "first"), [(2, 100), (3, 150), (4, 200)])
def test_many_problems(number: int, first: int, tmp_path: Path) -> None:
    check(number, tmp_path, f"seeds {first} {first + 50}")


@pytest.mark.slow
def test_many_problems_on_a_mesh(tmp_path: Path) -> None:
    check(4, tmp_path, "mesh 300 321")
