# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Masks as users give them, checked and made into roles of tokens, with one transfer from the device for all checks,
or none where the caller says how many tokens are global.
"""

from typing import Any

import torch

from .operators import is_exporting, is_transformed
from .token_roles import TokenRoles
from .transformers_internals import is_tracing

READ_FOR_NOTHING = ("cpu",)  # devices whose numbers the host has
ASSERTING = ("cuda",)  # devices that check while the host goes on
WRONG = (
    "masks must hold 0 and 1 only, global tokens must be real ones, and no text may have more of them than "
    "num_global_tokens"
)


def attention_roles(
    attention_mask: torch.Tensor | None = None,
    global_attention_mask: torch.Tensor | None = None,
    *,
    num_global_tokens: int | None = None,
) -> TokenRoles:
    """Which tokens are real and which are global, worked out once for any number of calls of `longformer_attention`.

    What calls work out of them is kept in them, too; `to` gives the same on another device. Masks that change need new
    ones.

    Args:
        attention_mask: `(batch, S)`, 1 for real tokens, 0 for padding; all are real if left out.
        global_attention_mask: `(batch, S)`, 1 for tokens that attend to all and that all attend to.
        num_global_tokens: At most so many tokens of any text are global. With it the host does not wait for the device;
            without it masks are counted, in one transfer.

    Raises:
        ValueError: If masks do not fit each other, a mask holds anything but 0 and 1, a global token is padding, or a
            text has more than `num_global_tokens`. With that number a CUDA device checks by itself what masks hold:
            an assertion fails there, which shows where the host next waits for it, as with an index out of range.
            Other devices than those and CPUs check shapes alone, and so does what `torch.compile` or `torch.export`
            traces.
    """
    given = [mask for mask in (attention_mask, global_attention_mask) if mask is not None]
    if given and given[0].dim() != 2:
        raise ValueError(f"masks must have the shape (batch, S), got {tuple(given[0].shape)}")
    shape = tuple(given[0].shape) if given else (0, 0)
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return roles_of_call(attention_mask, global_attention_mask, shape, num_global_tokens)
    with torch.inference_mode(False):  # roles may serve training, wherever they were made
        real, marked = (None if x is None else x.clone() for x in (attention_mask, global_attention_mask))
        return roles_of_call(real, marked, shape, num_global_tokens)


def roles_of_call(
    attention_mask: torch.Tensor | None,
    global_attention_mask: torch.Tensor | None,
    shape: tuple[int, ...],
    num_global_tokens: int | None,
) -> TokenRoles:
    """The same, of masks whose shape must be `(batch, S)`."""
    if num_global_tokens is not None:
        _check_number(num_global_tokens, global_attention_mask, shape)
    _check_shapes(attention_mask, global_attention_mask, shape)
    mask = global_attention_mask if attention_mask is None else attention_mask
    if mask is None or is_tracing(mask):
        return roles_of_traced_masks(attention_mask, global_attention_mask, num_global_tokens)
    if num_global_tokens is None or mask.device.type in READ_FOR_NOTHING:
        numbers = read_numbers(count_in_masks(attention_mask, global_attention_mask, shape))
        if num_global_tokens is not None and numbers.get("num_global", 0) > num_global_tokens:
            raise ValueError(
                f"global_attention_mask must mark at most num_global_tokens={num_global_tokens} tokens of a text, got "
                f"{numbers['num_global']}"
            )
        return roles_of_masks(attention_mask, global_attention_mask, numbers)
    if mask.device.type in ASSERTING:
        counts = _count_wrong(attention_mask, global_attention_mask)
        if global_attention_mask is not None:
            most = global_attention_mask.bool().sum(dim=1).max()
            counts["num_global"] = (most - num_global_tokens).clamp(min=0)
        if counts:
            torch._assert_async(torch.stack(list(counts.values())).sum() == 0, WRONG)
    return roles_of_traced_masks(attention_mask, global_attention_mask, num_global_tokens)


def count_in_masks(
    attention_mask: torch.Tensor | None, global_attention_mask: torch.Tensor | None, shape: tuple[int, ...]
) -> dict[str, torch.Tensor]:
    """What `roles_of_masks` must know of the masks, as tensors of one number each, so that one transfer reads them all.
    Empty while a program is traced, which cannot read them.

    Raises:
        ValueError: If a mask is not `(batch, S)`.
    """
    _check_shapes(attention_mask, global_attention_mask, shape)
    mask = global_attention_mask if attention_mask is None else attention_mask
    if mask is None or is_tracing(mask):
        return {}
    counts = _count_wrong(attention_mask, global_attention_mask)
    if attention_mask is not None:
        counts["padded"] = (attention_mask == 0).sum()
        real = attention_mask.bool()
        counts["longest"] = real.sum(dim=1).max()
        counts["texts_with_gaps"] = ((real[:, 1:] & ~real[:, :-1]).sum(dim=1) + real[:, 0] > 1).sum()
    if global_attention_mask is not None:
        of_texts = global_attention_mask.bool().sum(dim=1)
        counts["num_global"], counts["num_global_min"] = of_texts.max(), of_texts.min()
    return counts


def _check_shapes(
    attention_mask: torch.Tensor | None, global_attention_mask: torch.Tensor | None, shape: tuple[int, ...]
) -> None:
    for name, mask in (("attention_mask", attention_mask), ("global_attention_mask", global_attention_mask)):
        if mask is not None and tuple(mask.shape) != tuple(shape):
            raise ValueError(f"{name} must have the shape (batch, S) = {tuple(shape)}, got {tuple(mask.shape)}")


def _check_number(number: int, global_attention_mask: torch.Tensor | None, shape: tuple[int, ...]) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"num_global_tokens must be a whole number from 0 on, got {number!r}")
    if number and global_attention_mask is None:
        raise ValueError(f"num_global_tokens={number} needs global_attention_mask, which says which they are")
    if number > shape[1]:
        raise ValueError(f"num_global_tokens must be at most the length of texts, {shape[1]}, got {number}")


def _count_wrong(
    attention_mask: torch.Tensor | None, global_attention_mask: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """How much there is in masks that may not be, by its kind."""
    counts: dict[str, torch.Tensor] = {}
    for name, mask in (("attention_mask", attention_mask), ("global_attention_mask", global_attention_mask)):
        if mask is not None and mask.dtype != torch.bool:
            counts[f"{name}_wrong"] = ((mask != 0) & (mask != 1)).sum()
    if attention_mask is not None and global_attention_mask is not None:
        counts["global_on_padding"] = (global_attention_mask.bool() & ~attention_mask.bool()).sum()
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
    number = counts.get("num_global", 0)
    is_even = number == counts.get("num_global_min")
    settings = {"is_contiguous": is_contiguous, "is_even": is_even}
    return TokenRoles.from_masks(key_padding_mask, is_global, number, **settings)


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
