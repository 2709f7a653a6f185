# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Implementations that are asked for by name, and what is said of those that are not taken."""

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from helpers import Case, keywords, random_ids, random_projections, randomise, tiny_config

from hf_longformer import (
    HfLongformerForCausalLM,
    HfLongformerModel,
    RollingCache,
    WindowPattern,
    explain_attention,
    longformer_attention,
)
from hf_longformer.dispatch import IMPLEMENTATIONS, choose_once, recorded_choices
from hf_longformer.token_roles import TokenRoles
from hf_longformer.transformers_internals import CACHE_NAME

CASE = Case(300, 8, (1, 3, 2), globals_="ragged", padding="right")
IDS = random_ids(2, 150)


@pytest.mark.parametrize("name", ["cpu", "blocked"])
def test_an_implementation_by_its_name(name: str):
    query, key, value = random_projections(CASE)[:3]
    options = keywords(CASE)
    expected = longformer_attention(query, key, value, attn_implementation="eager", **options)
    found = longformer_attention(query, key, value, attn_implementation=name, **options)
    torch.testing.assert_close(found, expected)
    model = randomise(HfLongformerModel(tiny_config(attn_implementation=name)))
    mask = (torch.arange(150) < torch.tensor([[150], [20]])).long()
    assert f"{name}: taken" in explain_attention(model, {"input_ids": IDS, "attention_mask": mask})
    inputs = {"input_ids": IDS, "attention_mask": mask}
    found = model(**inputs).last_hidden_state * mask[..., None]
    model.set_attn_implementation("eager")
    torch.testing.assert_close(found, model(**inputs).last_hidden_state * mask[..., None], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "dtype", "scaling", "reason"),
    [
        ("triton", torch.float32, None, "needs a GPU|needs the package triton"),
        ("triton", torch.float32, -1.0, "needs a scaling above 0|needs a GPU|needs the package triton"),
        ("flex_attention", torch.float32, None, "needs a GPU, got tensors on a CPU"),
    ],
)
def test_what_cannot_be_had_is_refused_with_its_reason(name: str, dtype: torch.dtype, scaling: float, reason: str):
    query = torch.zeros(1, 2, 9, 8, dtype=dtype)
    with pytest.raises(NotImplementedError, match=f'attn_implementation="{name}" ({reason})'):
        longformer_attention(query, query, query, attention_window=4, scaling=scaling, attn_implementation=name)
    model = HfLongformerModel(tiny_config())
    model.set_attn_implementation(name)
    with pytest.raises(NotImplementedError, match=f'attn_implementation="{name}" needs'):
        model(IDS)


def test_programs_of_pytorchs_operators_take_the_blocked_path():
    query = torch.randn(1, 2, 70, 8)
    with pytest.raises(NotImplementedError, match='attn_implementation="cpu" is an operator of its own'):
        torch.func.jvp(
            lambda x: longformer_attention(x, x, x, attention_window=4, attn_implementation="cpu"), (query,), (query,)
        )


@pytest.mark.parametrize("transform", ["jvp", "vmap", "jacrev", "dual numbers", "jit.trace"])
def test_a_layer_is_transformed_with_roles_of_a_call_before(transform: str):
    """As tools do that catch what a layer is called with, and go on with the layer alone."""
    model = randomise(HfLongformerModel(tiny_config())).requires_grad_(False)
    layer, caught = model.encoder.layer[0], list[Any]()
    layer.register_forward_pre_hook(lambda _, *given: caught.append(given), with_kwargs=True)
    model(IDS)
    (states, *others), settings = caught[0]
    tangent = torch.randn_like(states)

    def run(states: torch.Tensor) -> torch.Tensor:
        return layer(states, *others, **settings)

    step = 1e-3 * tangent
    slope = (run(states + step) - run(states - step)) / 2e-3
    if transform == "jvp":
        torch.testing.assert_close(torch.func.jvp(run, (states,), (tangent,))[1], slope, rtol=0.0, atol=2e-2)
    elif transform == "vmap":
        found = torch.func.vmap(run)(torch.stack([states, tangent]))
        torch.testing.assert_close(found, torch.stack([run(states), run(tangent)]), rtol=1e-4, atol=1e-4)
    elif transform == "jacrev":
        (product,) = torch.func.jacrev(lambda x: (run(x) * tangent).sum()[None])(states)
        torch.testing.assert_close((product * tangent).sum(), (slope * tangent).sum(), rtol=1e-2, atol=1e-2)
    elif transform == "dual numbers":
        with torch.autograd.forward_ad.dual_level():
            found = run(torch.autograd.forward_ad.make_dual(states, tangent))
            torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(found).tangent, slope, rtol=0, atol=2e-2)
    else:
        with torch.no_grad(), recorded_choices() as choices:
            program = torch.jit.trace(run, (states,), check_trace=False)
        assert dict(choices)["blocked"] is None
        torch.testing.assert_close(program(tangent), run(tangent), rtol=1e-4, atol=1e-4)


