# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`conversion/README.md`: its commands run, its tables are those of `conversion/results.json`, and those are good."""

import json
from pathlib import Path

import pytest
from blocks import blocks, run
from measure_conversions import README, RESULTS, tables
from sources import ENCODER_DECODER_HEADS, ENCODER_DECODERS, FAMILIES, HEADS, make_source

from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion.families import FAMILIES as SUPPORTED

TEXT = README.read_text(encoding="utf-8")
MEASURED = json.loads(RESULTS.read_text(encoding="utf-8"))


def test_commands_run_one_after_the_other(tmp_path: Path) -> None:
    make_source(tmp_path / "FacebookAI" / "xlm-roberta-base", "xlm-roberta", "ForMaskedLM")
    for _, code in blocks(TEXT, "bash"):
        run(code, tmp_path)
    assert "synced" in (tmp_path / "xlm-r-4096" / "config.json").read_text()


def test_tables_are_those_of_the_results() -> None:
    assert put_parts(TEXT, tables(MEASURED)) == TEXT
    assert TEXT.count("<!-- end -->") == 4


def test_every_family_and_head_was_measured() -> None:
    small = [row for row in MEASURED["families"] if row["name"] == "random weights"]
    assert len(small) == len(FAMILIES) * len(HEADS) + len(ENCODER_DECODERS) * len(ENCODER_DECODER_HEADS)
    assert set(SUPPORTED) == {*FAMILIES, *ENCODER_DECODERS, "hf_longformer", "hf_longformer_encoder_decoder"}
    assert len(MEASURED["families"]) > len(small)  # real weights too
    for row in MEASURED["families"]:
        assert row["hidden_states"] <= 1e-4
        assert (row["head_outputs"] or 0) <= 1e-4
        assert (row["embeddings"] or 0) <= 1e-5
        assert row["auto_class"]


@pytest.mark.parametrize("row", MEASURED["memory"], ids=lambda row: f"{row['stored']}-{row['dtype']}")
def test_memory_is_as_promised(row: dict) -> None:
    assert row["beside_program"] <= 2.2
    assert row["planned"] == pytest.approx(row["beside_program"], rel=0.25)


def test_time_is_as_promised() -> None:
    assert MEASURED["time"]["ratio"] < 1.5


def test_positions_are_as_the_text_says() -> None:
    rows = {row["position_init"]: row for row in MEASURED["positions"]}
    assert rows["copy"]["similarity"] > 0.9999
    assert rows["copy"]["nearest"] > max(rows["interpolate"]["nearest"], rows["random"]["nearest"])
