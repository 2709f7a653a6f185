# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`config.global_scaling_length`: rows of global tokens are those of queries that were multiplied beforehand."""

import math
from typing import Any

import pytest
import torch
from helpers import random_ids, randomise, tiny_config

from hf_longformer import HfLongformerConfig, HfLongformerForMaskedLM, HfLongformerModel

LENGTH, REFERENCE = 21, 8
IMPLEMENTATIONS = ("eager", "blocked", "cpu", "sdpa")


def make(head: Any = HfLongformerForMaskedLM, implementation: str = "sdpa", **fields: Any) -> Any:
    torch.manual_seed(0)
    config = tiny_config(attention_window=4, attn_implementation=implementation, **fields)
    return randomise(head(config)).double().eval()


@torch.no_grad()
def by_hand(model: Any, tokens: int) -> Any:
    """A model without scaling, of the same numbers but for the global queries, as texts of so many tokens need it."""
    plain = make(type(model), model.config._attn_implementation)
    plain.load_state_dict(model.state_dict())
    for layer in plain.base_model.encoder.layer:
        for tensor in layer.attention.self.query_global.parameters():
            tensor *= math.log(tokens) / math.log(REFERENCE)
    return plain


def masks(global_tokens: int, real: int = LENGTH, left: int = 0) -> dict[str, torch.Tensor]:
    mask, is_global = torch.zeros(2, 1, LENGTH, dtype=torch.long)
    mask[:, left : left + real] = 1
    is_global[:, left : left + global_tokens] = 1
    return {"attention_mask": mask, "global_attention_mask": is_global}


@pytest.mark.parametrize("global_tokens", [1, 3, 19])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_scores_are_scaled_by_the_logarithm_of_the_length(implementation: str, global_tokens: int):
    model = make(implementation=implementation, global_scaling_length=REFERENCE)
    ids, inputs = random_ids(1, LENGTH), masks(global_tokens)
    scaled, expected = (one(ids, **inputs).logits for one in (model, by_hand(model, LENGTH)))
    torch.testing.assert_close(scaled, expected, rtol=1e-9, atol=1e-9)
    plain = by_hand(model, REFERENCE)(ids, **inputs).logits
    assert not torch.allclose(scaled, plain, atol=1e-3)


@pytest.mark.parametrize("left", [0, 6])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_padding_does_not_count(implementation: str, left: int):
    model = make(implementation=implementation, global_scaling_length=REFERENCE)
    ids, short, whole = random_ids(2, LENGTH), masks(2, 15, left), masks(2)
    inputs = {name: torch.cat([short[name], whole[name]]) for name in whole}
    states = model.base_model(ids, **inputs).last_hidden_state
    for row, (tokens, part) in enumerate(((15, slice(left, left + 15)), (LENGTH, slice(None)))):
        alone = {"global_attention_mask": inputs["global_attention_mask"][row : row + 1, part]}
        expected = by_hand(model, tokens).base_model(ids[row : row + 1, part], **alone).last_hidden_state
        torch.testing.assert_close(states[row : row + 1, part], expected, rtol=1e-9, atol=1e-9)


def test_texts_without_their_padding():
    """Enough padding that texts are computed one after the other."""
    model = make(HfLongformerModel, max_position_embeddings=402, global_scaling_length=REFERENCE)
    ids, mask = random_ids(2, 300), torch.ones(2, 300, dtype=torch.long)
    mask[0, 20:] = 0
    inputs = {"global_attention_mask": torch.nn.functional.one_hot(torch.tensor([3, 250]), 300)}
    states = model(ids, attention_mask=mask, **inputs).last_hidden_state[0, :20]
    alone = model(ids[:1, :20], global_attention_mask=inputs["global_attention_mask"][:1, :20]).last_hidden_state[0]
    torch.testing.assert_close(states, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("global_tokens", [1, 19])
def test_gradients_are_those_of_the_definition(global_tokens: int):
    ids, inputs, found = random_ids(1, LENGTH), masks(global_tokens), []
    for implementation in ("eager", "sdpa"):
        model = make(implementation=implementation, global_scaling_length=REFERENCE).train()
        model(ids, **inputs).logits.square().mean().backward()
        found.append({name: one.grad for name, one in model.named_parameters() if one.grad is not None})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_weights_are_scaled(implementation: str):
    model = make(implementation=implementation, global_scaling_length=REFERENCE)
    ids, inputs = random_ids(1, LENGTH), masks(2)
    found, expected = (
        one(ids, **inputs, output_attentions=True).global_attentions for one in (model, by_hand(model, LENGTH))
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_exported_programs_scale_any_length():
    model = make(HfLongformerModel, global_scaling_length=REFERENCE).float()
    inputs = {"input_ids": random_ids(2, LENGTH), "attention_mask": torch.ones(2, LENGTH, dtype=torch.long)}
    inputs["global_attention_mask"] = masks(1)["global_attention_mask"].repeat(2, 1)
    sizes = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in inputs}
    program = torch.export.export(model, (), inputs, dynamic_shapes=sizes).module()
    inputs = {name: torch.cat([tensor, tensor], dim=1)[:, :37] for name, tensor in inputs.items()}
    found, expected = (one(**inputs).last_hidden_state for one in (program, model))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_single_token_and_no_global_token():
    model = make(global_scaling_length=REFERENCE)
    ids = random_ids(1, 1)
    assert bool(model(ids, global_attention_mask=torch.ones_like(ids)).logits.isfinite().all())
    ids = random_ids(1, LENGTH)
    assert torch.equal(model(ids).logits, by_hand(model, LENGTH)(ids).logits)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"global_scaling_length": 1}, "at least 2, or left out, got 1"),
        ({"global_scaling_length": 64, "is_decoder": True}, "not supported with is_decoder=True"),
    ],
)
def test_refused(fields: dict[str, Any], words: str):
    with pytest.raises(Exception, match=words):
        HfLongformerConfig(**fields)
