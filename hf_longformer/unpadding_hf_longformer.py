# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches without their padding: the real tokens of all texts stand one after the other in a single row, so that a
batch costs what these tokens cost.

Attention takes the texts apart again, on a CPU one by one, on a GPU in its kernels. That is exact where padding stands
at the ends of a text, on either side: a window counts the padding inside a text as distance.
"""

from collections.abc import Callable
from typing import Any

import torch

from .dispatch import has_kernels
from .operators import is_transformed
from .plain_modules import are_compiled, is_listened_to
from .token_roles import SeparateTexts, TokenRoles, pack
from .transformers_internals import is_tracing

UNPADDED = ("sdpa", "triton", "cpu")  # implementations that know texts in a row, or take them one by one
MIN_PADDING = 64  # tokens per text, on average: what taking a text apart from the others costs, for a small model


def is_worth_unpadding(model: Any, roles: TokenRoles, numbers: dict[str, int], needs_all_layers: bool) -> bool:
    """Whether the padding of a batch may be left out, and enough is saved by it.

    Args:
        model: The encoder.
        roles: Of the batch.
        numbers: What was read of its masks.
        needs_all_layers: Whether attention weights or hidden states of all layers are asked for, which have the shape
            of the batch.
    """
    real, config = roles.key_padding_mask, model.config
    if real is None or needs_all_layers or model.has_causal_layers or config.chunk_size_feed_forward:
        return False
    if is_tracing(real) or is_transformed() or config._attn_implementation not in UNPADDED or not roles.is_contiguous:
        return False
    if are_compiled(model.encoder.modules()):
        return False  # compiled layers would be compiled again for every number of texts
    if not MIN_PADDING * len(real) <= numbers["padded"] < real.numel():
        return False
    if is_listened_to((*model.embeddings.modules(), *model.encoder.modules())):  # texts must stay as they came
        return False
    return real.device.type == "cpu" or _will_take_kernels(model, real.device)


def _will_take_kernels(model: Any, device: torch.device) -> bool:
    if model.config._attn_implementation == "cpu":
        return False
    dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else model.dtype
    return has_kernels(device, dtype, model.config.hidden_size // model.config.num_attention_heads)


def unpad(
    model: Any, roles: TokenRoles, numbers: dict[str, int], *tensors: torch.Tensor | None
) -> tuple[TokenRoles | SeparateTexts, Callable[[torch.Tensor], torch.Tensor], list[torch.Tensor | None]]:
    """Takes the padding out of a batch, on a GPU without waiting for it.

    Args:
        model: The encoder.
        roles: Of the batch.
        numbers: What was read of its masks.
        tensors: `(batch, S, …)`, or None.

    Returns:
        The roles of the texts; a function that undoes all this, with 0 for padding; and the tensors as `(1, T, …)`, the
        T real tokens of all texts one after the other.
    """
    real: Any = roles.key_padding_mask
    row = pack(roles, numbers["padded"], numbers["longest"])
    kept = [None if x is None else x.expand(*real.shape, *x.shape[2:]).flatten(0, 1)[row.index][None] for x in tensors]
    texts = row if _will_take_kernels(model, real.device) else _separate_texts(real, roles.is_global)
    return texts, row.pad, kept


def _separate_texts(real: torch.Tensor, is_global: torch.Tensor | None) -> SeparateTexts:
    """Texts of padding alone are left out."""
    texts = []
    for row in real.any(dim=1).nonzero().flatten():
        of_text = None if is_global is None else is_global[row, real[row]][None]
        num_global = 0 if of_text is None else int(of_text.sum())
        texts.append(TokenRoles.from_masks(None, of_text, num_global, is_even=True))
    lengths = real.sum(dim=1)
    return SeparateTexts(tuple(texts), tuple(lengths[lengths > 0].tolist()))
