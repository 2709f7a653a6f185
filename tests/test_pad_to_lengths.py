# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches of few lengths, for compiled models: `DataCollatorToLengths`, and `--pad_to_lengths` of training scripts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from classification_runs import arguments, make_model
from helpers import randomise, tiny_config, tiny_tokenizer
from safetensors.torch import load_file
from torch._dynamo.utils import counters
from transformers import DataCollatorForTokenClassification

from hf_longformer import DataCollatorToLengths, DataCollatorWithGlobalAttention, HfLongformerForMaskedLM
from hf_longformer.conversion.errors import InputError
from hf_longformer.finetune import run_classification
from hf_longformer.finetune.argument_checks import lengths_to_pad_to
from hf_longformer.finetune.training import LongTrainer


def features(*lengths: int, **more: Any) -> list[dict[str, Any]]:
    """So many tokens each, and other things of the same length."""
    return [{name: [value] * length for name, value in ({"input_ids": 5} | more).items()} for length in lengths]


def test_the_smallest_length_that_holds_a_batch_is_taken() -> None:
    tokenizer = tiny_tokenizer()
    collator = DataCollatorToLengths(tokenizer, (32, 8, 16))
    for lengths, expected in (((3, 5), 8), ((8,), 8), ((9, 2), 16), ((17,), 32)):
        batch = collator(features(*lengths))
        assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(lengths), expected)
        assert batch["attention_mask"].sum(dim=1).tolist() == list(lengths)
        assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()
    with pytest.raises(ValueError, match=r"a batch of 33 tokens fits none of the lengths \[8, 16, 32\]"):
        collator(features(33))


def test_what_goes_with_tokens_is_filled_up_too() -> None:
    tokenizer = tiny_tokenizer()
    inner = DataCollatorWithGlobalAttention(tokenizer, "cls", DataCollatorForTokenClassification(tokenizer))
    batch = DataCollatorToLengths(tokenizer, (8,), inner)(features(3, 5, labels=1))
    assert batch["labels"].tolist() == [[1] * 3 + [-100] * 5, [1] * 5 + [-100] * 3]
    assert batch["global_attention_mask"].tolist() == [[1] + [0] * 7] * 2

    def unknown(given: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.ones(len(given), 3), "word_ids": torch.ones(len(given), 3)}

    with pytest.raises(ValueError, match=r"word_ids has the shape of input_ids, \(2, 3\), and cannot be filled up"):
        DataCollatorToLengths(tokenizer, (8,), unknown)(features(3, 3))


def test_collator_refuses() -> None:
    tokenizer = tiny_tokenizer()
    for lengths in ((), (0, 8)):
        with pytest.raises(ValueError, match="lengths must be whole numbers of at least 1"):
            DataCollatorToLengths(tokenizer, lengths)
    tokenizer.padding_side = "left"
    with pytest.raises(ValueError, match="padded on the right, got padding_side='left'"):
        DataCollatorToLengths(tokenizer, (8,))


def test_a_compiled_model_has_a_program_for_each_length() -> None:
    """And gives what it gives for the same texts without more padding."""
    torch.compiler.reset()
    counters.clear()
    model = randomise(HfLongformerForMaskedLM(tiny_config(num_hidden_layers=1, global_attention="cls"))).double()
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=False)
    collator = DataCollatorToLengths(tiny_tokenizer(), (20, 40))
    for longest in (3, 17, 39, 20, 25, 11):
        given = features(longest, max(3, longest - 4))
        batch = collator(given)
        with torch.no_grad():
            found = compiled(**batch).logits[:, :longest]
            expected = model(**{name: tensor[:, :longest] for name, tensor in batch.items()}).logits
        real = batch["attention_mask"][:, :longest].bool()
        torch.testing.assert_close(found[real], expected[real], rtol=0, atol=1e-12)
    assert counters["stats"]["unique_graphs"] == 2
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("many", "whole numbers separated by commas, got 'many'"),
        ("0,8", "at least 1, got 0,8"),
        ("8,32", r"must hold the longest text, 64 tokens \(--max_seq_length\), got 8,32"),
    ],
)
def test_pad_to_lengths_is_checked(given: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        lengths_to_pad_to("classification", True, given, 64)
    assert lengths_to_pad_to("classification", True, "128, 64", 64) == [64, 128]
    with pytest.raises(InputError, match="pads on the right, got padding_side='left'"):
        lengths_to_pad_to("classification", True, "128, 64", 64, "left")


def test_tasks_that_do_not_pad_to_lengths_say_so() -> None:
    with pytest.raises(InputError, match="embeddings batches are not padded to lengths: leave --pad_to_lengths out"):
        lengths_to_pad_to("embeddings", False, "8")


def test_training_has_batches_of_these_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And takes the steps that it takes with batches padded as little as may be."""
    model, step, seen = make_model(tmp_path), LongTrainer.training_step, set()

    def training_step(self: Any, model: Any, inputs: dict[str, torch.Tensor], *more: Any) -> torch.Tensor:
        seen.add(inputs["input_ids"].shape[1])
        return step(self, model, inputs, *more)

    monkeypatch.setattr(LongTrainer, "training_step", training_step)
    weights, lengths = [], {16, 48, 64}
    for output, options in (("plain", {}), ("padded", {"pad_to_lengths": "16,48,64"})):
        assert not seen & lengths  # or nothing would be padded
        seen.clear()
        run_classification.main(arguments(model, tmp_path, output, do_predict=False, **options))
        weights.append(load_file(tmp_path / output / "model.safetensors"))
    assert seen <= lengths
    for name, tensor in weights[0].items():
        if name.endswith(("key.bias", "key_global.bias")):
            continue  # their gradient is 0, of which AdamW makes steps by rounding
        torch.testing.assert_close(weights[1][name], tensor, rtol=0, atol=1e-4, msg=name)
