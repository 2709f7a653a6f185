# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`tests/measured.py`: trainings that are done once, several at a time, and results that are kept row by row."""

from pathlib import Path

import measure_ablation
import pytest
from measured import Run, kept, read_known, run_all, run_once, spread

SCRIPT = """
import json, os, sys
from pathlib import Path
import torch

def main(words):
    folder = Path(words[words.index("--output_dir") + 1])
    (folder / "checkpoint-1").mkdir(parents=True)
    found = {"command": " ".join(sys.argv), "threads": torch.get_num_threads(), "process": os.getpid()}
    (folder / "results.json").write_text(json.dumps(found))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "script_of_a_test.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    return tmp_path


def runs(place: Path, number: int) -> list[Run]:
    options = {"seed": 3, "train_files": [place / "a.txt", place / "b.txt"]}
    return [Run("script_of_a_test", place / "recipe.yaml", place / f"run-{one}", options) for one in range(number)]


def test_run_once_does_not_repeat(place: Path) -> None:
    (run,) = runs(place, 1)
    found = run_once(run)
    words = "recipe.yaml --output_dir run-0 --report_to none --seed 3 --train_files a.txt b.txt"
    assert kept(found)["command"] == f"script_of_a_test.py {words}"
    assert not list(run.folder.glob("checkpoint-*"))
    (run.folder / "results.json").write_text('{"command": "the first"}')
    assert run_once(run) == {"command": "the first"}


def test_run_all_shares_the_cores(place: Path) -> None:
    found = list(run_all(runs(place, 3), 2))
    assert ["run-0" in one["command"] for one in found] == [True, False, False]
    assert len({one["process"] for one in found}) == 3
    assert all(one["threads"] >= 1 for one in found)


def test_known_rows_are_not_measured_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, asked = list(measure_ablation.ROWS), []

    def done(wanted: list[Run], processes: int) -> list[dict]:
        asked.extend(run.folder.name for run in wanted)
        return [{"scores": {"test": {"accuracy": 0.5}}, "rubbish": 1} for _ in wanted]

    monkeypatch.setattr(measure_ablation, "run_all", done)
    monkeypatch.setattr(measure_ablation, "RESULTS", place / "results.json")
    first = {"row": names[0], "seed": 0, "scores": {"test": {"accuracy": 0.75}}}
    results = {"rows": [first]}
    measure_ablation.measure(place, place / "reviews.jsonl", [0, 1], 1, results)
    assert len(asked) == len(set(asked)) == 2 * len(names) - 1
    written = read_known(place / "results.json", anew=False)
    assert written == results
    assert written["rows"][0] == first
    assert written["rows"][1] == {"row": names[1], "seed": 0, "scores": {"test": {"accuracy": 0.5}}}
    assert read_known(place / "results.json", anew=True) == {}
    table = measure_ablation.tables(written)["table 10"].splitlines()
    assert table[2] == f"| {names[0]} | 62.5 | 17.7 | 75.0, 50.0 |  | 73.8 |"
    assert table[3] == f"| {names[1]} | 50.0 | 0.0 | 50.0, 50.0 | -12.5 ± 12.5 | 73.1 |"


def test_spread() -> None:
    assert spread([1.0, 2.0]) == "1.5 | 0.7 | 1.0, 2.0"
    assert spread(iter([1.0]), 2) == "1.00 |  | 1.00"
