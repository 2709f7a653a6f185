# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Other people's kernels for windows, on GPUs: FlashAttention-4 and PyTorch's `varlen_attn`, beside the bare operator
and in ModernBERT. Each says why it cannot be had.
"""

import inspect
from collections.abc import Callable
from functools import cache, partial
from importlib import metadata
from typing import Any

import torch
from transformers import AttentionInterface

FLASH, VARLEN = "flash-attention-4", "varlen"
MODERNBERT = {"modernbert-flash": FLASH, "modernbert-varlen": VARLEN}  # peers, and their kernels
HALF = ("bfloat16", "float16")


def why_not(peer: str, device: str, dtype: str, attention_dilation: int) -> str | None:
    """What is in the way of a peer that takes such kernels; None if nothing is, or it takes none.

    Args:
        peer: Its name.
        device: `"cpu"` or `"cuda"`.
        dtype: What is computed in.
        attention_dilation: Of Longformers, which the bare operators would have to have.
    """
    kernel = MODERNBERT.get(peer.removesuffix("-compiled"), peer)
    if kernel not in (FLASH, VARLEN):
        return None
    if device != "cuda":
        return "left out: needs a GPU"
    if dtype not in HALF:
        return f"left out: takes bfloat16 and float16, got {dtype}"
    if kernel == peer and attention_dilation > 1:
        return "left out: has no dilation"
    if kernel == FLASH:
        if torch.cuda.get_device_capability()[0] < 9:
            return "left out: needs a GPU of compute capability 9.0 or newer"
        return None if _has_flash() else "left out: needs the package flash-attn-4"
    return (
        None if _has_varlen() else f"left out: needs a PyTorch whose varlen_attn has windows, got {torch.__version__}"
    )


def _has_flash() -> bool:
    try:
        return bool(metadata.version("flash-attn-4"))
    except metadata.PackageNotFoundError:
        return False


def _has_varlen() -> bool:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return "window_size" in inspect.signature(varlen_attn).parameters


def operator(kernel: str, attention_window: int) -> Callable[..., torch.Tensor]:
    """A function of query, key and value `(batch, heads, S, head_dim)`: the window alone, no global tokens."""
    half = attention_window // 2
    return partial({FLASH: _by_flash, VARLEN: _by_varlen}[kernel], half=half)


def _by_flash(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, half: int) -> torch.Tensor:
    from flash_attn.cute import flash_attn_func

    found = flash_attn_func(*(x.transpose(1, 2) for x in (query, key, value)), window_size=(half, half))
    return (found[0] if isinstance(found, tuple) else found).transpose(1, 2)


def _by_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, half: int, scale: float | None = None
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    batch, _, length, _ = query.shape
    first = _firsts(batch, length, query.device)
    rows = [x.transpose(1, 2).flatten(0, 1) for x in (query, key, value)]
    attend: Any = varlen_attn
    output = attend(*rows, first, first, length, length, window_size=(half, half), scale=scale)
    return output.unflatten(0, (batch, length)).transpose(1, 2)


@cache
def _firsts(batch: int, length: int, device: torch.device) -> torch.Tensor:
    """Where every text begins, and the end of the last one."""
    return torch.arange(0, (batch + 1) * length, length, dtype=torch.int32, device=device)


def attention_of_modernbert(peer: str) -> str:
    """What `attn_implementation` is called with these kernels; they are registered if need be."""
    if MODERNBERT[peer] == FLASH:
        return "flash_attention_4"
    AttentionInterface.register(VARLEN, _varlen_of_transformers)
    return VARLEN


def _varlen_of_transformers(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention as Transformers calls it, of texts without padding; `sliding_window` counts the token itself."""
    if attention_mask is not None or dropout:
        raise NotImplementedError(f"varlen_attn is measured without padding and dropout, got dropout={dropout}")
    half = -1 if sliding_window is None else sliding_window - 1
    return _by_varlen(query, key, value, half, scaling).transpose(1, 2).contiguous(), None
