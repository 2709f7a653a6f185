# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`HfLongformerModel` on texts that are one block of rows, which take ways of their own: as the definition has it."""

from typing import Any

import pytest
import torch
from helpers import random_ids, randomise, tiny_config

from hf_longformer import HfLongformerModel
from hf_longformer.dispatch import recorded_choices

WINDOW = 16
LENGTHS = (1, 2, 7, WINDOW // 2, WINDOW // 2 + 1, WINDOW - 1, WINDOW, WINDOW + 1, 60)
PADDINGS = {"none": slice(0), "left": slice(2), "right": slice(-2, None), "inside": slice(1, 2), "row": slice(None)}
GLOBALS = {"none": (0, 0, 0), "one": (1, 1, 1), "two": (2, 2, 2), "ragged": (0, 1, 3), "many": (6, 6, 6)}


def make_model(**options: Any) -> HfLongformerModel:
    config = tiny_config(attention_window=WINDOW, attention_dilation=1, **options)
    return randomise(HfLongformerModel(config, add_pooling_layer=False)).double()


def make_batch(length: int, padding: str, globals_: str) -> dict[str, torch.Tensor]:
    real = torch.ones(3, length, dtype=torch.long)
    if length > 6:
        real[1, PADDINGS[padding]] = 0
    is_global = torch.zeros_like(real)
    for row, number in enumerate(GLOBALS[globals_]):
        is_global[row, real[row].nonzero().flatten()[:number]] = 1
    return {"input_ids": random_ids(3, length), "attention_mask": real, "global_attention_mask": is_global}


def run(model: HfLongformerModel, batch: dict[str, torch.Tensor], implementation: str) -> list[torch.Tensor]:
    """Output of real tokens, and the gradients of all weights."""
    model.set_attn_implementation(implementation)
    weights = list(model.parameters())
    output = model(**batch).last_hidden_state * batch["attention_mask"][..., None]
    found = torch.autograd.grad(output.sin().sum(), weights, allow_unused=True, materialize_grads=True)
    return [output.detach(), *found]


@pytest.mark.parametrize("globals_", GLOBALS)
@pytest.mark.parametrize("padding", PADDINGS)
def test_short_texts_are_as_the_definition_has_them(padding: str, globals_: str):
    """Output, gradients in training, and output without gradients."""
    model = make_model().train()
    for length in LENGTHS:
        batch = make_batch(length, padding, globals_)
        expected, found = (run(model, batch, implementation) for implementation in ("eager", "sdpa"))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
        with torch.no_grad():
            states = model(**batch).last_hidden_state * batch["attention_mask"][..., None]
        torch.testing.assert_close(states, expected[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("globals_", ["none", "two", "ragged"])
def test_dropped_weights_have_the_mean_of_the_definition(globals_: str):
    """And follow the seed; padding is not seen."""
    model = make_model(attention_probs_dropout_prob=0.3, num_hidden_layers=1).train()
    batch = make_batch(12, "right", globals_)
    attention, real = model.encoder.layer[0].attention.self, batch["attention_mask"].bool()
    found: dict[str, list[torch.Tensor]] = {"eager": [], "sdpa": []}
    kept: list[torch.Tensor] = []
    attention.register_forward_hook(lambda module, inputs, output: kept.append(output[0][real]))
    with torch.no_grad():
        for implementation, outputs in found.items():
            model.set_attn_implementation(implementation)
            for seed in range(400):
                torch.manual_seed(seed)
                model(**batch)
                outputs.append(kept.pop())
        torch.manual_seed(0)
        model(**batch)
    assert torch.equal(kept.pop(), found["sdpa"][0])
    assert not torch.equal(found["sdpa"][0], found["sdpa"][1])
    eager, ours = (torch.stack(outputs) for outputs in found.values())
    error = ((eager.var(dim=0) + ours.var(dim=0)) / 400).sqrt()
    assert ((eager.mean(dim=0) - ours.mean(dim=0)).abs() < 5 * error + 1e-12).all()
    torch.testing.assert_close(ours.std(dim=0).mean(), eager.std(dim=0).mean(), rtol=0.1, atol=0)


def test_windows_that_are_changed_between_forwards():
    """What layers read once holds for one forward pass."""
    model, batch = make_model().eval(), make_batch(60, "none", "one")
    with torch.no_grad():
        for window in (WINDOW, 4, 200):
            model.config.attention_window = window
            outputs = []
            for implementation in ("eager", "sdpa"):
                model.set_attn_implementation(implementation)
                outputs.append(model(**batch).last_hidden_state)
            torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-11)


def test_who_computes_them():
    model = make_model().eval()
    with recorded_choices() as choices, torch.no_grad():
        model(**make_batch(12, "none", "one"))
    assert [name for name, reason in choices if reason is None] == ["cpu"] * len(model.encoder.layer)
