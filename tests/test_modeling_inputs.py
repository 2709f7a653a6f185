# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What the models refuse, in a sentence instead of an IndexError, and what just about fits."""

from typing import Any

import pytest
import torch
from accelerate import Accelerator, ParallelismConfig
from helpers import random_ids, tiny_config
from transformers import DataCollatorWithFlattening

import hf_longformer
from hf_longformer import HfLongformerForMultipleChoice, HfLongformerModel

IDS = random_ids(2, 10)
ONES, ZEROS = torch.ones_like(IDS), torch.zeros_like(IDS)
FIRST = ZEROS.clone()
FIRST[:, 0] = 1
BEYOND, BELOW = IDS.clone(), IDS.clone()
BEYOND[1, 3], BELOW[0, 2] = 99, -1
EMBEDDINGS = torch.zeros(2, 10, 24)

REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "either input_ids or inputs_embeds"),
    "both": ({"input_ids": IDS, "inputs_embeds": EMBEDDINGS}, "either input_ids or inputs_embeds"),
    "id too large": ({"input_ids": BEYOND}, r"input_ids must lie in 0 … 98 .*got \d+ … 99"),
    "ids of floats": (
        {"input_ids": IDS.float()},
        "dtype of input_ids must be torch.long or torch.int, got torch.float32",
    ),
    "ids in a list": (
        {"input_ids": IDS.tolist()},
        "input_ids must be a tensor, got list: tokenize with return_tensors",
    ),
    "whole embeddings": ({"inputs_embeds": IDS[..., None]}, "dtype of inputs_embeds must be a floating-point type"),
    "id negative": ({"input_ids": BELOW}, r"input_ids must lie in 0 … 98 .*got -1 … \d+"),
    "token type": (
        {"input_ids": IDS, "token_type_ids": ONES * 2},
        r"token_type_ids must lie in 0 … 1 \(config.type_vocab_size=2\), got 2 … 2",
    ),
    "token type negative": ({"input_ids": IDS, "token_type_ids": -ONES}, r"token_type_ids .*got -1 … -1"),
    "token type shape": (
        {"input_ids": IDS, "token_type_ids": ONES[:, :9]},
        r"token_type_ids .*\(2, 10\), got \(2, 9\)",
    ),
    "position": (
        {"input_ids": IDS, "position_ids": ONES * 202},
        "201 tokens, the model takes 200|position_ids .*got 202",
    ),
    "position negative": ({"input_ids": IDS, "position_ids": -ONES}, r"position_ids must lie in 0 … 201 .*got -1 … -1"),
    "mask shape": ({"input_ids": IDS, "attention_mask": ONES[:, :9]}, r"attention_mask .*\(2, 10\), got \(2, 9\)"),
    "mask of one row": ({"input_ids": IDS, "attention_mask": ONES[:1]}, r"attention_mask .*\(2, 10\), got \(1, 10\)"),
    "mask in 3 dimensions": (
        {"input_ids": IDS, "attention_mask": torch.ones(2, 10, 10)},
        r"attention_mask .*\(2, 10\), got \(2, 10, 10\)",
    ),
    "mask of 2": (
        {"input_ids": IDS, "attention_mask": ONES + FIRST},
        "attention_mask must hold 0 .*got 2 other values",
    ),
    "mask of minus infinity": (
        {"input_ids": IDS, "attention_mask": FIRST * -10000.0},
        "attention_mask must hold 0 .*got 2 other values",
    ),
    "global shape": (
        {"input_ids": IDS, "global_attention_mask": FIRST[:, :9]},
        r"global_attention_mask .*\(2, 10\), got \(2, 9\)",
    ),
    "global of 2": (
        {"input_ids": IDS, "global_attention_mask": FIRST * 2},
        "global_attention_mask must hold 0 .*got 2 other values",
    ),
    "global padding": (
        {"input_ids": IDS, "attention_mask": ONES - FIRST, "global_attention_mask": FIRST},
        "a global token must be a real token, got 2 positions",
    ),
    "empty text": ({"input_ids": IDS[:, :0]}, r"neither empty, got \(2, 0\)"),
    "empty batch": ({"input_ids": IDS[:0]}, r"neither empty, got \(0, 10\)"),
    "ids in 1 dimension": ({"input_ids": IDS[0]}, r"\(batch, S\).*got \(10,\)"),
    "ids in 3 dimensions": ({"input_ids": IDS[None]}, r"\(batch, S\).*got \(1, 2, 10\)"),
    "embeddings in 2 dimensions": ({"inputs_embeds": EMBEDDINGS[0]}, r"got \(10, 24\)"),
}


@pytest.mark.parametrize("head", ["Model", "ForSequenceClassification"])
@pytest.mark.parametrize("reason", REFUSALS)
def test_models_refuse(reason: str, head: str):
    inputs, sentence = REFUSALS[reason]
    model = getattr(hf_longformer, f"HfLongformer{head}")(tiny_config()).eval()
    with pytest.raises(ValueError, match=sentence):
        model(**inputs)
    model(input_ids=IDS, attention_mask=ONES, global_attention_mask=FIRST)


