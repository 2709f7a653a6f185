# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`convert(…, eval_text=…)`: bits per character of a masked language model, before and after."""

import math
from pathlib import Path

import pytest
import torch
from sources import make_source
from transformers import AutoTokenizer

from hf_longformer.conversion import InputError, convert
from hf_longformer.conversion.bits import bits_of_text

TEXT = "the quick brown fox jumps over the lazy dog. long documents need long encoders. " * 30
SMALL = {"max_length": 260, "attention_window": 16}


class Uniform(torch.nn.Module):
    """Finds every token equally likely, and remembers what it was shown."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.seen: list[torch.Tensor] = []

    def forward(self, input_ids: torch.Tensor) -> object:
        self.seen.append(input_ids[0])
        return type("Output", (), {"logits": torch.zeros(*input_ids.shape, self.vocab_size)})


@pytest.mark.parametrize("length", [12, 130, 4000])
def test_uniform_model_needs_the_logarithm_of_its_vocabulary(length: int, tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "source")
    model = Uniform(512)
    bits = bits_of_text(model, tokenizer, TEXT, length)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert bits.bits_per_token == pytest.approx(math.log2(512), rel=1e-5)
    assert bits.bits_per_character == pytest.approx(9 * len(ids) / len(TEXT), rel=1e-5)
    assert max(len(piece) for piece in model.seen) <= length
    assert 0.1 < bits.masked / len(ids) < 0.2


def test_tokens_are_hidden_as_in_training(tmp_path: Path) -> None:
    """80 % of 15 % behind the mask, 10 % replaced, 10 % seen as they are; all of them are predicted."""
    make_source(tmp_path / "source")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "source")
    model, text = Uniform(512), TEXT * 20
    bits = bits_of_text(model, tokenizer, text, 100_000)
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    seen = model.seen[0][1:-1]
    behind, replaced = seen == tokenizer.mask_token_id, (seen != ids) & (seen != tokenizer.mask_token_id)
    assert int(behind.sum()) / bits.masked == pytest.approx(0.8, abs=0.02)
    assert int(replaced.sum()) / bits.masked == pytest.approx(0.1, abs=0.02)
    assert bits.masked / len(ids) == pytest.approx(0.15, abs=0.01)
    assert seen[replaced].unique().numel() > 150, "by any token"


def test_same_tokens_are_masked_at_every_length(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "source")
    masks = []
    for length in (130, 1000):
        model = Uniform(512)
        bits_of_text(model, tokenizer, TEXT, length)
        masks.append(torch.cat([piece[1:-1] == tokenizer.mask_token_id for piece in model.seen]))
    assert torch.equal(*masks)


def test_source_and_result_need_the_same_with_a_wide_window(tmp_path: Path) -> None:
    make_source(tmp_path / "source", "bert")
    (tmp_path / "text.txt").write_text(TEXT)
    options = {"max_length": 260, "attention_window": 260, "eval_text": tmp_path / "text.txt"}
    source, result, longer = convert(tmp_path / "source", tmp_path / "output", **options)["bits"]
    assert result["bits_per_token"] == pytest.approx(source["bits_per_token"], rel=1e-5)
    assert longer["tokens"] == 260


@pytest.mark.parametrize(
    ("content", "head", "tokenizer", "message"),
    [
        (b"\xff\xfe text of another kind", "ForMaskedLM", True, "must be a readable UTF-8 file"),
        (b" \n", "ForMaskedLM", True, "must hold words"),
        (b"some words", "Model", True, "needs a masked language model, got RobertaModel"),
        (b"some words", "ForMaskedLM", False, "needs a tokenizer with a mask token"),
    ],
)
def test_text_or_source_that_cannot_be_used(
    content: bytes, head: str, tokenizer: bool, message: str, tmp_path: Path
) -> None:
    make_source(tmp_path / "source", "roberta", head, with_tokenizer=tokenizer)
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "source", tmp_path / "output", eval_text=tmp_path / "text.txt", **SMALL)
    with pytest.raises(InputError, match=r"must be a readable UTF-8 file|needs a"):
        convert(tmp_path / "source", tmp_path / "output", eval_text=tmp_path / "nowhere.txt", **SMALL)
    assert not (tmp_path / "output").exists()
