# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The local rows on a GPU: window, dilation, global tokens, padding anywhere and dropout in one kernel forward and
three backward. Nothing is kept for the backward pass but query, key, value, output and log-sum-exp.

`kernels_triton.py` has the kernels. Both passes are operators of `torch.library`: `torch.compile` puts one node into
its graph, whatever the length.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from . import kernels_triton as kernels
from .operator_forms import make_operator
from .window_pattern import TokenRoles, WindowPattern

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LARGEST_HEAD_DIM, SMALLEST_BLOCK = 256, 16
LOG2_E = math.log2(math.e)
PROGRAMS = 256  # about two for every multiprocessor of a large GPU

# Rows, keys, warps and stages of a block, and whether blocks that need no mask have a loop of their own; by kernel and
# bytes of a head's row, measured on an H100.
SIZES: dict[str, dict[int, tuple[int, int, int, int, int]]] = {
    "forward": {128: (128, 64, 4, 3, 1), 256: (128, 64, 8, 3, 1), 512: (64, 32, 4, 2, 1), 1024: (32, 32, 4, 2, 1)},
    "rows": {128: (128, 64, 4, 3, 1), 256: (64, 64, 4, 2, 1), 512: (64, 32, 4, 2, 1), 1024: (32, 32, 4, 1, 1)},
    "keys": {128: (64, 128, 4, 3, 1), 256: (64, 64, 4, 2, 1), 512: (32, 64, 4, 2, 1), 1024: (32, 32, 4, 1, 1)},
}


def can_attend(query: torch.Tensor, scaling: float | None) -> bool:
    """Whether the kernels take projections like this query `(batch, heads, S, head_dim)`."""
    if kernels.triton is None or query.device.type != "cuda" or query.dtype not in DTYPES:
        return False
    return query.shape[-1] <= LARGEST_HEAD_DIM and (scaling is None or scaling > 0.0)


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
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    projections = [x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value)]
    seed = torch.randint(2**62, (1,), device=query.device) if dropout > 0.0 else None
    if "kernels" not in roles.cache:
        roles.cache["kernels"] = _masks(roles)
    numbers = (pattern.attention_window, list(pattern.dilations), pattern.is_causal, scaling, dropout)
    form = 0 if torch.compiler.is_compiling() else 1
    return _LOCAL_ROWS[form](*projections, *roles.cache["kernels"], seed, *numbers)[0]


def _masks(roles: TokenRoles) -> tuple[torch.Tensor | None, ...]:
    """What kernels want to know of tokens, the same for all layers: `(batch, 2)`, int32, the first real token of every
    text and what follows the last one; `(batch, S)`, which tokens are real, if some between those are not; global ones.
    """
    bounds, real = None, roles.key_padding_mask
    if real is not None:
        last = (real * torch.arange(1, real.shape[1] + 1, device=real.device)).amax(dim=1)
        bounds = torch.stack([torch.where(last > 0, real.int().argmax(dim=1), 0), last], dim=1).int()
    shown = None if roles.is_contiguous else real
    masks = (bounds, shown, roles.is_global, roles.global_index, roles.global_valid)
    return tuple(None if mask is None else mask.contiguous() for mask in masks)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, ...]:
    batch, heads, length, _ = query.shape
    shared, flags, (bounds, shown, is_global, index, valid, seed, dilations), longest = _unpack(query, arguments)
    output, statistics = _empty_rows(query, value)
    rows, sizes = _sizes("forward", query)
    masks = (bounds, shown, is_global, index, valid, dilations, seed)
    strides = [x for tensor in (query, key, value, output) for x in tensor.stride()[:3]]
    numbers = (length, heads, 0 if index is None else index.shape[1], *shared["window"], shared["scale"])
    with torch.cuda.device_of(query):
        kernels.forward[longest(rows), batch * heads](
            *(query, key, value, output, statistics, *masks, *strides, *numbers, *shared["dropout"]), **flags, **sizes
        )
    return output, statistics