def test_roles_that_live_longer_than_a_call():
    """What is asked for in between is done."""
    model, states, roles = randomise(HfLongformerModel(tiny_config())), torch.randn(1, 150, 24), TokenRoles()
    attention = model.encoder.layer[0].attention.self
    expected = attention(states, roles)[0]
    for name, taken in (("blocked", "blocked"), ("eager", "eager"), ("sdpa", "cpu")):
        model.set_attn_implementation(name)
        with recorded_choices() as choices:
            torch.testing.assert_close(attention(states, roles)[0], expected, rtol=1e-4, atol=1e-4)
        assert (taken, None) in choices
    model.set_attn_implementation("triton")
    with pytest.raises(NotImplementedError, match='attn_implementation="triton" needs'):
        attention(states, roles)
    other = randomise(HfLongformerModel(tiny_config(attention_window=2))).encoder.layer[0].attention.self
    torch.testing.assert_close(other(states, roles), other(states, TokenRoles()))
    on_cpu, elsewhere = torch.zeros(1, 2, 9, 8), torch.zeros(1, 2, 9, 8, device="meta")
    assert choose_once(on_cpu, "sdpa", attention.pattern, roles, 0.0) is IMPLEMENTATIONS["cpu"]
    assert choose_once(elsewhere, "sdpa", attention.pattern, roles, 0.0) is IMPLEMENTATIONS["blocked"]


@dataclass(frozen=True)
class OfEvenDistances(WindowPattern):
    notes: list[str] = field(default_factory=list)  # which cannot be hashed

    def allows(self, query_position: Any, key_position: Any, head: Any = 0) -> Any:
        return super().allows(query_position, key_position, head) & ((query_position - key_position) % 2 == 0)


@dataclass(frozen=True)
class OfAnotherName(WindowPattern):
    notes: list[str] = field(default_factory=list)


def test_one_layer_has_a_pattern_of_its_own():
    model = randomise(HfLongformerModel(tiny_config()))
    expected = model(IDS).last_hidden_state
    attention = model.encoder.layer[1].attention.self
    attention.pattern_class = OfAnotherName
    torch.testing.assert_close(model(IDS).last_hidden_state, expected)
    attention.pattern_class = OfEvenDistances
    with pytest.raises(NotImplementedError, match="got OfEvenDistances with allows of its own"):
        model(IDS)
    attention.config = copy.deepcopy(attention.config)
    attention.config._attn_implementation = "eager"
    with recorded_choices() as choices:
        found = model(IDS).last_hidden_state
    assert [name for name, reason in choices if reason is None] == ["cpu", "eager"]
    assert not torch.allclose(found, expected, atol=1e-3)
    torch.testing.assert_close(model(IDS).last_hidden_state, found)


def test_explain_attention():
    model = randomise(HfLongformerModel(tiny_config(num_hidden_layers=2)))
    lines = explain_attention(model, {"input_ids": IDS}).splitlines()
    assert lines[0] == 'attn_implementation="sdpa" on cpu in torch.float32'
    assert [line.partition(":")[0] for line in lines[1:]] == list(IMPLEMENTATIONS)
    assert lines[1].startswith(("triton: not taken, it needs a GPU", "triton: not taken, it needs the package"))
    assert lines[2].startswith("cpu: taken 2 times")
    asked_for = [f"{name}: only taken if it is asked for" for name in ("flex_attention", "flex_attention_flash")]
    assert lines[3:] == ["blocked: not needed", *asked_for]
    padded = {"input_ids": IDS, "attention_mask": (torch.arange(150) < torch.tensor([[150], [20]])).long()}
    assert "cpu: taken 4 times" in explain_attention(model, padded)  # two texts by themselves, in two layers
    assert "explicit weights of windows, since they are asked for: taken 2" in explain_attention(
        model, {"input_ids": IDS, "output_attentions": True}
    )
    assert "the definition" in explain_attention(
        HfLongformerModel(tiny_config(attn_implementation="eager")), {"input_ids": IDS}
    )
    causal = HfLongformerForCausalLM(tiny_config(is_decoder=True, position_embedding_type="rotary")).double()
    assert "cpu: taken" in explain_attention(causal, {"input_ids": IDS, "use_cache": False})
    with pytest.raises(ValueError, match="a cache would go on by what is read here"):
        explain_attention(causal, {"input_ids": IDS, CACHE_NAME: RollingCache(causal.config)})
    relative = HfLongformerForCausalLM(tiny_config(is_decoder=True, position_embedding_type="relative"))
    assert "with relative positions: taken" in explain_attention(relative, {"input_ids": IDS})


def test_what_is_refused_leaves_the_cache_as_it_was():
    model = randomise(HfLongformerForCausalLM(tiny_config(is_decoder=True, position_embedding_type="rotary"))).double()
    with torch.no_grad():
        expected = model(IDS).logits
        cache = model(IDS[:, :90], use_cache=True)[CACHE_NAME]
        model.set_attn_implementation("blocked")
        with pytest.raises(NotImplementedError, match=r'"blocked" reads a text at once.* a cache that holds tokens'):
            model(IDS[:, 90:], **{CACHE_NAME: cache})
        model.set_attn_implementation("sdpa")
        torch.testing.assert_close(model(IDS[:, 90:], **{CACHE_NAME: cache}).logits, expected[:, 90:])
