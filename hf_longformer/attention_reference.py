# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The definition of Longformer's attention: dense, plain, in any dtype. Everything else is checked against it."""

import torch

from .window_pattern import WindowPattern


def attention_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_global: torch.Tensor,
    key_global: torch.Tensor,
    value_global: torch.Tensor,
    *,
    pattern: WindowPattern,
    is_global: torch.Tensor | None = None,
    key_padding_mask: torch.Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Longformer attention as section 3.1 of arXiv 2004.05150 defines it. O(S²) time and memory.

    With V the real tokens and G the global ones (G ⊆ V):

    * a row i outside G takes the local projections and attends to `{j in V∖G : pattern.allows(i, j)} ∪ G`, each key
      once, in one softmax;
    * a row g in G takes the global projections and attends to V;
    * the causal form keeps `j <= i` in both;
    * a padded row is exactly 0 and passes no gradient.

    Args:
        query, key, value: `(batch, heads, S, head_dim)`, the local projections.
        query_global, key_global, value_global: The same shape, the global projections.
        pattern: Window, dilation and direction.
        is_global: `(batch, S)`, bool; None means no global token.
        key_padding_mask: `(batch, S)`, bool, True for real tokens; None means all are real.
        dropout: Probability of dropping an attention weight.
        scaling: Factor on the scores, `head_dim ** -0.5` if left out.
        bias: `(batch, heads, S, S)`, added to the scores, such as those of relative positions.

    Returns:
        The output `(batch, heads, S, head_dim)` and the attention weights after dropout `(batch, heads, S, S)`.
    """
    length, head_dim = query.shape[-2:]
    scaling = head_dim**-0.5 if scaling is None else scaling
    if is_global is None:
        is_global = torch.zeros(query.shape[0], length, dtype=torch.bool, device=query.device)
    allowed = pattern.dense_mask(length, is_global, key_padding_mask, query.device, query.shape[1])
    global_row = is_global[:, None, :, None]

    scores = torch.where(global_row, query_global @ key_global.mT, query @ key.mT) * scaling
    if bias is not None:
        scores = scores + bias
    scores = scores.masked_fill(~allowed, float("-inf"))
    statistics_dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    weights = torch.softmax(scores, dim=-1, dtype=statistics_dtype).masked_fill(~allowed, 0.0).to(value.dtype)
    if dropout > 0.0:
        weights = torch.dropout(weights, dropout, train=True)
    return torch.where(global_row, weights @ value_global, weights @ value), weights