@pytest.mark.parametrize("padding_id", [1, 0, 7])
def test_the_longest_text_passes_and_one_token_more_is_refused(padding_id: int):
    config = tiny_config(max_position_embeddings=50 + padding_id + 1, pad_token_id=padding_id)
    model = HfLongformerModel(config).eval()
    assert config.max_length_tokens == 50
    ids = random_ids(2, 51) // 2 + 40
    assert model(ids[:, :50]).last_hidden_state.shape == (2, 50, 24)
    with pytest.raises(ValueError, match=r"has 51 tokens, the model takes 50\b.*truncate"):
        model(ids)
    with pytest.raises(ValueError, match=r"has 51 tokens, the model takes 50\b"):
        model(inputs_embeds=torch.zeros(2, 51, 24))


def test_padding_does_not_count_towards_the_length():
    model = HfLongformerModel(tiny_config(max_position_embeddings=52)).eval()
    ids = torch.ones(2, 80, dtype=torch.long)
    ids[0, :50], ids[1, 30:] = random_ids(50), random_ids(50)
    assert model(ids, attention_mask=ids.ne(1).long()).last_hidden_state.shape == (2, 80, 24)


def test_given_positions_beyond_the_table_are_refused():
    model = HfLongformerModel(tiny_config()).eval()
    positions = torch.arange(192, 202)[None].expand(2, -1)
    assert model(IDS, position_ids=positions).last_hidden_state.shape == (2, 10, 24)
    with pytest.raises(ValueError, match=r"position_ids must lie in 0 … 201 .*202"):
        model(IDS, position_ids=positions + 1)


def test_multiple_choice_refuses_texts_without_choices():
    model = HfLongformerForMultipleChoice(tiny_config()).eval()
    with pytest.raises(ValueError, match=r"\(batch, num_choices, S\).*got \(2, 10\)"):
        model(IDS)
    with pytest.raises(ValueError, match=r"\(batch, num_choices, S\).*got None"):
        model()
    with pytest.raises(ValueError, match=r"attention_mask .*\(2, 10\), got \(2, 9\)"):
        model(IDS[:, None], attention_mask=ONES[:, None, :9])


def test_two_token_types_of_a_model_with_one_are_refused():
    model = HfLongformerModel(tiny_config(type_vocab_size=1)).eval()
    assert model(IDS, token_type_ids=ZEROS).last_hidden_state.shape == (2, 10, 24)
    with pytest.raises(ValueError, match=r"token_type_ids must lie in 0 … 0 \(config.type_vocab_size=1\), got 0 … 1"):
        model(IDS, token_type_ids=FIRST)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.uint8, torch.float32], ids=str)
def test_masks_may_have_any_dtype(dtype: torch.dtype):
    model = HfLongformerModel(tiny_config()).eval()
    mask = ONES.clone()
    mask[0, 7:] = 0
    expected = model(IDS, attention_mask=mask, global_attention_mask=FIRST).last_hidden_state
    output = model(IDS, attention_mask=mask.to(dtype), global_attention_mask=FIRST.to(dtype)).last_hidden_state
    assert torch.equal(output, expected)


@pytest.mark.parametrize("divided", [{"cp_size": 2}, {"sp_size": 2, "sp_backend": "deepspeed"}], ids=str)
def test_texts_divided_among_devices_are_refused(divided: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    """Whatever trainer uses accelerate: of a part of a text nobody sees that it is one."""
    accelerator = Accelerator(cpu=True)
    model = HfLongformerForMultipleChoice(tiny_config()).eval()
    model(IDS[:, None])
    monkeypatch.setattr(accelerator.state, "parallelism_config", ParallelismConfig(**divided))
    for one in (model, torch.compile(model, backend="eager")):
        with pytest.raises(Exception, match="texts are divided among devices") as refusal:
            one(IDS[:, None])
    assert refusal.type is NotImplementedError
    monkeypatch.setattr(accelerator.state, "parallelism_config", ParallelismConfig(dp_replicate_size=2))
    model(IDS[:, None])


@pytest.mark.parametrize(
    "options", [{}, {"return_flash_attn_kwargs": True, "return_position_ids": False}, {"return_seq_idx": True}], ids=str
)
def test_texts_packed_into_one_row_are_refused(options: dict[str, Any]):
    """They would see each other: 0.3 and more away, in the states."""
    texts = [
        {"input_ids": row[:end].tolist(), "labels": row[:end].tolist()} for row, end in zip(IDS, (7, 4), strict=True)
    ]
    batch = DataCollatorWithFlattening(position_ids_start=2, return_tensors="pt", **options)(texts)
    for is_decoder in (False, True):
        head = hf_longformer.HfLongformerForCausalLM if is_decoder else hf_longformer.HfLongformerForMaskedLM
        model = head(tiny_config(is_decoder=is_decoder)).eval()
        with pytest.raises(NotImplementedError, match="several texts in one row would see each other here: give each"):
            model(**batch)
        given = torch.tensor([[2, 3, 4, 9, 9, 8, 7]])  # of one text, however they stand
        assert model(IDS[:1, :7], position_ids=given).logits.shape == (1, 7, 99)


def test_misspelt_arguments_are_refused():
    model = HfLongformerModel(tiny_config()).eval()
    with pytest.raises(TypeError, match="'atention_mask'; did you mean 'attention_mask'"):
        model(IDS, atention_mask=ONES)
    with pytest.raises(TypeError, match="'output_attention'; did you mean 'output_attentions'"):
        model(IDS, output_attention=True)
