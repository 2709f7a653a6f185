# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`tests/measured.py`: trainings that are done once, several at a time, and results that are kept row by row."""

import json
import random
from pathlib import Path
from typing import Any

import measure_ablation
import pytest
import torch
from measured import Run, kept, read_known, run_all, run_once, spread
from transformers import AutoTokenizer

from hf_longformer.model_cards import embedded_model

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

    def done(function: Any, wanted: list[measure_ablation.Job], processes: int) -> list[dict[str, Any]]:
        asked.extend((job.row, job.seed) for job in wanted)
        return [{"row": job.row, "seed": job.seed, "accuracy": {"among_names": 0.5}} for job in wanted]

    monkeypatch.setattr(measure_ablation, "in_processes", done)
    monkeypatch.setattr(measure_ablation, "RESULTS", place / "results.json")
    first = {"row": names[0], "seed": 0, "accuracy": {"among_names": 0.75}}
    results = {"rows": [first]}
    measure_ablation.measure(place, place, [0, 1], 1, results)
    assert set(asked) == {(name, seed) for name in names for seed in (0, 1)} - {(names[0], 0)}
    written = read_known(place / "results.json", anew=False)
    assert written == results
    assert written["rows"][0] == first
    assert read_known(place / "results.json", anew=True) == {}
    table = measure_ablation.tables(written)["table 10"].splitlines()
    assert table[2] == f"| {names[0]} | 62.5 | 17.7 | 75.0, 50.0 |  | 73.8 |"
    assert table[3] == f"| {names[1]} | 50.0 | 0.0 | 50.0, 50.0 | -12.5 ± 12.5 | 73.1 |"


def test_texts_of_the_ablation(tmp_path: Path) -> None:
    """They name a man in one place, ask for him at the end, and show of both what is read."""
    words = " ".join(f"word{number} and other words" for number in range(700))
    content = {"data": [{"paragraphs": [{"context": words}, {"context": "too short"}]}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    tokenizer = AutoTokenizer.from_pretrained(embedded_model("roberta-tiny-en"))
    texts = measure_ablation.Texts(tokenizer, tmp_path / "train.json", random.Random(0))
    assert len(texts.articles) == 1
    name, mask = tokenizer.convert_tokens_to_ids("ĠMartin"), tokenizer.mask_token_id
    places = []
    for tokens, is_global in ((2048, True), (512, True), (2048, False)) * 10:
        row = texts.row("Martin", tokens, is_global)
        ids = row["input_ids"]
        assert {tensor.shape for tensor in row.values()} == {(tokens,)}
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert torch.equal(row["labels"], torch.where(ids == mask, name, -100))
        assert int((ids == mask).sum()) == 3
        assert torch.equal(row["global_attention_mask"] == 1, (ids == mask) & is_global)
        named = (ids == name).nonzero()[:, 0].tolist()
        if tokens == 2048:
            assert len(named) == 4
            places.append(named[0])
    assert min(places) < 600
    assert max(places) > 1400


def test_spread() -> None:
    assert spread([1.0, 2.0]) == "1.5 | 0.7 | 1.0, 2.0"
    assert spread(iter([1.0]), 2) == "1.00 |  | 1.00"
