# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The local rows, exact, in O(S · window) time and memory, with plain PyTorch on any device.

Three ideas:

* queries are cut into blocks; the keys that a block can see are one slice of the sequence, `one_sided_window` longer on
  both sides, so dense attention inside a block with a band mask is all there is;
* dilation is a view: every d-th token forms a sequence of its own in which the window has no gaps;
* global keys are put in front of every block's keys, so that one softmax covers both.

`torch.compile` and `torch.export` get one geometry for all lengths: no choice here depends on the length then.
"""

import torch

from .blocks import Blocks
from .dense_attention import dense_attention, drop, masked_softmax
from .token_roles import TokenRoles
from .window_pattern import WindowPattern

KNOWN: tuple[str, ...] = ()  # what patterns of somebody's own may replace


def local_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """Output `(batch, heads, S, head_dim)` of the rows that are not global; padded and global rows are 0."""
    pattern.require_window(KNOWN)
    outputs = []
    for dilation, heads in pattern.head_runs(query.shape[1]):
        blocks = Blocks(query.shape[2], pattern, dilation, roles)
        output = dense_attention(
            blocks.queries(query[:, heads]),
            blocks.keys(key[:, heads], roles),
            blocks.keys(value[:, heads], roles),
            blocks.mask(roles, query.shape[0], query.device),
            dropout,
            scaling,
        )
        outputs.append(blocks.rows(output))
    return _keep_local_rows(torch.cat(outputs, dim=1), roles)


def local_weights(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """Attention weights of the rows that are not global, `(batch, heads, S, G + attention_window + 1)`.

    The first G columns are the global tokens in the order of `roles.global_tokens.index`; column `G + w + k` is the
    token `dilation * k` positions to the right (w = one-sided window). Padded and global rows are 0, and so are the
    columns of global tokens inside the window: they stand once, in front.
    """
    pattern.require_window()
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    parts = []
    for dilation, heads in pattern.head_runs(query.shape[1]):
        blocks = Blocks(query.shape[2], pattern, dilation, roles, for_weights=True)
        scores = (blocks.queries(query[:, heads]) @ blocks.keys(key[:, heads], roles).mT) * scaling
        probabilities = masked_softmax(scores, blocks.mask(roles, query.shape[0], query.device))
        front, window = probabilities.split([roles.num_global, blocks.num_keys], dim=-1)
        index = blocks.band_index(window.device).expand(*window.shape[:-1], -1)
        parts.append(blocks.rows(torch.cat([front, window.gather(-1, index)], dim=-1)))
    weights = _keep_local_rows(torch.cat(parts, dim=1), roles)
    return drop(weights, dropout)


def apply_local_weights(
    weights: torch.Tensor, value: torch.Tensor, *, pattern: WindowPattern, roles: TokenRoles
) -> torch.Tensor:
    """Weights in the layout of `local_weights` times the values they belong to: `(batch, heads, S, head_dim)`."""
    pattern.require_window()
    outputs = []
    for dilation, heads in pattern.head_runs(value.shape[1]):
        blocks = Blocks(value.shape[2], pattern, dilation, roles, for_weights=True)
        front, band = blocks.queries(weights[:, heads]).tensor_split([roles.num_global], dim=-1)
        window = band.new_zeros(*band.shape[:-1], blocks.num_keys)
        window = window.scatter(-1, blocks.band_index(band.device).expand_as(band), band)
        outputs.append(blocks.rows(torch.cat([front, window], dim=-1) @ blocks.keys(value[:, heads], roles)))
    return torch.cat(outputs, dim=1)


def _keep_local_rows(tensor: torch.Tensor, roles: TokenRoles) -> torch.Tensor:
    """Sets padded and global rows of `(batch, heads, S, x)` to 0."""
    if roles.key_padding_mask is not None:
        tensor = tensor.masked_fill(~roles.key_padding_mask[:, None, :, None], 0.0)
    if roles.is_global is not None:
        tensor = tensor.masked_fill(roles.is_global[:, None, :, None], 0.0)
    return tensor
