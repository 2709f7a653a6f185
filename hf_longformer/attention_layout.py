# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention weights between two layouts: dense S × S, and the narrow one that Transformers' Longformer returns."""

from typing import Any

import torch

from .token_roles import TokenRoles
from .window_pattern import WindowPattern


def dense_attention_weights(
    attentions: torch.Tensor,
    global_attentions: torch.Tensor | None = None,
    global_attention_mask: torch.Tensor | None = None,
    *,
    attention_dilation: int | tuple[int, ...] = 1,
) -> torch.Tensor:
    """The attention weights of one layer as the S × S map that most tools expect.

    Args:
        attentions: `(batch, heads, S, G + attention_window + 1)`, one entry of a model's `attentions`.
        global_attentions: `(batch, heads, S, G)`, the same entry of `global_attentions`; needed if G > 0.
        global_attention_mask: `(batch, S)`, 1 for global tokens; needed if G > 0. Where the model chose them by itself,
            it is `model.default_global_attention_mask(input_ids, attention_mask)`.
        attention_dilation: The dilation of the layer.

    Returns:
        `(batch, heads, S, S)`: entry `[b, h, i, j]` is what token i gives to token j.

    Raises:
        ValueError: If the global tokens do not fit the number of columns.
    """
    num_global = 0 if global_attentions is None else global_attentions.shape[-1]
    is_global = None if global_attention_mask is None else global_attention_mask.bool()
    marked = 0 if is_global is None else int(is_global.sum(dim=1).max())
    if marked != num_global:
        raise ValueError(
            "global_attentions and global_attention_mask must speak of the same tokens, "
            f"got {num_global} columns and {marked} global tokens; where the model chose them, "
            "model.default_global_attention_mask(input_ids, attention_mask) says which they are"
        )
    pattern = WindowPattern(attentions.shape[-1] - num_global - 1, attention_dilation)
    roles = TokenRoles.from_masks(None, is_global, num_global)
    return to_dense(attentions, global_attentions, pattern, roles)


def to_narrow(
    weights: torch.Tensor, pattern: WindowPattern, roles: TokenRoles
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Dense weights `(batch, heads, S, S)` to those of local rows, `(batch, heads, S, G + attention_window + 1)`, and
    those of global rows, `(batch, heads, S, G)` or None. Nothing is lost.
    """
    batch, heads, length, _ = weights.shape
    index, inside = _band_index(length, pattern, weights.device)
    index, inside = index.expand(batch, heads, -1, -1), inside.expand(batch, heads, -1, -1)
    if roles.is_global is None:
        return weights.gather(3, index).masked_fill(~inside, 0.0), None
    tokens: Any = roles.global_tokens
    local = weights.masked_fill(roles.is_global[:, None, :, None], 0.0)
    columns = tokens.index[:, None, None, :].expand(batch, heads, length, -1)
    front = local.gather(3, columns).masked_fill(~tokens.valid[:, None, None, :], 0.0)
    window = local.masked_fill(roles.is_global[:, None, None, :], 0.0)
    band = window.gather(3, index).masked_fill(~inside, 0.0)
    rows = tokens.gather(weights).masked_fill(~tokens.valid[:, None, :, None], 0.0)
    return torch.cat([front, band], dim=-1), rows.mT


def to_dense(
    local_weights: torch.Tensor, global_weights: torch.Tensor | None, pattern: WindowPattern, roles: TokenRoles
) -> torch.Tensor:
    """Undoes `to_narrow`."""
    batch, heads, length, _ = local_weights.shape
    front, band = local_weights.tensor_split([roles.num_global], dim=-1)
    index, _ = _band_index(length, pattern, band.device)
    dense = band.new_zeros(batch, heads, length, length).scatter_add(3, index.expand(batch, heads, -1, -1), band)
    if roles.global_tokens is None:
        return dense
    index = roles.global_tokens.index
    dense = dense.scatter_add(3, index[:, None, None, :].expand_as(front), front)
    rows = global_weights.mT
    return dense.scatter_add(2, index[:, None, :, None].expand_as(rows), rows)


def _band_index(length: int, pattern: WindowPattern, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """For every head (or one for all), row and column of the band: the key it stands for, and whether there is one."""
    pattern.require_window()
    w = pattern.one_sided_window
    offset = torch.arange(-w, w + 1, device=device)
    dilation = torch.tensor(pattern.dilations, device=device)
    index = torch.arange(length, device=device)[None, :, None] + dilation[:, None, None] * offset
    return index.clamp(0, length - 1)[None], ((index >= 0) & (index < length))[None]


__all__ = ["dense_attention_weights"]
