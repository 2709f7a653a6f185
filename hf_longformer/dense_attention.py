# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Dense attention under a mask, which blocks of rows and the rows of global tokens are made of."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from .operators import is_transformed, sum_dtype


def dense_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    scaling: float | None,
    needs_weights: bool = False,
) -> torch.Tensor:
    """Attention of every row to every key that the mask (bool, True: seen) shows, by explicit weights where kernels
    cannot be had.
    """
    if not needs_weights and not is_transformed():
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    weights = masked_softmax((query @ key.mT) * scaling, mask)
    return drop(weights, dropout) @ value


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Softmax over the last dimension, in float32 at least, given back in the dtype of the scores."""
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    if scores.dtype == sum_dtype(scores):
        return torch.softmax(scores, dim=-1)
    return torch.softmax(scores, dim=-1, dtype=sum_dtype(scores)).to(scores.dtype)


def drop(weights: torch.Tensor, dropout: float) -> torch.Tensor:
    """Some weights set to 0, the others scaled. While a program is traced the probability may be a symbol."""
    return torch.dropout(weights, dropout, train=True) if dropout > 0.0 else weights
