# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.benchmarks`: measurements that can be trusted, on an encoder too small to be interesting."""

import json
from pathlib import Path

import pytest
import torch
from sources import make_source
from transformers import AutoModel

from hf_longformer.benchmarks.measure import compare, machine
from hf_longformer.benchmarks.peers import make_peers

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "encoder.json"


def test_peers_are_the_same_model(tmp_path: Path) -> None:
    """Stock gives our outputs, and dense attention gives them too where the window covers the text."""
    make_source(tmp_path / "source", "bert", "Model")
    folders = make_peers(tmp_path / "source", tmp_path, length=200, attention_window=400)
    input_ids = torch.arange(5, 90)[None].repeat(1, 2)
    with torch.no_grad():
        outputs = [AutoModel.from_pretrained(path).eval()(input_ids).last_hidden_state for path in folders.values()]
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], atol=1e-5, rtol=1e-5)


def test_compare_measures_time_and_memory(tmp_path: Path) -> None:
    make_source(tmp_path / "source", "bert", "Model", positions=2000)
    results = compare({"short": tmp_path / "source"}, 10, repeats=1), compare({"long": tmp_path / "source"}, 2000, 1)
    short, long = results[0]["short"], results[1]["long"]
    assert 0 < short["seconds"] < long["seconds"]
    assert long["peak_megabytes"] > short["peak_megabytes"] >= 0
    with pytest.raises(RuntimeError, match="measuring nothing failed"):
        compare({"nothing": tmp_path}, 10)


def test_machine_says_what_a_figure_must_carry() -> None:
    facts = machine()
    assert facts["processor"]
    assert {"torch", "transformers", "python", "hf-longformer"} == facts["versions"].keys()


def test_readme_shows_the_newest_results() -> None:
    report = json.loads(RESULTS.read_text())
    readme = (RESULTS.parents[2] / "README.md").read_text(encoding="utf-8")
    for row in report["rows"]:
        assert f"{row['seconds']:.2f} s" in readme, row
    for fact in (report["date"], report["versions"]["torch"], report["processor"]):
        assert fact in readme
