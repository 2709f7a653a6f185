# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The local rows by PyTorch's FlexAttention, on a GPU: any dtype, padding anywhere, window and global tokens in one
kernel that is compiled when it is first used, once for all lengths. An explicit choice.

Which blocks of keys a block of queries visits is worked out from the pattern, never from a dense mask, and once for all
layers. Patterns of somebody's own, which replace `allows`, are asked block by block.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from importlib import metadata
from typing import Any

import torch
from torch.nn.attention import flex_attention as flex
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from .token_roles import TokenRoles
from .window_pattern import WindowPattern

BLOCK = 128  # rows and keys
NOT_ON = ("cpu",)  # its compiled form has no backward pass there, the other one makes all S × S scores
KNOWN: tuple[str, ...] = ("allows",)  # what patterns of somebody's own may replace
HIDDEN, IN_WINDOWS, GLOBAL = 0, 1, 2  # tokens
FLASH_DTYPES = (torch.bfloat16, torch.float16)


def local_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float = 0.0,
    scaling: float | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """Output `(batch, heads, S, head_dim)` of the rows that are not global; padded and global rows are 0.

    Raises:
        NotImplementedError: On a CPU, or with dropout.
    """
    pattern.require_window(KNOWN)
    if reason := why_not(query.device, dropout):
        raise NotImplementedError(f'attn_implementation="flex_attention" {reason}')
    block_mask = make_block_mask(query.shape[1], query.shape[2], pattern, roles, query.device)
    options: dict[str, Any] = {} if backend is None else {"kernel_options": {"BACKEND": backend}}
    return _attention(backend)(query, key, value, block_mask=block_mask, scale=scaling, **options)


local_rows_by_flash = partial(local_rows, backend="FLASH")


def why_not(device: torch.device, dropout: float) -> str | None:
    """What is in the way of this implementation; None if nothing is."""
    if device.type in NOT_ON:
        return 'needs a GPU, got tensors on a CPU: "sdpa" is the fastest path there'
    if dropout > 0.0:
        return f'has no dropout, got attention_probs_dropout_prob={dropout}: set it to 0, or take "sdpa"'
    return None


def why_not_flash(query: torch.Tensor, *, pattern: WindowPattern, roles: TokenRoles, dropout: float) -> str | None:
    """What is in the way of the same by the kernels of FlashAttention-4, which PyTorch calls experimental."""
    device = query.device
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < 9:
        return f"needs a GPU of compute capability 9.0 (Hopper) or newer, got tensors on {device}"
    if "BACKEND" not in getattr(getattr(flex, "FlexKernelOptions", None), "__annotations__", {}):
        return f"needs a PyTorch whose FlexAttention knows BACKEND, got {torch.__version__}"
    if not _has_flash():
        return "needs the package flash-attn-4"
    if query.dtype not in FLASH_DTYPES:
        return f"takes bfloat16 and float16, got {query.dtype}"
    if roles.not_in_windows is not None or len(set(pattern.dilations)) > 1:
        return "takes texts without padding and global tokens, and one dilation for all heads"
    return why_not(device, dropout)


def _has_flash() -> bool:
    """By its distribution: others bring a folder of the same name."""
    try:
        return bool(metadata.version("flash-attn-4"))
    except metadata.PackageNotFoundError:
        return False


def _attention(backend: str | None) -> Any:
    """Inside a program that `torch.compile` traces it is a part of that; otherwise it is compiled by itself."""
    return flex_attention if torch.compiler.is_compiling() else _compiled(backend != "FLASH")


@lru_cache(maxsize=2)
def _compiled(is_dynamic: bool) -> Any:
    """One program for all lengths and batches, or one for each. What would need more programs than PyTorch allows is
    refused by it: uncompiled, which is what it would be otherwise, all S × S scores would be made.
    """
    return torch.compile(flex_attention, dynamic=is_dynamic, fullgraph=True)


def make_block_mask(
    num_heads: int, length: int, pattern: WindowPattern, roles: TokenRoles, device: torch.device
) -> BlockMask:
    """Which keys every row sees, and which blocks of keys hold any: the same for all layers of one pattern.

    Args:
        num_heads: Of the attention.
        length: Number of tokens S.
        pattern: Window, dilation and direction.
        roles: Real and global tokens.
        device: Where the mask is used.
    """
    pattern.require_window(KNOWN)
    needs_gradients = torch.is_grad_enabled()  # for which it is turned round

    def make() -> BlockMask:
        some, every = _visited_blocks(length, pattern, roles, num_heads, device)
        return BlockMask.from_kv_blocks(
            *_listed(some & ~every),
            *_listed(every),
            BLOCK_SIZE=BLOCK,
            mask_mod=_make_mask_mod(pattern, _kinds(roles), num_heads, device),
            seq_lengths=(length, length),
            compute_q_blocks=needs_gradients,
        )

    return roles.derived(("flex_attention", pattern, needs_gradients), make)


