# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Implementations that are asked for by name, and what is said of those that are not taken."""

import pytest
import torch
from helpers import Case, keywords, random_ids, random_projections, randomise, tiny_config

from hf_longformer import (
    HfLongformerForCausalLM,
    HfLongformerModel,
    RollingCache,
    explain_attention,
    longformer_attention,
)
from hf_longformer.dispatch import IMPLEMENTATIONS
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
