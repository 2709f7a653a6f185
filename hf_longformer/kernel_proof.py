# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether the kernels give what the definition says, on this device, with this driver and compiler: tried once."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from transformers.utils import logging

from .attention_reference import attention_reference
from .attention_triton import local_rows as local_rows_by_triton, local_rows_without_kernels
from .token_roles import TokenRoles, pack
from .window_pattern import WindowPattern

logger = logging.get_logger(__name__)


@torch.compiler.assume_constant_result
def why_not_proven(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """What is wrong with the kernels for such projections; None if nothing is. Said once, as a warning. Where they
    cannot be tried now, they are tried again the next time.
    """
    try:
        return _prove_once(device, dtype, head_dim)
    except torch.OutOfMemoryError as error:
        return f"could not be tried: {error}"


@lru_cache(maxsize=64)
def _prove_once(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            _prove(device, dtype, head_dim)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # compilers and drivers have many of their own
        logger.warning(
            "the attention kernels are not used on %s with %s and heads of %d: %s. Attention takes the blocked path, "
            "which is slower.",
            *(device, dtype, head_dim, error),
        )
        return f"failed its self-test: {error}"
    return None


def _prove(device: torch.device, dtype: torch.dtype, head_dim: int) -> None:
    """Compares outputs and gradients with the definition, where windows are small and dilated, and where they are what
    most models have, in texts of several blocks, with what training asks for.

    Raises:
        RuntimeError: If the kernels cannot run, or differ by more than rounding.
    """
    for pattern in (WindowPattern(32), WindowPattern(16, 3), WindowPattern(32, is_causal=True)):
        roles = _roles(device, [(20, 150), (0, 150)], [[70], [70]])
        define = partial(_local_rows_of_definition, is_global=roles.is_global, key_padding_mask=roles.key_padding_mask)
        _compare(define, roles, dtype, head_dim, pattern=pattern)
    roles = _roles(device, [(0, 1024), (100, 800)], [[0, 300, 301, 900], [100]])
    for texts in (roles, pack(roles, 324, 1024)):
        define = partial(local_rows_without_kernels, roles=texts)
        _compare(define, texts, dtype, head_dim, heads=1, pattern=WindowPattern(512), dropout=0.1)


def _roles(device: torch.device, texts: list[tuple[int, int]], globals_: list[list[int]]) -> TokenRoles:
    """Of texts, of which it is given where they begin and end and which of their tokens are global."""
    length = max(end for _, end in texts)
    real, is_global = (torch.zeros(len(texts), length, dtype=torch.bool) for _ in range(2))
    for row, ((begin, end), marked) in enumerate(zip(texts, globals_, strict=True)):
        real[row, begin:end], is_global[row, marked] = True, True
    most = max(map(len, globals_))
    return TokenRoles.from_masks(real.to(device), is_global.to(device), most, is_contiguous=True)


def _compare(
    define: Callable[..., torch.Tensor],
    roles: TokenRoles,
    dtype: torch.dtype,
    head_dim: int,
    heads: int = 2,
    **settings: Any,
) -> None:
    """Raises `RuntimeError` if output or gradients of kernels are not those of a definition, up to rounding."""
    real: Any = roles.key_padding_mask
    unused = roles.is_global if real is None else ~real | roles.is_global
    device, (batch, length) = unused.device, unused.shape
    generator = torch.Generator(device).manual_seed(0)
    shape = (batch, heads, length)
    tensors = [torch.randn(*shape, head_dim, generator=generator, device=device).to(dtype) for _ in range(4)]
    if settings.get("dropout"):
        settings["bits"] = torch.randint(-(2**31), 2**31, (2, *shape), generator=generator, device=device).int()

    def run(attend: Callable[..., torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in tensors[:3]]
        rows = attend(*leaves, **settings).masked_fill(unused[:, None, :, None], 0.0)
        return torch.stack([rows, *torch.autograd.grad(rows, leaves, tensors[3].to(dtype))]).detach().double()

    exact, rounded = run(define, torch.float64), run(define, dtype)
    found = run(partial(local_rows_by_triton, roles=roles), dtype)
    error, allowed = (found - exact).abs().max(), 4 * (rounded - exact).abs().max() + 1e-5
    if not bool(error <= allowed):  # NaN is in no order with anything
        raise RuntimeError(f"it differs by {error:.2g} from the definition, and {allowed:.2g} could be rounding")


def _local_rows_of_definition(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **settings: Any
) -> torch.Tensor:
    return attention_reference(query, key, value, query, key, value, **settings)[0]
