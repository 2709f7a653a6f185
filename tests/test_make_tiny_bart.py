# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`tests/make_tiny_bart.py`: what denoising shows, and documents that say a name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from make_tiny_bart import (
    MASKED,
    NAMES,
    SAID,
    SHORT,
    UNSEEN,
    Denoising,
    accuracy,
    make_initial,
    noised,
    write_names,
)
from transformers import AutoTokenizer, BartForConditionalGeneration

MASK, END = 4, 9
IDS = [*range(10, 60), END, *range(60, 100), END, *range(100, 130)]


def test_noised_sentences_change_places_and_spans_become_one_mask() -> None:
    shares = []
    for seed in range(50):
        shown = noised(IDS, frozenset([END]), MASK, np.random.default_rng(seed))
        kept = [token for token in shown if token not in (MASK, END)]
        sentences = [
            [token for token in kept if low <= token < high] for low, high in ((10, 60), (60, 100), (100, 130))
        ]
        assert all(one == sorted(one) for one in sentences)  # nothing moves inside
        assert sorted(kept) == sorted(set(kept))
        assert shown.count(MASK) >= 1
        shares.append(1 - (len(shown) - shown.count(MASK)) / len(IDS))
    assert np.mean(shares) == pytest.approx(MASKED, abs=0.06)  # spans of no token leave less out
    firsts = {noised(IDS, frozenset([END]), MASK, np.random.default_rng(seed))[0] for seed in range(20)}
    assert {10, 60, 100} <= firsts


def test_pieces_are_whole_and_hold_every_token(tmp_path: Path) -> None:
    make_initial(tmp_path / "initial")  # which compares its encoder with the RoBERTa's
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "initial")
    pieces = Denoising(tokenizer, np.arange(10, 1010), 102)
    assert len(pieces) == 10
    row = pieces[3]
    first, last = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert row["labels"] == [first, *range(310, 410), last]
    assert tokenizer.mask_token_id in row["input_ids"]
    assert len(row["input_ids"]) <= 102
    model = BartForConditionalGeneration.from_pretrained(tmp_path / "initial")
    with torch.no_grad():
        loss = model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss
    assert torch.isfinite(loss)


def test_names_stand_beyond_the_first_tokens(tmp_path: Path) -> None:
    paragraphs = [" ".join(f"word{number}x{place}" for place in range(90)) for number in range(40)]
    file = tmp_path / "names.jsonl"
    write_names(file, paragraphs, 64, (1100, 1300), NAMES[:-UNSEEN])
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row["summary"] for row in rows} == {SAID.format(name) for name in NAMES[:-UNSEEN]}
    for row in rows:
        before, _, _ = row["text"].partition(row["summary"])
        assert before != row["text"]
        assert len(before.split()) >= SHORT
        assert 1100 <= len(row["text"].split()) - len(row["summary"].split()) <= 1300
    again = tmp_path / "again" / "names.jsonl"
    again.parent.mkdir()
    write_names(again, paragraphs, 64, (1100, 1300), NAMES[:-UNSEEN])
    assert again.read_text() == file.read_text()


def test_accuracy_counts_the_names_asked_for(tmp_path: Path) -> None:
    asked, found = tmp_path / "asked.jsonl", tmp_path / "found.jsonl"
    names = ["Anna", "Peter", "John", "Mary"]
    asked.write_text("".join(json.dumps({"summary": SAID.format(name)}) + "\n" for name in names))
    said = ["Anna", "Mary", "John", "Anna"]
    found.write_text("".join(json.dumps({"summary": f" {SAID.format(name)}"}) + "\n" for name in said))
    assert accuracy(found, asked, names) == 50
    assert accuracy(found, asked, ["Anna", "Peter"]) == 50
    assert accuracy(found, asked, ["John"]) == 100
