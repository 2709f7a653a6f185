# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches without their padding: the real tokens of all texts stand one after the other in a single row, so that a
batch costs what these tokens cost.

Attention takes the texts apart again. That is exact where padding stands at the ends of a text, on either side: a
window counts the padding inside a text as distance.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers.utils import is_tracing

from .window_pattern import TokenRoles

MIN_PADDING = 64  # tokens per text, on average: what taking a text apart from the others costs, for a small model


def is_worth_unpadding(model: Any, roles: TokenRoles, needs_all_layers: bool) -> bool:
    """Whether the padding of a batch may be left out, and enough is saved by it.

    Args:
        model: The encoder.
        roles: Of the batch.
        needs_all_layers: Whether attention weights or hidden states of all layers are asked for, which have the shape
            of the batch.
    """
    real, config = roles.key_padding_mask, model.config
    if real is None or needs_all_layers or model.has_causal_layers or config.chunk_size_feed_forward:
        return False
    if is_tracing(real) or real.device.type != "cpu" or config._attn_implementation != "sdpa":
        return False
    if real.numel() - int(real.sum()) < MIN_PADDING * len(real):
        return False
    return roles.is_contiguous and bool(real.any())


def unpad(
    roles: TokenRoles, *tensors: torch.Tensor | None
) -> tuple[TokenRoles, Callable[[torch.Tensor], torch.Tensor], list[torch.Tensor | None]]:
    """Takes the padding out of a batch.

    Args:
        roles: Of the batch.
        tensors: `(batch, S, …)`, or None.

    Returns:
        The roles of every text by itself; a function that undoes all this, with 0 for padding; and the tensors as
        `(1, T, …)`, the T real tokens of all texts one after the other.
    """
    real: Any = roles.key_padding_mask
    kept = [None if x is None else x.expand(*real.shape, *x.shape[2:])[real][None] for x in tensors]
    return _roles_of_texts(real, roles.is_global), partial(_pad_again, real=real), kept


def _pad_again(hidden_states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    padded = hidden_states.new_zeros(*real.shape, hidden_states.shape[-1])
    return padded.masked_scatter(real[..., None], hidden_states)


def _roles_of_texts(real: torch.Tensor, is_global: torch.Tensor | None) -> TokenRoles:
    """Texts of padding alone are left out."""
    texts = []
    for row in real.any(dim=1).nonzero().flatten():
        of_text = None if is_global is None else is_global[row, real[row]][None]
        num_global = 0 if of_text is None else int(of_text.sum())
        texts.append(TokenRoles.from_masks(None, of_text, num_global))
    lengths = real.sum(dim=1)
    return TokenRoles(texts=tuple(texts), lengths=tuple(lengths[lengths > 0].tolist()))
