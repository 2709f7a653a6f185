# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention of one slice of a text, given the little that it needs of the others: the tokens that its windows reach
beyond its ends, and the global tokens. For texts that are divided among processes, or walked slice by slice.

A slice stands in a row with these: `[global tokens from elsewhere | before | slice | after]`. Every implementation of
the local rows computes that row as it is. The rows of global tokens, which see every slice, are computed in parts, one
per slice, and merged, as softmax allows (arXiv 1805.02867).
"""

from dataclasses import dataclass
from typing import Any

import torch

from .dense_attention import drop
from .dispatch import local_rows
from .global_rows import GlobalProjections, rows_of_states, scaled, scores_of_states
from .operators import sum_dtype
from .plain_modules import is_plain
from .token_roles import SlicedTexts, TokenRoles
from .window_pattern import WindowPattern


@dataclass(frozen=True)
class SliceRow:
    """The row in which a slice is attended to, for one window.

    Args:
        front: `(batch, F)`, which of the G global tokens of a text stand in front, in the order of
            `GlobalTokens.index`: those that are elsewhere. Texts with fewer are filled up.
        before: Tokens between these and the slice.
        after: Tokens behind the slice.
        roles: Of the row, `(batch, F + before + slice + after)`.
    """

    front: torch.Tensor
    before: int
    after: int
    roles: TokenRoles


def reached(pattern: WindowPattern, start: int, stop: int, length: int) -> tuple[int, int]:
    """The first token that windows of the tokens `start … stop - 1` reach in a text of `length`, and what follows the
    last one.
    """
    after = 0 if pattern.is_causal else pattern.reach
    return max(0, start - pattern.reach), min(length, stop + after)


def row_of_slice(roles: SlicedTexts, pattern: WindowPattern) -> SliceRow:
    """The row of a slice, made once for every window.

    Args:
        roles: Of the slice.
        pattern: The window.

    Raises:
        NotImplementedError: If the pattern is not that of windows: it may ask where in the text a token stands.
    """
    if others := pattern.overridden():
        raise NotImplementedError(
            f"a slice of a text knows windows only, got {type(pattern).__name__} with {', '.join(others)} of its own: "
            "leave texts whole"
        )
    return roles.derived((pattern.reach, pattern.is_causal), lambda: _make_row(roles, pattern))


def _make_row(roles: SlicedTexts, pattern: WindowPattern) -> SliceRow:
    first, last = reached(pattern, roles.start, roles.stop, roles.length)
    real, tokens = roles.texts.key_padding_mask, roles.texts.global_tokens
    real = None if real is None else real[:, first:last]
    if tokens is None:
        front = torch.zeros(1, 0, dtype=torch.long)
        return SliceRow(front, roles.start - first, last - roles.stop, TokenRoles(real))
    is_elsewhere = tokens.index < first
    if not pattern.is_causal:
        is_elsewhere = is_elsewhere | (tokens.index >= last)
    is_elsewhere = is_elsewhere & tokens.valid
    front = torch.argsort(~is_elsewhere, dim=1, stable=True)[:, : int(is_elsewhere.sum(dim=1).max())]
    valid = is_elsewhere.gather(1, front)
    is_global = torch.cat([valid, tokens.mask[:, first:last]], dim=1)
    if real is not None or not bool(valid.all()):
        real = torch.ones_like(tokens.mask[:, first:last]) if real is None else real
        real = torch.cat([valid, real], dim=1)
    of_row = TokenRoles.from_masks(real, is_global, int(is_global.sum(dim=1).max()))
    return SliceRow(front, roles.start - first, last - roles.stop, of_row)


def front_states(global_states: torch.Tensor, row: SliceRow) -> torch.Tensor:
    """Of the states of all global tokens, `(batch * G, hidden_size)`, those in front of a row, `(batch, F,
    hidden_size)`.
    """
    of_texts = global_states.unflatten(0, (len(row.front), -1))
    return of_texts.gather(1, row.front[..., None].expand(-1, -1, of_texts.shape[-1]))


def local_rows_of_slice(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, row: SliceRow, **settings: Any
) -> torch.Tensor:
    """Output `(batch, heads, slice, head_dim)` of the tokens of a slice that are not global; others are 0.

    Args:
        query: `(batch, heads, F + before + slice + after, head_dim)`, of the row; only those of the slice matter.
        key, value: The same shape.
        row: What `row_of_slice` makes.
        **settings: Those of `local_rows`, without `roles`.
    """
    output = local_rows(query, key, value, roles=row.roles, **settings)
    start = row.front.shape[1] + row.before
    return output[:, :, start : output.shape[2] - row.after]


@dataclass(frozen=True)
class PartialRows:
    """What one slice contributes to the rows of all global tokens, in float32 at least; or several slices, stacked.

    Args:
        weighted: `(…, head_dim)`, the sum of values, weighted by `exp(score - largest)`.
        total: `(…, 1)`, the sum of these weights.
        largest: `(…, 1)`, the largest score, without a gradient: the row does not depend on it.
    """

    weighted: torch.Tensor
    total: torch.Tensor
    largest: torch.Tensor


def merge_partial_rows(parts: PartialRows) -> torch.Tensor:
    """The rows `(…, head_dim)`, of parts that are stacked in the first dimension. A row that sees nothing is 0."""
    factor = torch.exp(parts.largest - parts.largest.amax(dim=0))
    total = (parts.total * factor).sum(dim=0)
    return (parts.weighted * factor).sum(dim=0) / total.clamp(min=torch.finfo(total.dtype).tiny)


def add_partial_rows(one: PartialRows, other: PartialRows) -> PartialRows:
    """What two slices contribute together."""
    largest = torch.maximum(one.largest, other.largest)
    of_one, of_other = torch.exp(one.largest - largest), torch.exp(other.largest - largest)
    weighted = one.weighted * of_one + other.weighted * of_other
    return PartialRows(weighted, one.total * of_one + other.total * of_other, largest)


def partial_global_rows(
    global_states: torch.Tensor,
    hidden_states: torch.Tensor,
    projections: GlobalProjections,
    *,
    pattern: WindowPattern,
    roles: SlicedTexts,
    dropout: float = 0.0,
) -> PartialRows:
    """What the tokens of a slice contribute to the rows of all global tokens, `(batch, heads, G, …)`.

    Args:
        global_states: `(batch * G, hidden_size)`, the states of the global tokens of all slices.
        hidden_states: `(batch, slice, hidden_size)`.
        projections: Of global rows.
        pattern: Its direction matters.
        roles: Of the slice; at least one token of the texts is global.
        dropout: Probability of dropping an attention weight.
    """
    tokens: Any = roles.texts.global_tokens
    factor = projections.factor(hidden_states, roles.texts.key_padding_mask, roles.length)
    head_dim, shape = projections.head_dim, (len(tokens.index), -1, tokens.number)
    if by_states := tokens.number < head_dim and is_plain(*projections.modules):
        heads, pairs = hidden_states.shape[-1] // head_dim, projections.weights()
        scores = scores_of_states(
            global_states, hidden_states, pairs[:2], heads, tokens.number, factor=factor
        ).unflatten(1, shape[1:])
    else:
        states = (global_states.unflatten(0, (-1, tokens.number)), hidden_states, hidden_states)
        query, key, value = (
            projections.split_heads(module(each)) for module, each in zip(projections.modules, states, strict=True)
        )
        scores = (scaled(query, factor) @ key.mT) * head_dim**-0.5
    dtype = scores.dtype
    scores = _seen_by_global_rows(scores, roles, pattern).to(sum_dtype(scores))
    # Where a row sees nothing of the slice, its scores are -inf: weights of 0, and not NaN.
    largest = scores.detach().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
    weights = torch.exp(scores - largest)
    total, weights = weights.sum(dim=-1, keepdim=True), drop(weights, dropout).to(dtype)
    if by_states:
        weighted = rows_of_states(weights.flatten(1, 2), hidden_states, pairs[2], heads, tokens.number, False)
    else:
        weighted = weights @ value
    return PartialRows(weighted.to(scores.dtype), total, largest)


def _seen_by_global_rows(scores: torch.Tensor, roles: SlicedTexts, pattern: WindowPattern) -> torch.Tensor:
    """The scores `(batch, heads, G, slice)`, -inf for padding and, if windows are causal, for what comes later."""
    real, tokens = roles.texts.key_padding_mask, roles.texts.global_tokens
    if real is not None:
        scores = scores.masked_fill(~real[:, None, None, roles.start : roles.stop], float("-inf"))
    if pattern.is_causal:
        position = torch.arange(roles.start, roles.stop, device=scores.device)
        later = position > tokens.index[:, None, :, None]
        scores = scores.masked_fill(later, float("-inf"))
    return scores


__all__ = [
    "PartialRows",
    "SliceRow",
    "add_partial_rows",
    "front_states",
    "local_rows_of_slice",
    "merge_partial_rows",
    "partial_global_rows",
    "reached",
    "row_of_slice",
]
