# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Patterns that fast paths do not know are refused, and windows beyond the text cost what the text costs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_ids, randomise, tiny_config
from torch.utils._python_dispatch import TorchDispatchMode

import hf_longformer
from hf_longformer import (
    attention_blocked,
    attention_cpu,
    attention_flex,
    attention_layout,
    attention_triton,
    global_rows,
    longformer_attention,
)
from hf_longformer.attention_decoder_hf_longformer import HfLongformerCausalSelfAttention
from hf_longformer.attention_hf_longformer import HfLongformerSelfAttention
from hf_longformer.attention_reference import attention_reference
from hf_longformer.drawing import draw_patterns
from hf_longformer.token_roles import TokenRoles
from hf_longformer.window_pattern import WindowPattern

HUGE = 16_777_216


class Odd(WindowPattern):
    """Sees what is an odd number of tokens away, and itself."""

    def allows(self, query_position, key_position, head=0):
        distance = query_position - key_position
        return super().allows(query_position, key_position, head) & ((distance % 2 == 1) | (distance == 0))


class Wider(WindowPattern):
    @property
    def one_sided_window(self) -> int:
        return self.attention_window


@dataclass(frozen=True)
class Named(WindowPattern):
    """The same pattern, and a word about it."""

    name: str = "a name"


ROLES = TokenRoles.from_masks(None, torch.arange(70)[None] == 3, 1)
QUERY, KEY, VALUE = torch.randn(3, 1, 2, 70, 4, generator=torch.Generator().manual_seed(0)).double()
ROW = QUERY[:, :, 3:4]
WEIGHTS = torch.rand(1, 2, 70, 10, dtype=torch.float64)
PATHS: dict[str, Callable[[WindowPattern], Any]] = {
    "blocked": lambda p: attention_blocked.local_rows(QUERY, KEY, VALUE, pattern=p, roles=ROLES),
    "weights": lambda p: attention_blocked.local_weights(QUERY, KEY, pattern=p, roles=ROLES),
    "weighted": lambda p: attention_blocked.apply_local_weights(WEIGHTS, VALUE, pattern=p, roles=ROLES),
    "cpu": lambda p: attention_cpu.local_rows(QUERY, KEY, VALUE, pattern=p, roles=ROLES),
    "cpu, dropout": lambda p: attention_cpu.local_rows(QUERY, KEY, VALUE, pattern=p, roles=ROLES, dropout=0.1),
    "narrow": lambda p: attention_layout.to_narrow(torch.rand(1, 2, 70, 70), p, ROLES),
    "dense": lambda p: attention_layout.to_dense(WEIGHTS, torch.rand(1, 2, 70, 1).double(), p, ROLES),
}


@pytest.mark.parametrize("kind", [Odd, Wider])
@pytest.mark.parametrize("path", PATHS)
def test_patterns_of_others_are_refused(path: str, kind: type[WindowPattern]):
    with pytest.raises(NotImplementedError, match=f"windows only, got {kind.__name__} with"):
        PATHS[path](kind(8))
    PATHS[path](WindowPattern(8))
    PATHS[path](Named(8))


class Seeded(Odd):
    def __init__(self, window: int, seed: int) -> None:
        super().__init__(window)
        object.__setattr__(self, "seed", seed)


def test_what_a_pattern_holds_must_be_fields():
    for attend in (lambda p: p.dense_mask(9), lambda p: attention_flex.make_block_mask(2, 70, p, ROLES, QUERY.device)):
        with pytest.raises(ValueError, match="must be fields of a dataclass, got seed in Seeded"):
            attend(Seeded(8, 3))


def test_longformer_attention_takes_a_pattern():
    expected, _ = attention_reference(QUERY, KEY, VALUE, QUERY, KEY, VALUE, pattern=Odd(8))
    found = longformer_attention(QUERY, KEY, VALUE, pattern=Odd(8), attn_implementation="eager")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        longformer_attention(QUERY, KEY, VALUE, pattern=WindowPattern(8, 2)),
        longformer_attention(QUERY, KEY, VALUE, attention_window=8, attention_dilation=2),
    )
    for name in ("sdpa", "cpu", "blocked"):
        with pytest.raises(NotImplementedError, match="got Odd with allows"):
            longformer_attention(QUERY, KEY, VALUE, pattern=Odd(8), attn_implementation=name)
    with pytest.raises(ValueError, match="pass either attention_window or pattern, got None and None"):
        longformer_attention(QUERY, KEY, VALUE)
    with pytest.raises(ValueError, match="attention_dilation and is_causal are the pattern's own"):
        longformer_attention(QUERY, KEY, VALUE, pattern=Odd(8), is_causal=True)


def test_a_layer_takes_a_class_of_patterns():
    model = randomise(hf_longformer.HfLongformerModel(tiny_config(attn_implementation="eager")))
    ids = random_ids(1, 40)
    before = model(ids).last_hidden_state
    model.encoder.layer[0].attention.self.pattern_class = Odd
    assert not torch.allclose(model(ids).last_hidden_state, before)
    model.set_attn_implementation("sdpa")
    with pytest.raises(NotImplementedError, match="got Odd with allows"):
        model(ids)


def test_global_rows_do_not_ask_for_windows():
    for compute in (
        lambda p: global_rows.global_rows(ROW, KEY, VALUE, pattern=p, roles=ROLES),
        lambda p: global_rows.global_weights(ROW, KEY, pattern=p, roles=ROLES),
    ):
        torch.testing.assert_close(compute(Odd(8)), compute(WindowPattern(8)))
        with pytest.raises(NotImplementedError, match="got Wider with"):
            compute(Wider(8))


