# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether the kernels give what the definition says, on this device, with this driver and compiler: tried once."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from transformers.utils import logging

from .attention_reference import attention_reference
from .attention_triton import local_rows as local_rows_by_triton
from .token_roles import TokenRoles
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
    """Compares outputs and gradients with the definition, on two small texts.

    Raises:
        RuntimeError: If the kernel cannot run, or differs by more than rounding.
    """
    real, is_global = torch.ones(2, 150, dtype=torch.bool, device=device), torch.zeros(2, 150, device=device).bool()
    real[0, :20], is_global[:, 70] = False, True
    masks: dict[str, Any] = {"is_global": is_global, "key_padding_mask": real}
    roles = TokenRoles.from_masks(real, is_global, 1, is_contiguous=True)
    generator = torch.Generator(device).manual_seed(0)
    tensors = [torch.randn(2, 2, 150, head_dim, generator=generator, device=device).to(dtype) for _ in range(4)]
    keep = (real & ~is_global)[:, None, :, None]

    def run(attend: Callable[..., torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in tensors[:3]]
        rows = attend(*leaves) * keep
        return torch.stack([rows, *torch.autograd.grad(rows, leaves, tensors[3].to(dtype))]).detach().double()

    for pattern in (WindowPattern(32), WindowPattern(16, 3), WindowPattern(32, is_causal=True)):
        define = partial(_local_rows_of_definition, pattern=pattern, **masks)
        exact, rounded = run(define, torch.float32), run(define, dtype)
        found = run(partial(local_rows_by_triton, pattern=pattern, roles=roles), dtype)
        error, allowed = (found - exact).abs().max(), 4 * (rounded - exact).abs().max() + 1e-5
        if not bool(error <= allowed):  # NaN is in no order with anything
            raise RuntimeError(f"it differs by {error:.2g} from the definition, and {allowed:.2g} could be rounding")


def _local_rows_of_definition(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **settings: Any
) -> torch.Tensor:
    return attention_reference(query, key, value, query, key, value, **settings)[0]
