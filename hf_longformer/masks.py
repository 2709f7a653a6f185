# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Masks as users give them, checked and made into roles of tokens, with one transfer from the device for all checks."""

from typing import Any

import torch

from .operators import is_exporting, is_transformed
from .token_roles import TokenRoles
from .transformers_internals import is_tracing


def count_in_masks(
    attention_mask: torch.Tensor | None, global_attention_mask: torch.Tensor | None, shape: tuple[int, int]
) -> dict[str, torch.Tensor]:
    """What `roles_of_masks` must know of the masks, as tensors of one number each, so that one transfer reads them all.
    Empty while a program is traced, which cannot read them.

    Raises:
        ValueError: If a mask is not `(batch, S)`.
    """
    counts: dict[str, torch.Tensor] = {}
    for name, mask in (("attention_mask", attention_mask), ("global_attention_mask", global_attention_mask)):
        if mask is not None and tuple(mask.shape) != tuple(shape):
            raise ValueError(f"{name} must have the shape (batch, S) = {tuple(shape)}, got {tuple(mask.shape)}")
        if mask is not None and not is_tracing(mask):
            counts[f"{name}_wrong"] = ((mask != 0) & (mask != 1)).sum()
    if not counts:
        return counts
    if attention_mask is not None:
        counts["padded"] = (attention_mask == 0).sum()
        real = attention_mask.bool()
        counts["longest"] = real.sum(dim=1).max()
        counts["texts_with_gaps"] = ((real[:, 1:] & ~real[:, :-1]).sum(dim=1) + real[:, 0] > 1).sum()
    if global_attention_mask is not None:
        is_global = global_attention_mask.bool()
        numbers = is_global.sum(dim=1)
        counts["num_global"], counts["num_global_min"] = numbers.max(), numbers.min()
        if attention_mask is not None:
            counts["global_on_padding"] = (is_global & ~attention_mask.bool()).sum()
    return counts


def read_numbers(counts: dict[str, torch.Tensor]) -> dict[str, int]:
    """Tensors of one number each to Python numbers, in one transfer from the device."""
    if not counts:
        return {}
    if is_transformed():  # by `vmap`, perhaps: what is true of all its parts
        counts = {name: _over_vmap(count, name.endswith("_min")) for name, count in counts.items()}
    return dict(zip(counts, torch.stack([count.long() for count in counts.values()]).tolist(), strict=True))


def _over_vmap(count: torch.Tensor, is_smallest: bool) -> torch.Tensor:
    """The largest, or smallest, of the numbers that `vmap` works with at a time."""
    while torch._C._functorch.is_functorch_wrapped_tensor(count):
        count = torch._C._functorch.get_unwrapped(count)
    return count.min() if is_smallest else count.max()


def roles_of_masks(
    attention_mask: torch.Tensor | None,
    global_attention_mask: torch.Tensor | None,
    counts: dict[str, int],
) -> TokenRoles:
    """Checks two `(batch, S)` masks of 0 and 1 by their counts and makes roles of them.

    Raises:
        ValueError: If a mask holds anything but 0 and 1, or a global token is padding.
    """
    if counts.get("attention_mask_wrong"):
        raise ValueError(
            "attention_mask must hold 0 (padding) and 1 (real token) only, "
            f"got {counts['attention_mask_wrong']} other values; global tokens belong in global_attention_mask"
        )
    if counts.get("global_attention_mask_wrong"):
        raise ValueError(
            "global_attention_mask must hold 0 and 1 (global token) only, "
            f"got {counts['global_attention_mask_wrong']} other values"
        )
    if counts.get("global_on_padding"):
        raise ValueError(
            "a global token must be a real token, "
            f"got {counts['global_on_padding']} positions with global_attention_mask=1 and attention_mask=0"
        )
    key_padding_mask = attention_mask.bool() if counts.get("padded") else None
    is_global = None if global_attention_mask is None else global_attention_mask.bool()
    is_contiguous = not counts.get("texts_with_gaps", 0)
    num_global = counts.get("num_global", 0)
    is_even = counts.get("num_global_min", 0) == num_global
    return TokenRoles.from_masks(key_padding_mask, is_global, num_global, is_contiguous=is_contiguous, is_even=is_even)


def roles_of_traced_masks(
    attention_mask: torch.Tensor | None, global_attention_mask: torch.Tensor | None, num_global: int | None = None
) -> TokenRoles:
    """Roles of two `(batch, S)` masks while `torch.compile`, `torch.export` or `torch.jit` traces.

    What the masks hold is unknown then and stays unchecked; a global token on padding counts as padding.

    Args:
        attention_mask: 1 for real tokens.
        global_attention_mask: 1 for global tokens.
        num_global: The largest number of global tokens in a row, if it is the same for all inputs. Otherwise it is
            worked out whenever the traced program runs.
    """
    real = None if attention_mask is None else attention_mask.bool()
    if global_attention_mask is None:
        return TokenRoles(real)
    is_global = global_attention_mask.bool() if real is None else global_attention_mask.bool() & real
    has_static_count = num_global is not None or not torch.compiler.is_compiling()
    if num_global is None:
        num_global = _count_global(is_global)
    return TokenRoles.from_masks(real, is_global, num_global, has_static_count)


def _count_global(is_global: torch.Tensor) -> int:
    """The largest number of global tokens in a row, at least 1; in a compiled or exported program a symbol, at least 2:
    compilers ask whether a size is 1.
    """
    fewest = 2 if torch.compiler.is_compiling() else 1
    largest = is_global.sum(dim=1).max().clamp(min=fewest)
    is_compiled = torch.compiler.is_compiling() and not is_exporting()
    if is_compiled and hasattr(torch._dynamo, "patch_dynamo_config"):
        with torch._dynamo.patch_dynamo_config(capture_scalar_outputs=True):  # otherwise the graph ends here
            num_global: Any = largest.item()
    else:
        num_global = largest.item()
    torch._check(num_global >= fewest)
    torch._check(num_global <= is_global.shape[1] + 1)
    return num_global
