# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Which tokens get global attention, and whether the answer reaches the model."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_config, tiny_tokenizer
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForMultipleChoice,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from hf_longformer import (
    DataCollatorWithGlobalAttention,
    HfLongformerForSequenceClassification,
    HfLongformerForTokenClassification,
    global_attention_mask,
)

# `<s> … </s> </s> … </s>` twice, the second shorter: padded on either side.
RIGHT = torch.tensor([[0, 5, 6, 2, 2, 7, 8, 9, 2], [0, 5, 2, 2, 7, 2, 1, 1, 1]])
LEFT = torch.tensor([[0, 5, 6, 2, 2, 7, 8, 9, 2], [1, 1, 1, 0, 5, 2, 2, 7, 2]])
CHOICES = {
    "cls": ({"cls": True}, "100000000", "100000000", "000100000"),
    "question": ({"question": True, "sep_token_id": 2}, "111000000", "110000000", "000110000"),
    "after_separator": ({"after_separator": True, "sep_token_id": 2}, "000001111", "000011000", "000000011"),
    "question and after_separator": (
        {"question": True, "after_separator": True, "sep_token_id": 2},
        "111001111",
        "110011000",
        "000110011",
    ),
    "positions": ({"positions": [1, 8]}, "010000001", "010000000", "000000001"),
    "token_ids": ({"token_ids": [7, 5]}, "010001000", "010010000", "000010010"),
    "padding id": ({"token_ids": [1, 7]}, "000001000", "000010000", "000000010"),
    "every": ({"every": 2}, "101010101", "101010000", "000101010"),
    "every token": ({"every": 1}, "111111111", "111111000", "000111111"),
    "union": ({"cls": True, "token_ids": [9], "positions": [2]}, "101000010", "101000000", "000100000"),
    "no position": ({"positions": []}, "000000000", "000000000", "000000000"),
    "no id": ({"token_ids": []}, "000000000", "000000000", "000000000"),
}


def bits(mask: torch.Tensor) -> list[str]:
    return ["".join(str(entry) for entry in row) for row in mask.tolist()]


@pytest.mark.parametrize("choice", CHOICES)
def test_global_attention_mask(choice: str):
    arguments, first, second, second_left = CHOICES[choice]
    mask = global_attention_mask(RIGHT, (RIGHT != 1).long(), **arguments)
    assert bits(mask) == [first, second]
    assert mask.dtype == torch.long
    assert bits(global_attention_mask(LEFT, LEFT != 1, **arguments)) == [first, second_left]
    assert bits(global_attention_mask(RIGHT[:1], **arguments)) == [first]  # without a mask all are real


def test_global_attention_mask_takes_the_first_separator_of_many():
    ids = torch.tensor([[0, 5, 2, 6, 2, 2, 7, 2, 2]])
    assert bits(global_attention_mask(ids, question=True, sep_token_id=2)) == ["110000000"]
    assert bits(global_attention_mask(ids, after_separator=True, sep_token_id=2)) == ["000111111"]


def test_global_attention_mask_of_a_separator_at_the_start():
    ids = torch.tensor([[2, 5, 6]])
    assert bits(global_attention_mask(ids, question=True, sep_token_id=2)) == ["000"]
    assert bits(global_attention_mask(ids, after_separator=True, sep_token_id=2)) == ["011"]


def test_global_attention_mask_ignores_separators_in_padding():
    """Some tokenizers pad with the separator."""
    ids = torch.tensor([[2, 2, 0, 5, 2, 7, 2], [0, 5, 2, 7, 2, 2, 2]])
    real = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]])
    assert bits(global_attention_mask(ids, real, question=True, sep_token_id=2)) == ["0011000", "1100000"]
    assert bits(global_attention_mask(ids, real, after_separator=True, sep_token_id=2)) == ["0000011", "0001100"]


@pytest.mark.parametrize("choice", ["question", "after_separator"])
def test_a_text_without_separator_gets_its_first_token_and_one_warning(choice: str, caplog: pytest.LogCaptureFixture):
    ids = torch.tensor([[0, 5, 6, 7, 8], [0, 5, 2, 7, 2], [1, 1, 0, 5, 6]])
    expected = ["10000", {"question": "11000", "after_separator": "00011"}[choice], "00100"]
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert bits(global_attention_mask(ids, ids != 1, sep_token_id=2, **{choice: True})) == expected
    assert len(caplog.messages) == 1
    assert "without a separator" in caplog.text
    assert "global_attention_mask" in caplog.text