def test_flex_attention_takes_patterns_that_replace_allows_alone():
    """Which blocks it visits, it asks the pattern; `test_attention_flex.py` compares with the definition."""
    attention_flex.make_block_mask(2, 70, Odd(8), ROLES, QUERY.device)
    with pytest.raises(NotImplementedError, match=r"windows only, got Wider with one_sided_window of its own"):
        attention_flex.make_block_mask(2, 70, Wider(8), ROLES, QUERY.device)


def test_kernels_refuse_patterns_of_others():
    pytest.importorskip("triton")
    with pytest.raises(NotImplementedError, match="got Odd with allows"):
        attention_triton.local_rows(QUERY, KEY, VALUE, pattern=Odd(8), roles=ROLES)


def test_the_definition_and_pictures_take_any_pattern(tmp_path: Path):
    local = (QUERY, KEY, VALUE)
    found, weights = attention_reference(*local, *local, pattern=Odd(8))
    assert torch.equal(weights > 0, Odd(8).dense_mask(70).expand_as(weights))
    assert not torch.allclose(found, attention_reference(*local, *local, pattern=WindowPattern(8))[0])
    draw_patterns({"odd": (Odd(8), ())}, 20, tmp_path / "odd.png")


@pytest.mark.parametrize("position", ["absolute", "rotary", "relative"])
@pytest.mark.parametrize("is_decoder", [False, True])
def test_models_with_patterns_of_others(is_decoder: bool, position: str, monkeypatch: pytest.MonkeyPatch):
    if position != "absolute" and not is_decoder:
        pytest.skip("encoders have learned positions")
    model = hf_longformer.HfLongformerModel(tiny_config(is_decoder=is_decoder, position_embedding_type=position)).eval()
    kind = HfLongformerCausalSelfAttention if is_decoder else HfLongformerSelfAttention
    monkeypatch.setattr(kind, "pattern", property(lambda self: Odd(8, 1, self.config.is_decoder)))
    ids = random_ids(1, 40)
    for options in ({}, {"use_cache": True}, {"output_attentions": True}):
        if options.get("output_attentions") and position == "relative":
            continue
        with pytest.raises(NotImplementedError, match="got Odd with allows"):
            model(ids, **options)
    model.set_attn_implementation("eager")
    model(ids)
    if position != "relative":
        with pytest.raises(NotImplementedError, match="got Odd with allows"):
            model(ids, output_attentions=True)


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that is made inside."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else [output]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return output


@pytest.mark.parametrize("length", [1, 40, 600])
@pytest.mark.parametrize("window", [HUGE, 2**40])
@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_window_beyond_the_text(length: int, window: int, dilation: int, is_causal: bool, dropout: float):
    tensors = [x.clone().requires_grad_() for x in torch.randn(3, 1, 1, length, 4).double()]
    options: dict[str, Any] = {"attention_dilation": dilation, "is_causal": is_causal, "dropout": dropout}
    found = []
    for width in (window, 2 * 600):
        torch.manual_seed(0)
        with Largest() as largest:
            output = longformer_attention(*tensors, attention_window=width, **options)
            found.append([output, *torch.autograd.grad(output.sin().sum(), tensors)])
        assert largest.numbers <= 600 * 2**11
    for one, other in zip(*found, strict=True):
        assert dropout or torch.allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("position", ["absolute", "rotary", "relative"])
@pytest.mark.parametrize("is_decoder", [False, True])
def test_models_with_windows_beyond_the_text(is_decoder: bool, position: str, implementation: str):
    if position != "absolute" and not is_decoder:
        pytest.skip("encoders have learned positions")
    found = []
    for window in (HUGE, 512):
        config = tiny_config(is_decoder=is_decoder, position_embedding_type=position, attention_window=window)
        model = randomise(hf_longformer.HfLongformerModel(config)).double()
        model.set_attn_implementation(implementation)
        with torch.no_grad(), Largest() as largest:
            states = [model(random_ids(2, 150), use_cache=False).last_hidden_state]
            if is_decoder:
                first = model(random_ids(2, 150)[:, :100], use_cache=True)
                cache = first.get("cache", first.get("past_key_values"))
                after = model(random_ids(2, 150)[:, 100:], past_key_values=cache)
                states += [first.last_hidden_state, after.last_hidden_state]
            if position != "relative":
                weights = model(random_ids(2, 150), output_attentions=True, use_cache=False).attentions[0]
                centre = weights.shape[-1] // 2
                states.append(weights[..., centre - 150 : centre + 150])
        assert largest.numbers <= 2 * 3 * 200 * 1025
        found.append(states)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_kernels_with_windows_beyond_the_text():
    pytest.importorskip("triton")
    tensors = [x.float() for x in (QUERY, KEY, VALUE)]
    for dilation in (1, 3):
        found = [
            attention_triton.local_rows(*tensors, pattern=WindowPattern(window, dilation), roles=ROLES)
            for window in (2**40, 200)
        ]
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("window", [2, 8, 300, HUGE])
@pytest.mark.parametrize("length", [1, 2, 7, 64, 129])
def test_within(length: int, window: int):
    for pattern in (WindowPattern(window), WindowPattern(window, (1, 3)), WindowPattern(window, 2, True)):
        cut = pattern.within(length)
        assert torch.equal(cut.dense_mask(length), pattern.dense_mask(length))
        assert cut.attention_window <= min(window, 4 * length + 2)
