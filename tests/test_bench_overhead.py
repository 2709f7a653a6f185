# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer bench overhead`: parity, what is counted, and its file of results."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_longformer.benchmarks import overhead
from hf_longformer.benchmarks.overhead import (
    GLOBAL,
    ROBERTA,
    WINDOWS,
    OperatorCount,
    make_peers,
    run_overhead,
    table,
    text_of,
)
from hf_longformer.benchmarks.parity import ParityError
from hf_longformer.conversion import InputError

FEW: dict[str, Any] = {"lengths": (7, 40), "passes": 1}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small model, and timings that are not repeated."""
    monkeypatch.setitem(overhead.SIZE, "num_hidden_layers", 2)
    monkeypatch.setattr(overhead, "WINDOW", 16)
    monkeypatch.setattr("hf_longformer.benchmarks.measure.SHORTEST_TIMING", 1e-6)


@pytest.fixture
def measured(tmp_path: Path) -> dict[str, Any]:
    return run_overhead(tmp_path / "r.json", **FEW)


def test_operators_are_counted_backward_too():
    weight = torch.ones(3, requires_grad=True)
    with OperatorCount() as forward:
        output = (weight * 2).sum()
    with OperatorCount() as backward:
        output.backward()
    assert forward.count == 2
    assert backward.count > 2  # ones, expand, mul, and the gradient is kept


def test_all_of_it_and_again(measured: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert json.loads((tmp_path / "r.json").read_text()) == measured
    assert [(cell["suite"], cell["length"]) for cell in measured["cells"]] == [
        ("inference", 7), ("inference", 40), ("training", 7), ("training", 40),
    ]  # fmt: skip
    for cell in measured["cells"]:
        counts = {name: cell["peers"][name]["operators"] for name in (ROBERTA, WINDOWS, GLOBAL)}
        assert 0 < counts[WINDOWS] < counts[GLOBAL]
        assert counts[ROBERTA] > (300 if cell["suite"] == "training" else 60)
        assert all(cell["peers"][name]["seconds"] > 0 for name in counts)
    monkeypatch.setattr(overhead, "measure", lambda *_: pytest.fail("measured again"))
    assert run_overhead(tmp_path / "r.json", **FEW) == measured


def test_table():
    figures = {"seconds": 0.002, "spread": 0.0, "operators": 1000}
    peers = {ROBERTA: figures, WINDOWS: {**figures, "seconds": 0.003}, GLOBAL: {**figures, "operators": 1300}}
    cells = [{"suite": suite, "length": 64, "peers": peers} for suite in ("training", "inference")]
    lines = table({"cells": cells}).splitlines()
    assert lines[0] == "| | tokens | RoBERTa | hf-longformer | hf-longformer, <s> global |"
    row = (
        "| 2.00 ms, 1,000 operators | 3.00 ms (1.50), 1,000 operators (1.00) | 2.00 ms (1.00), 1,300 operators (1.30) |"
    )
    assert lines[2:] == [f"| inference | 64 {row}", f"| training | 64 {row}"]


def test_nothing_is_measured_of_another_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def other(longest: int) -> Any:
        peers = make_peers(longest)
        torch.nn.init.ones_(peers[WINDOWS].model.encoder.layer[1].attention.self.value.bias)
        return peers

    monkeypatch.setattr(overhead, "make_peers", other)
    with pytest.raises(ParityError, match="must compute what a dense model computes"):
        run_overhead(tmp_path / "r.json", **FEW)
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def test_a_global_token_changes_the_output():
    """Otherwise it would be measured by its name alone."""
    peers = make_peers(40)
    windows, with_global = (peers[name].hidden_states(peers[name].inputs(text_of(40))) for name in (WINDOWS, GLOBAL))
    assert not torch.allclose(windows, with_global, atol=1e-4)


DAMAGES: dict[str, Any] = {
    "no cells": lambda results: results.pop("cells"),
    "no peer": lambda results: results["cells"][0]["peers"].pop(GLOBAL),
    "a word for a number": lambda results: results["cells"][0]["peers"][ROBERTA].update(operators="1"),
    "an unknown suite": lambda results: results["cells"][0].update(suite="writing"),
    "no object": lambda results: results["cells"].append(3),
}


def test_damaged_and_foreign_results_are_refused(measured: dict[str, Any], tmp_path: Path):
    file = tmp_path / "r.json"
    for damage in DAMAGES.values():
        results = json.loads(json.dumps(measured))
        damage(results)
        file.write_text(json.dumps(results))
        with pytest.raises(InputError, match="must hold results of this command"):
            run_overhead(file, **FEW)
    file.write_text(json.dumps({**measured, "threads": 77}))
    with pytest.raises(InputError, match="with other threads, 77 instead of"):
        run_overhead(file, **FEW)


@pytest.fixture
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_command_line(bench, tmp_path: Path):
    code, out, error = bench("overhead", "--lengths", 9, "--passes", 1, "--output", tmp_path / "r.json")
    assert (code, error) == (0, "")
    assert "| training | 9 |" in out
    assert f"results in {tmp_path / 'r.json'}" in out
    assert json.loads((tmp_path / "r.json").read_text())["threads"] == 1


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--windows", "8", "--seeds", "1"], "`bench overhead` does not take --seeds, --windows: "),
        (["--lengths", "64,64"], "--lengths must name nothing twice, got 64, 64"),
        (["--lengths", "1"], "--lengths must be at least 2 tokens, of which one may be global, got 1"),
        (["--output", "nowhere/r.json"], "--output must be a file in a folder that exists"),
    ],
)
def test_bad_input_is_one_sentence(bench, arguments: list[str], words: str, tmp_path: Path):
    output = [] if "--output" in arguments else ["--output", tmp_path / "r.json"]
    code, out, error = bench("overhead", *arguments, *output)
    assert (code, out) == (2, "")
    assert words in error
    assert not list(tmp_path.iterdir())