def test_no_warning_where_every_text_has_a_separator(caplog: pytest.LogCaptureFixture):
    global_attention_mask(RIGHT, RIGHT != 1, question=True, sep_token_id=2)
    assert not caplog.messages


def test_a_row_of_padding_gets_nothing():
    ids = torch.ones(1, 5, dtype=torch.long)
    arguments = {"cls": True, "question": True, "sep_token_id": 2, "every": 2, "positions": [0], "token_ids": [1]}
    assert bits(global_attention_mask(ids, torch.zeros(1, 5), **arguments)) == ["00000"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "choose global tokens: cls, question"),
        ({"question": True}, "question and after_separator need sep_token_id, got None"),
        ({"after_separator": True}, "need sep_token_id, got None"),
        ({"every": -1}, "every must be at least 1, got -1"),
        ({"every": 0, "cls": True}, "every must be at least 1, got 0"),
        ({"positions": [0, 9]}, r"positions must lie in 0 … 8, got \[9\]"),
        ({"positions": [-1]}, r"positions must lie in 0 … 8, got \[-1\]"),
    ],
    ids=str,
)
def test_global_attention_mask_refuses(arguments: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        global_attention_mask(RIGHT, **arguments)


TEXTS = ["the quick brown fox jumps", "lazy dog", "who jumps over"]


def features(**options: Any) -> list[dict[str, Any]]:
    tokenizer = tiny_tokenizer(**options)
    return [dict(tokenizer(text)) for text in TEXTS]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("container", [list, torch.tensor], ids=["list", "tensor"])
def test_collator_pads_given_masks_on_the_side_of_the_tokenizer(side: str, container: Any):
    given = [[0, 1, 0, 0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0, 1]]
    batch = [
        feature | {"global_attention_mask": container(mask)} for feature, mask in zip(features(), given, strict=True)
    ]
    tokenizer = tiny_tokenizer(padding_side=side)
    for kind in (None, "none", "cls"):
        collated = DataCollatorWithGlobalAttention(tokenizer, kind)(batch)
        expected = {"right": ["0100001", "1100000", "0000100"], "left": ["0100001", "0001100", "0000001"]}[side]
        assert bits(collated["global_attention_mask"]) == expected
        without = DataCollatorWithPadding(tokenizer)(features())
        assert set(collated) == set(without) | {"global_attention_mask"}
        assert all(torch.equal(collated[name], without[name]) for name in without)
    assert all("global_attention_mask" in feature for feature in batch)  # the features are left as they were


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["cls", "question", "none", "function", None], ids=str)
def test_collator_builds_masks(kind: str | None, side: str):
    collator = DataCollatorWithGlobalAttention(
        tiny_tokenizer(padding_side=side), kind if kind != "function" else lambda ids, real: (ids == 2) & real.bool()
    )
    batch = collator(features())
    expected = {
        ("cls", "right"): ["1000000", "1000000", "1000000"],
        ("cls", "left"): ["1000000", "0001000", "0010000"],
        ("question", "right"): ["1111110", "1110000", "1111000"],
        ("question", "left"): ["1111110", "0001110", "0011110"],
        ("none", "right"): ["0000000"] * 3,
        ("none", "left"): ["0000000"] * 3,
        ("function", "right"): ["0000001", "0001000", "0000100"],
        ("function", "left"): ["0000001"] * 3,
    }
    if kind is None:
        assert "global_attention_mask" not in batch
    else:
        assert bits(batch["global_attention_mask"]) == expected[kind, side]
        assert batch["global_attention_mask"].dtype == torch.long


def test_collator_builds_what_only_some_features_bring():
    batch = features()
    batch[1]["global_attention_mask"] = [0, 0, 1, 0]
    collated = DataCollatorWithGlobalAttention(tiny_tokenizer(), "cls")(batch)
    assert bits(collated["global_attention_mask"]) == ["1000000", "0010000", "1000000"]


def test_collator_wraps_another():
    tokenizer = tiny_tokenizer(padding_side="left")
    batch = [feature | {"labels": [3] * len(feature["input_ids"])} for feature in features()]
    collator = DataCollatorWithGlobalAttention(tokenizer, collator=DataCollatorForTokenClassification(tokenizer))
    collated = collator(batch)
    assert collated["labels"].tolist()[1] == [-100, -100, -100, 3, 3, 3, 3]
    assert bits(collated["global_attention_mask"]) == ["1000000", "0001000", "0010000"]


