# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The local rows by PyTorch's FlexAttention, on a GPU: any dtype, padding anywhere, window and global tokens in one
kernel that is compiled for this pattern when it is first used. An explicit choice.

Which blocks of keys a block of queries visits is worked out from the pattern, never from a dense mask, and once for all
layers. Patterns of somebody's own, which replace `allows`, are asked block by block.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from .token_roles import TokenRoles
from .window_pattern import WindowPattern

BLOCK = 128  # rows and keys
NOT_ON = ("cpu",)  # its compiled form has no backward pass there, the other one makes all S × S scores
KNOWN: tuple[str, ...] = ("allows",)  # what patterns of somebody's own may replace


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
    """Output `(batch, heads, S, head_dim)` of the rows that are not global; padded and global rows are 0.

    Raises:
        NotImplementedError: On a CPU, or with dropout.
    """
    pattern.require_window(KNOWN)
    if reason := why_not(query.device, dropout):
        raise NotImplementedError(f'attn_implementation="flex_attention" {reason}')
    block_mask = make_block_mask(query.shape[1], query.shape[2], pattern, roles, query.device)
    output = _attention()(query, key, value, block_mask=block_mask, scale=scaling)
    return output if roles.not_in_windows is None else output.masked_fill(roles.not_in_windows[:, None, :, None], 0.0)


def why_not(device: torch.device, dropout: float) -> str | None:
    """What is in the way of this implementation; None if nothing is."""
    if device.type in NOT_ON:
        return 'needs a GPU, got tensors on a CPU: "sdpa" is the fastest path there'
    if dropout > 0.0:
        return f'has no dropout, got attention_probs_dropout_prob={dropout}: set it to 0, or take "sdpa"'
    return None


def _attention() -> Any:
    """Inside a program that `torch.compile` traces it is a part of that; otherwise it is compiled by itself."""
    return flex_attention if torch.compiler.is_compiling() else _compiled()


@lru_cache(maxsize=1)
def _compiled() -> Any:
    return torch.compile(flex_attention)


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

    def make() -> BlockMask:
        some, every = _visited_blocks(length, pattern, roles, num_heads, device)
        return BlockMask.from_kv_blocks(
            *_listed(some & ~every),
            *_listed(every),
            BLOCK_SIZE=BLOCK,
            mask_mod=_make_mask_mod(pattern, roles, num_heads, device),
            seq_lengths=(length, length),
        )

    return roles.derived(("flex_attention", pattern), make)


def _make_mask_mod(
    pattern: WindowPattern, roles: TokenRoles, num_heads: int, device: torch.device
) -> Callable[..., torch.Tensor]:
    """Whether a row sees a key, as a function of batch, head, row and key."""
    dilation = torch.tensor([pattern.dilation_of(head) for head in range(num_heads)], device=device)
    is_causal, is_global, is_own = pattern.is_causal, roles.is_global, bool(pattern.overridden())
    shown = None if roles.not_in_windows is None else ~roles.not_in_windows

    def sees(batch: torch.Tensor, head: torch.Tensor, row: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        seen = pattern.allows(row, key, head) if is_own else pattern.holds(row - key, dilation[head])
        if shown is not None:
            seen = seen & shown[batch, key]
        if is_global is not None:
            seen = seen | is_global[batch, key]
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
        dilation = torch.tensor(dilations, device=device)[:, None, None]
        band, rows = pattern.band.times(dilation), (first[:, None], last[:, None])
        low, high = band.visited(*rows)
        some = (last > low) & (first < high)
        every = band.is_full(*rows, first, last) & (dilation == 1)
    every = every & (first + BLOCK <= length)
    some, every = some[None], every[None]
    if roles.not_in_windows is not None:
        some = some & _by_blocks(~roles.not_in_windows).any(dim=-1)[:, None, None]
    if roles.is_global is not None:
        of_global = _by_blocks(roles.is_global).any(dim=-1)[:, None, None]
        some = some | (of_global & (first < last[:, None]) if pattern.is_causal else of_global)
    if roles.key_padding_mask is not None:
        every = every & _by_blocks(roles.key_padding_mask).all(dim=-1)[:, None, None]
    return torch.broadcast_tensors(some, every)  # the kernel looks for both in the same places


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