def _kinds(roles: TokenRoles) -> torch.Tensor | None:
    """`(batch, S)`, uint8, what every token is; None if windows show all."""
    if roles.not_in_windows is None:
        return None
    kinds = (~roles.not_in_windows).to(torch.uint8)
    return kinds if roles.is_global is None else kinds.masked_fill(roles.is_global, GLOBAL)


@lru_cache(maxsize=64)
def _on_device(dilations: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(dilations, device=device)


def _make_mask_mod(
    pattern: WindowPattern, kinds: torch.Tensor | None, num_heads: int, device: torch.device
) -> Callable[..., torch.Tensor]:
    """Whether a row sees a key, as a function of batch, head, row and key; nothing, if nobody reads the row."""
    is_causal, is_own = pattern.is_causal, bool(pattern.overridden())
    each = tuple(pattern.dilation_of(head) for head in range(num_heads))
    dilation = each[0] if len(set(each)) == 1 else _on_device(each, device)

    def sees(batch: torch.Tensor, head: torch.Tensor, row: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        if is_own:
            seen = pattern.allows(row, key, head)
        else:
            seen = pattern.holds(row - key, dilation if isinstance(dilation, int) else dilation[head])
        if kinds is not None:
            kind = kinds[batch, key]
            seen = ((seen & (kind == IN_WINDOWS)) | (kind == GLOBAL)) & (kinds[batch, row] == IN_WINDOWS)
        return seen & (key <= row) if is_causal else seen

    return sees


def _visited_blocks(
    length: int, pattern: WindowPattern, roles: TokenRoles, num_heads: int, device: torch.device
) -> Sequence[torch.Tensor]:
    """`(1 or batch, 1 or heads, blocks, blocks)`, bool: blocks of keys of which a block of rows may see some, and those
    of which all its rows see all.
    """
    first = torch.arange(0, length, BLOCK, device=device)
    last = (first + BLOCK).clamp(max=length)
    if pattern.overridden():
        some, every = _asked_blocks(length, pattern, num_heads, device)
    else:
        dilations = pattern.dilations if len(set(pattern.dilations)) > 1 else pattern.dilations[:1]
        dilation = _on_device(dilations, device)[:, None, None]
        band, rows = pattern.band.times(dilation), (first[:, None], last[:, None])
        low, high = band.visited(*rows)
        some = (last > low) & (first < high)
        every = band.is_even(*rows, first, last) & (dilation == 1)
    every = every & (first + BLOCK <= length)
    some, every = some[None], every[None]
    if roles.not_in_windows is not None:
        shown = _by_blocks(~roles.not_in_windows)
        some = some & shown.any(dim=-1)[:, None, None]
    if roles.is_global is not None:
        of_global = _by_blocks(roles.is_global).any(dim=-1)[:, None, None]
        some = some | (of_global & (first < last[:, None]) if pattern.is_causal else of_global)
    if roles.key_padding_mask is not None:
        every = every & _by_blocks(roles.key_padding_mask).all(dim=-1)[:, None, None]
    if roles.not_in_windows is not None:
        hidden = _by_blocks(roles.not_in_windows)  # rows, of which the last block has no more than there are
        some = some & shown.any(dim=-1)[:, None, :, None]
        every = every & ~hidden.any(dim=-1)[:, None, :, None]
    return torch.broadcast_tensors(some, every & some)  # the kernel looks for both in the same places


def _asked_blocks(
    length: int, pattern: WindowPattern, num_heads: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for a pattern of somebody's own, `(heads, blocks, blocks)`: all its rows are asked for all keys, a block
    of rows at a time.
    """
    key = torch.arange(length, device=device)
    some, every = [], []
    for rows in key.split(BLOCK):
        allowed = torch.stack(
            [pattern.allows(rows[:, None], key, head).expand(len(rows), -1) for head in range(num_heads)]
        )
        if pattern.is_causal:
            allowed = allowed & (key <= rows[:, None])
        some.append(_by_blocks(allowed.any(dim=1)).any(dim=-1))
        every.append(_by_blocks(allowed.all(dim=1)).all(dim=-1))
    return torch.stack(some, dim=1), torch.stack(every, dim=1)


def _by_blocks(mask: torch.Tensor) -> torch.Tensor:
    """`(batch, S)` to `(batch, blocks, BLOCK)`, the last one filled up with False."""
    missing = -mask.shape[1] % BLOCK
    return torch.nn.functional.pad(mask, (0, missing)).unflatten(1, (-1, BLOCK))


def _listed(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`(…, rows, keys)`, bool, as numbers of blocks and their indices, those that count first."""
    order = torch.argsort(blocks.to(torch.uint8), dim=-1, descending=True, stable=True)
    return blocks.sum(dim=-1).int(), order.int().contiguous()