def test_collator_does_not_let_a_masked_token_become_global():
    tokenizer = tiny_tokenizer()
    masking = DataCollatorForLanguageModeling(tokenizer, mlm_probability=1.0, seed=0)
    collated = DataCollatorWithGlobalAttention(tokenizer, "question", masking)(features())
    assert (collated["labels"] != -100).any()
    assert bits(collated["global_attention_mask"]) == ["1111110", "1110000", "1111000"]


@pytest.mark.parametrize("side", ["right", "left"])
def test_collator_of_multiple_choice(side: str):
    tokenizer = tiny_tokenizer(padding_side=side)
    short, long, middle = ([feature["input_ids"] for feature in features()][index] for index in (1, 0, 2))
    batch = [{"input_ids": [short, middle], "label": 0}, {"input_ids": [long, short], "label": 1}]
    batch[0]["global_attention_mask"] = [[0, 0, 0, 1], [0, 1, 0, 0, 0]]
    collator = DataCollatorWithGlobalAttention(tokenizer, "cls", DataCollatorForMultipleChoice(tokenizer))
    collated = collator(batch)
    assert collated["global_attention_mask"].shape == collated["input_ids"].shape == (2, 2, 7)
    expected = {
        "right": [["0001000", "0100000"], ["1000000", "1000000"]],
        "left": [["0000001", "0001000"], ["1000000", "0001000"]],
    }
    assert [bits(masks) for masks in collated["global_attention_mask"]] == expected[side]


@pytest.mark.parametrize("mask", [[1], [1, 0, 0, 0, 0], [1] * 9], ids=len)
def test_collator_refuses_masks_of_another_length(mask: list[int]):
    batch = features()
    batch[1]["global_attention_mask"] = mask
    with pytest.raises(ValueError, match=rf"as long as its input_ids, got {len(mask)} entries for 4 tokens"):
        DataCollatorWithGlobalAttention(tiny_tokenizer())(batch)


def test_collator_refuses_unknown_kinds():
    with pytest.raises(ValueError, match="'cls', 'question', 'none', None or a function, got 'first'"):
        DataCollatorWithGlobalAttention(tiny_tokenizer(), "first")


def train(model: torch.nn.Module, dataset: list, collator: Any, folder: Path) -> list[torch.Tensor]:
    """Two steps of `Trainer`; the global attention masks that reached the encoder."""
    seen = []

    def spy(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        seen.append(args[2] if len(args) > 2 else kwargs.get("global_attention_mask"))

    model.longformer.register_forward_pre_hook(spy, with_kwargs=True)
    settings = {"max_steps": 2, "per_device_train_batch_size": 3, "learning_rate": 1e-2, "logging_steps": 1}
    quiet = {"save_strategy": "no", "report_to": [], "disable_tqdm": True, "use_cpu": True}
    arguments = TrainingArguments(output_dir=str(folder), **settings, **quiet)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    trainer = Trainer(model=model, args=arguments, train_dataset=dataset, data_collator=collator)
    losses = [entry["loss"] for entry in trainer.train() and trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert all(0.0 < loss < 10.0 for loss in losses)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    return seen


def test_trainer_hands_the_built_mask_to_the_model(tmp_path: Path):
    model = HfLongformerForSequenceClassification(tiny_config())
    collator = DataCollatorWithGlobalAttention(tiny_tokenizer(), "question")
    dataset = [feature | {"label": row % 2} for row, feature in enumerate(features())] * 2
    seen = train(model, dataset, collator, tmp_path)
    assert sorted(row.rstrip("0") for mask in seen for row in bits(mask)) == sorted(["111111", "111", "1111"] * 2)


def test_trainer_hands_given_masks_to_the_model(tmp_path: Path):
    tokenizer = tiny_tokenizer(padding_side="left")
    model = HfLongformerForTokenClassification(tiny_config())
    collator = DataCollatorWithGlobalAttention(tokenizer, None, DataCollatorForTokenClassification(tokenizer))
    extra = {"labels": [0, 1, 0, 1, 0, 1, 0], "global_attention_mask": [0, 0, 1, 0, 1, 0, 0]}
    dataset = [features()[0] | extra] * 6
    seen = train(model, dataset, collator, tmp_path)
    assert [bits(mask) for mask in seen] == [["0010100"] * 3] * 2