def _attend_backward(
    grad_output: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    statistics: torch.Tensor,
    *arguments: Any,
) -> tuple[torch.Tensor, ...]:
    batch, heads, length, head_dim = query.shape
    shared, flags, (bounds, shown, _, index, valid, seed, dilations), longest = _unpack(query, arguments)
    grad_output = grad_output if grad_output.stride(-1) == 1 else grad_output.contiguous()
    grads, products = [torch.empty_like(x) for x in (query, key, value)], torch.empty_like(statistics)
    inputs = [x for tensor in (grad_output, query, key, value) for x in tensor.stride()[:3]]
    numbers = (*shared["window"], shared["scale"], shared["scaling"], *shared["dropout"])
    num_global = 0 if index is None else index.shape[1]
    with torch.cuda.device_of(query):
        rows, sizes = _sizes("rows", query)
        kernels.backward_rows[longest(rows), batch * heads](
            *(grad_output, query, key, value, output, statistics, grads[0], products),
            *(bounds, shown, index, valid, dilations, seed, *inputs, *output.stride()[:3], *grads[0].stride()[:3]),
            *(length, heads, num_global, *numbers),
            **(flags | sizes),
        )
        _, sizes = _sizes("keys", query)
        kept = {name: flags[name] for name in flags if name not in ("GLOBALS", "CAUSAL", "HAS_GLOBAL")}
        kernels.backward_keys[longest(sizes["KEYS"]), batch * heads](
            *(grad_output, query, key, value, statistics, products, *grads[1:], bounds, shown, dilations, seed),
            *(*inputs, *grads[1].stride()[:3], *grads[2].stride()[:3], length, heads, *numbers),
            **(kept | sizes),
        )
        if index is not None:
            blocks, step = -(-num_global // flags["GLOBALS"]), 64
            parts = max(1, min(-(-length // step), PROGRAMS // (batch * heads * blocks)))
            sums = torch.empty(2, parts, batch, heads, num_global, head_dim, device=query.device)
            kept = {name: flags[name] for name in flags if name not in ("HAS_BOUNDS", "HAS_SHOWN", "HAS_GLOBAL")}
            kernels.backward_global[parts, batch * heads, blocks](
                *(grad_output, query, key, value, statistics, products, sums, index, valid, dilations, seed),
                *(*inputs, length, heads, num_global, *numbers),
                **(kept | {"ROWS": step, "num_warps": 4, "num_stages": 2}),
            )
            for grad, found in zip(grads[1:], sums.sum(dim=1), strict=True):
                grad.scatter_add_(2, index[:, None, :, None].expand_as(found), found.to(grad.dtype))
    return tuple(grads)


def _unpack(query: torch.Tensor, arguments: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any], tuple, Any]:
    """What kernels are told: numbers that they share, what they are compiled for, masks, and how many blocks the phases
    of the longest head have.
    """
    bounds, shown, is_global, index, valid, seed, attention_window, dilations, is_causal, scaling, dropout = arguments
    head_dim, length = query.shape[-1], query.shape[2]
    is_dilated = max(dilations) > 1
    of_heads = _on_device(tuple(dilations) * (query.shape[1] // len(dilations)), query.device) if is_dilated else None
    w = attention_window // 2
    shared = {
        "window": (w, 0 if is_causal else w),
        "scale": scaling * LOG2_E,
        "scaling": scaling,
        "dropout": (math.ceil(dropout * 2**32), 1.0 / (1.0 - dropout)),
    }
    flags = {
        "HEAD_DIM": head_dim,
        "BLOCK_D": _block_d(query),
        "GLOBALS": SMALLEST_BLOCK,
        "DILATED": is_dilated,
        "CAUSAL": is_causal,
        "HAS_BOUNDS": bounds is not None,
        "HAS_SHOWN": shown is not None,
        "HAS_GLOBAL": index is not None,
        "DROPOUT": dropout > 0.0,
        "PRECISION": "tf32x3" if query.dtype == torch.float32 else "ieee",
    }

    def longest(size: int) -> int:
        return max(dilation * -(-(-(-length // dilation)) // size) for dilation in set(dilations))

    return shared, flags, (bounds, shown, is_global, index, valid, seed, of_heads), longest


def _block_d(query: torch.Tensor) -> int:
    return max(SMALLEST_BLOCK, 1 << (query.shape[-1] - 1).bit_length())


def _sizes(kernel: str, query: torch.Tensor) -> tuple[int, dict[str, int]]:
    width = max(128, _block_d(query) * query.element_size())
    rows, keys, warps, stages, is_split = SIZES[kernel][width]
    return rows, {"ROWS": rows, "KEYS": keys, "PARTS": 3 if is_split else 1, "num_warps": warps, "num_stages": stages}


@lru_cache(maxsize=64)
def _on_device(dilations: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(dilations, dtype=torch.int32, device=device)


def _empty_rows(query: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for the output, `(batch, S, heads, head_dim)` in memory, and for the log-sum-exp."""
    batch, heads, length, _ = query.shape
    output = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
    return output, query.new_empty(batch, heads, length, dtype=torch.float32)


_LOCAL_ROWS = make_operator(
    "local_rows_on_gpu",
    (_attend, _attend_backward),
    "Tensor query, Tensor key, Tensor value, Tensor? bounds, Tensor? shown, Tensor? is_global, Tensor? global_index, "
    "Tensor? global_valid, Tensor? seed, int attention_window, int[] dilations, bool is_causal, float scaling, "
    "float dropout",
    "Tensor output, Tensor statistics",
    empty=_empty_rows,
    device="cuda",
)
