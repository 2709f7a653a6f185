# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Training with any subset of the parameters frozen: gradients of the rest are those of the definition."""

import copy
from typing import Any

import pytest
import torch
from helpers import random_ids, randomise, tiny_config
from hypothesis import HealthCheck, given, settings, strategies
from torch import nn

import hf_longformer
from hf_longformer.transformers_internals import CHECKPOINTING

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "encoder": ("HfLongformerForSequenceClassification", {}),
    "causal": ("HfLongformerForCausalLM", {"is_decoder": True, "global_attention": "cls"}),
    "rotary": ("HfLongformerForCausalLM", {"is_decoder": True, "position_embedding_type": "rotary"}),
    "relative": ("HfLongformerForCausalLM", {"is_decoder": True, "position_embedding_type": "relative"}),
}
LENGTHS, PADDED = (16, 150), (False, True)


def make(kind: str) -> Any:
    head, options = KINDS[kind]
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 13}
    return randomise(getattr(hf_longformer, head)(tiny_config(**(sizes | options)))).double().train()


MODELS = {kind: make(kind) for kind in KINDS}
UNITS = {  # what is frozen at a time: single modules
    kind: sorted({name.rpartition(".")[0] for name, _ in model.named_parameters()}) for kind, model in MODELS.items()
}


def gradients(model: nn.Module, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logits = model(**inputs).logits
    (logits * torch.sin(torch.arange(logits.numel()).double()).view_as(logits)).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def check(kind: str, trained: set[str], length: int, is_padded: bool, checkpointing: bool, dtype: torch.dtype) -> None:
    model = copy.deepcopy(MODELS[kind]).to(dtype)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[0] in trained)
    if not any(p.requires_grad for p in model.parameters()):
        return
    oracle = copy.deepcopy(model).double()
    oracle.set_attn_implementation("eager")
    if checkpointing:
        getattr(model, f"{CHECKPOINTING}_enable")({"use_reentrant": False})
    ids, mask = random_ids(2, length), torch.ones(2, length, dtype=torch.long)
    if is_padded:
        mask[0, length // 16 + 1 :] = 0
        ids = ids.masked_fill(mask == 0, 1)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if kind in ("encoder", "causal"):
        inputs["global_attention_mask"] = torch.zeros_like(ids).index_fill(1, torch.tensor([0, 1]), 1)
    if kind != "encoder":
        inputs["use_cache"] = False
    found, expected = gradients(model, inputs), gradients(oracle, inputs)
    for name, exact in expected.items():
        grad, exact = (torch.zeros(()) if x is None else x for x in (found[name], exact))
        if grad.dim() != exact.dim():  # none, and one of zero
            grad, exact = grad.abs().max(), exact.abs().max()
        tolerance = 1e-8 if dtype == torch.float64 else 2e-3
        torch.testing.assert_close(grad.double(), exact.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("is_padded", PADDED)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_global_projections_alone(kind: str, length: int, is_padded: bool, checkpointing: bool):
    every = {name for name in UNITS[kind] if name.endswith("_global")}
    assert len(every) == 6
    for trained in (every, {name for name in every if "layer.1" in name}, *({name} for name in every)):
        check(kind, trained, length, is_padded, checkpointing, torch.float64)
    check(kind, every, length, is_padded, checkpointing, torch.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_each_module_alone(kind: str):
    for number, name in enumerate(UNITS[kind]):
        check(kind, {name}, LENGTHS[number % 2], bool(number % 3), False, torch.float64)
        check(kind, set(UNITS[kind]) - {name}, LENGTHS[number % 2], bool(number % 3), False, torch.float64)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(strategies.data())
def test_random_subsets(data: strategies.DataObject):
    kind = data.draw(strategies.sampled_from(list(KINDS)))
    trained = data.draw(strategies.sets(strategies.sampled_from(UNITS[kind]), min_size=1))
    length, is_padded = data.draw(strategies.sampled_from(LENGTHS)), data.draw(strategies.booleans())
    checkpointing = data.draw(strategies.booleans())
    check(kind, trained, length, is_padded, checkpointing, torch.float64)


class LowRank(nn.Module):
    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        generator = torch.Generator().manual_seed(0)
        shapes = (2, base.in_features), (base.out_features, 2)
        self.down, self.up = (nn.Parameter(torch.randn(*s, generator=generator).double()) for s in shapes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.base(inputs) + inputs @ self.down.T @ self.up.T


@pytest.mark.parametrize(
    "names", [("query_global",), ("value_global",), ("query_global", "key_global", "value_global")]
)
@pytest.mark.parametrize("is_padded", PADDED)
@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_adapters_on_global_projections_alone(kind: str, is_padded: bool, names: tuple[str, ...]):
    model = copy.deepcopy(MODELS[kind]).requires_grad_(False)
    for layer in model.longformer.encoder.layer:
        attention = layer.attention.self
        for name in names:
            setattr(attention, name, LowRank(getattr(attention, name)))
    oracle = copy.deepcopy(model)
    oracle.set_attn_implementation("eager")
    mask = torch.ones(2, 150, dtype=torch.long)
    if is_padded:
        mask[0, 9:] = 0
    inputs = {"input_ids": random_ids(2, 150).masked_fill(mask == 0, 1), "attention_mask": mask}
    inputs["global_attention_mask"] = torch.zeros_like(mask).index_fill(1, torch.tensor([0, 5]), 1)
    found, expected = gradients(model, inputs), gradients(oracle, inputs)
    assert len(found) == 2 * 2 * len(names)
    assert any(grad.abs().max() > 1e-3 for grad in expected.values())
    for name, exact in expected.items():
        torch.testing.assert_close(found[name], exact, rtol=1e-8, atol=1e-9)
