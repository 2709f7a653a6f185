# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`text_slices`: a text that is attended to slice by slice is attended to as a whole."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers import random_masks_and_pattern, tiny_config

from hf_longformer.attention_hf_longformer import HfLongformerSelfAttention
from hf_longformer.text_slices import (
    PartialRows,
    local_rows_of_slice,
    merge_partial_rows,
    partial_global_rows,
    row_of_slice,
)
from hf_longformer.token_roles import SlicedTexts, TokenRoles
from hf_longformer.window_pattern import WindowPattern


def attention(seed: int, implementation: str, head_dim: int = 16) -> Any:
    """A module of two heads in float64, whose window is `pattern_class`'s."""
    torch.manual_seed(seed)
    config = tiny_config(
        hidden_size=2 * head_dim,
        num_attention_heads=2,
        attn_implementation=implementation,
        attention_probs_dropout_prob=0.0,
    )
    return HfLongformerSelfAttention(config, 0).double()


def attend_by_slices(
    module: Any, states: torch.Tensor, roles: TokenRoles, pattern: WindowPattern, bounds: list[int]
) -> torch.Tensor:
    """What every slice contributes, put together."""
    length, tokens = states.shape[1], roles.global_tokens
    outputs, parts = [], []
    for start, stop in pairwise(bounds):
        of_slice = SlicedTexts(texts=roles, length=length, start=start, stop=stop)
        row = row_of_slice(of_slice, pattern)
        in_row = states[:, start - row.before : stop + row.after]
        if tokens is not None:
            of_texts = states[torch.arange(len(states))[:, None], tokens.index]
            front = of_texts.gather(1, row.front[..., None].expand(-1, -1, states.shape[-1]))
            in_row = torch.cat([front, in_row], dim=1)
            settings: dict[str, Any] = {"pattern": pattern, "roles": of_slice}
            parts.append(
                partial_global_rows(
                    of_texts.flatten(0, 1), states[:, start:stop], module.global_projections, **settings
                )
            )
        projections = [module.split_heads(project(in_row)) for project in (module.query, module.key, module.value)]
        outputs.append(local_rows_of_slice(*projections, row=row, pattern=pattern, attn_implementation="sdpa"))
    output = torch.cat(outputs, dim=2)
    if tokens is not None:
        stacked = (torch.stack([getattr(part, name) for part in parts]) for name in ("weighted", "total", "largest"))
        rows = merge_partial_rows(PartialRows(*stacked)).masked_fill(~tokens.valid[:, None, :, None], 0.0)
        output = output.scatter_add(2, tokens.index[:, None, :, None].expand_as(rows), rows)
    return output.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("seed", range(24))
def test_slices_are_the_whole(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and the gradients of states and weights, in float64, with slices shorter than what windows reach, too."""
    random, length = torch.Generator().manual_seed(seed), 40
    is_global, real, pattern = random_masks_and_pattern(random, length, heads=2)
    head_dim = (4, 16)[seed % 2]  # few global tokens: without keys of their own; many: with them
    monkeypatch.setattr(HfLongformerSelfAttention, "pattern", pattern)
    whole, sliced = (attention(seed, name, head_dim) for name in ("eager", "sdpa"))
    sliced.load_state_dict(whole.state_dict())
    number = 0 if is_global is None else int(is_global.sum(dim=1).max())
    roles = TokenRoles.from_masks(real, is_global, number)
    cuts = torch.randperm(length - 1, generator=random)[: 1 + seed % 4] + 1
    bounds = [0, *sorted(cuts.tolist()), length]
    found = []
    target = torch.randn(2, length, 2 * head_dim, generator=random, dtype=torch.float64)
    given = torch.randn(2, length, 2 * head_dim, generator=random, dtype=torch.float64)
    for module in (whole, sliced):
        states = given.clone().requires_grad_()
        if module is whole:
            output = module(states, roles)[0]
        else:
            output = attend_by_slices(module, states, roles, pattern, bounds)
        (output * target).sum().backward()
        weights = {name: one.grad for name, one in module.named_parameters() if one.grad is not None}
        found.append({"output": output.detach(), "states": states.grad, **weights})
    assert found[1].keys() <= found[0].keys()
    for name, expected in found[0].items():
        got = found[1].get(name, torch.zeros_like(expected))
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


def test_a_row_in_front_of_a_slice_holds_what_is_elsewhere() -> None:
    is_global = torch.zeros(2, 40, dtype=torch.bool)
    is_global[0, [0, 12, 39]] = is_global[1, 5] = True
    roles = SlicedTexts(texts=TokenRoles.from_masks(None, is_global, 3), length=40, start=10, stop=20)
    row = row_of_slice(roles, WindowPattern(4))
    assert (row.before, row.after, row.front.shape) == (2, 2, (2, 2))
    assert row.front[0].tolist() == [0, 2]
    assert row.roles.key_padding_mask[:, :2].tolist() == [[True, True], [True, False]]
    assert row.roles.is_global[0].nonzero().flatten().tolist() == [0, 1, 2 + 12 - 8]
    causal = row_of_slice(roles, WindowPattern(4, is_causal=True))
    assert (causal.before, causal.after, causal.front.tolist()) == (2, 0, [[0], [0]])


def test_a_slice_that_rows_do_not_see_changes_nothing() -> None:
    """All padding: its largest score is the least number, and its sums are 0."""
    seen = PartialRows(torch.tensor([[2.0, 4.0]]), torch.tensor([[2.0]]), torch.tensor([[-90.0]]))
    lowest = torch.finfo(torch.float32).min
    unseen = PartialRows(torch.zeros(1, 2), torch.zeros(1, 1), torch.full((1, 1), lowest))
    stacked = PartialRows(
        *(torch.stack([getattr(x, n) for x in (unseen, seen)]) for n in ("weighted", "total", "largest"))
    )
    torch.testing.assert_close(merge_partial_rows(stacked), torch.tensor([[1.0, 2.0]]))
    nothing = PartialRows(*(torch.stack([getattr(unseen, n)] * 2) for n in ("weighted", "total", "largest")))
    assert merge_partial_rows(nothing).eq(0).all()


def test_other_patterns_are_refused() -> None:
    class Other(WindowPattern):
        def allows(self, query_position: Any, key_position: Any, head: Any = 0) -> Any:
            return (query_position - key_position) % 3 == 0

    roles = SlicedTexts(texts=TokenRoles(), length=40, start=10, stop=20)
    with pytest.raises(NotImplementedError, match="knows windows only, got Other with allows of its own"):
        row_of_slice(roles, Other(4))
