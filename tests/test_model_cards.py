# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.model_cards.render_card`: what a reader of a converted model's card sees."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from sources import HEADS, make_source

from hf_longformer.conversion import convert
from hf_longformer.model_cards import render_card

HUB_TASKS = {  # those of huggingface.co/tasks that an encoder can have
    *("feature-extraction", "fill-mask", "text-classification", "question-answering", "token-classification"),
    "sentence-similarity",
}
SOURCE_CARD = """---
license: mit
language: [eu, de]
tags: [secret-sauce]
---
# Source
"""


def test_render_card_of_a_conversion(tmp_path: Path) -> None:
    make_source(tmp_path / "source", "bert", "ForSequenceClassification")
    (tmp_path / "source" / "README.md").write_text(SOURCE_CARD)
    report = convert(tmp_path / "source", tmp_path / "output", max_length=777, attention_window=16)
    card = ModelCard.load(tmp_path / "output" / "README.md")
    assert card.data.license == "mit"
    assert card.data.language == ["eu", "de"]
    assert card.data.pipeline_tag == "text-classification"
    assert "secret-sauce" not in card.data.tags
    for words in ("130 → 777 tokens", "16 tokens in all", f"{report['parameters']:,}, float32", "BertTokenizer"):
        assert words in card.text, words
    for check in report["checks"]:
        assert f"| {check['name']} |" in card.text
    assert "FAILED" not in card.text


def test_render_card_names_a_hub_source_and_a_missing_check(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    report = convert(tmp_path / "source", tmp_path / "output", max_length=777, attention_window=16, check=False)
    card = render_card({**report, "source": "someone/model", "revision": "abc123", "from_hub": True})
    assert card.data.base_model == "someone/model"
    assert "revision `abc123`" in card.text
    assert "the check was switched off" in card.text


def test_render_card_shows_bits_per_character(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    report = convert(
        tmp_path / "source", tmp_path / "output", max_length=260, attention_window=16, eval_text=tmp_path / "text.txt"
    )
    card = ModelCard.load(tmp_path / "output" / "README.md")
    assert [(row["model"], row["tokens"]) for row in report["bits"]] == [
        ("source", 130),
        ("result", 130),
        ("result", 260),
    ]
    for row in report["bits"]:
        numbers = f"{row['tokens']} | {row['bits_per_character']:.3f} | {row['bits_per_token']:.3f}"
        assert f"| {row['model']} | {numbers} |" in card.text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("copied", "copied from the local ones, not trained"),
        ("synced", "after training"),
        ("trained", "trained: other"),
        ("shared", "none: global tokens take the local ones"),
    ],
)
def test_render_card_says_where_global_projections_come_from(state: str, words: str, tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    report = convert(tmp_path / "source", tmp_path / "output", max_length=260, attention_window=16, check=False)
    card = render_card({**report, "global_projections": state})
    (line,) = [line for line in card.text.splitlines() if line.startswith("| global projections |")]
    assert words in line


@pytest.mark.parametrize("head", HEADS)
def test_metadata_is_what_the_hub_accepts(head: str, tmp_path: Path) -> None:
    """Parsed again from the file; the task is one that the Hub knows, or left out."""
    make_source(tmp_path / "source", "roberta", head)
    convert(tmp_path / "source", tmp_path / "output", max_length=260, attention_window=16, check=False)
    data = ModelCard.load(tmp_path / "output" / "README.md").data
    assert data.library_name == "transformers"
    assert data.pipeline_tag is None or data.pipeline_tag in HUB_TASKS
    assert data.tags == ["longformer", "hf-longformer", "long-documents"]
