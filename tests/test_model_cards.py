# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.model_cards.render_card`: what a reader of a converted model's card sees."""

from pathlib import Path

from huggingface_hub import ModelCard
from sources import make_source

from hf_longformer.conversion import convert
from hf_longformer.model_cards import render_card

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
