# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The local rows on a CPU: PyTorch's flash attention kernel, block by block, on views of the projections.

Nothing is copied, and nothing is kept for the backward pass but query, key, value, output and log-sum-exp (lse). Two
facts carry it. Partial attentions merge by their log-sum-exp; and the backward pass of each part may be called with the
*merged* output and log-sum-exp, so that no kernel needs a gradient of its log-sum-exp.

A short text is one block, for which PyTorch's attention under a mask is all there is: that takes the fewest operators,
and the mask is the same in all layers.

That kernel has no dropout: `attention_cpu_dropout.py` walks the same blocks with explicit weights, and serves second
derivatives, too. Both are operators of `torch.library`: `torch.compile` puts one node into its graph for all blocks,
whatever the length.
"""

from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention

from .attention_cpu_dropout import attend_plainly, attend_with_dropout
from .blocks import NUMBERS, TENSORS, Arguments, Index
from .gradients_cpu import Gradients
from .operators import empty_rows, make_operator
from .token_roles import TokenRoles
from .window_pattern import WindowPattern

KNOWN: tuple[str, ...] = ()  # what patterns of somebody's own may replace

SHORT = 256  # rows: up to here one block costs less than several with a part of the keys; measured
FEW_WEIGHTS = 2**16  # of all heads: up to here PyTorch's own dropout takes less time, and little memory; measured


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
    """Output `(batch, heads, S, head_dim)` of the rows that are not global; what is unused, by `roles`, is 0."""
    pattern.require_window(KNOWN)
    is_compiling = torch.compiler.is_compiling()
    if not is_compiling and (_has_few_weights(query) if dropout > 0.0 else not torch.is_grad_enabled()):
        one_block = _one_block_of(query, pattern, roles)
        if one_block is not None:
            return _attend_in_one_block(query, key, value, one_block, dropout, scaling)
    given = Arguments.of(pattern, roles, query.shape[-1] ** -0.5 if scaling is None else scaling)
    if dropout > 0.0:
        return attend_with_dropout(query, key, value, given, dropout)
    if is_compiling:
        return _LOCAL_ROWS.operator(query, key, value, *given)[0]
    attend = _LOCAL_ROWS.eager if torch.is_grad_enabled() else _attend
    return attend(query, key, value, *given)[0]


class _OneBlock(NamedTuple):
    """What all layers need of a text that is one block.

    Args:
        mask: `(batch or 1, 1, S or 1, S)`, additive; None if all tokens see all.
        unused: `(batch, 1, S, 1)`, bool, rows that must be 0; None if there are none.
    """

    mask: torch.Tensor | None
    unused: torch.Tensor | None


def _has_few_weights(query: torch.Tensor) -> bool:
    batch, heads, length, _ = query.shape
    return batch * heads * length**2 <= FEW_WEIGHTS


def _one_block_of(query: torch.Tensor, pattern: WindowPattern, roles: TokenRoles) -> _OneBlock | None:
    """None if the text is longer than that, or windows have gaps or one side."""

    def make() -> _OneBlock | None:
        walk = Arguments.of(pattern, roles, 1.0).walk(query, SHORT)
        if not walk.is_one_block:
            return None
        ((_, _, mask),) = walk.blocks(query.dtype)
        return _OneBlock(mask, None if roles.unused is None else roles.unused[:, None, :, None])

    return roles.derived(("one block", pattern, query.dtype), make)


def _attend_in_one_block(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    one_block: _OneBlock,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """By operators that PyTorch can differentiate any number of times if there is dropout."""
    mask, unused = one_block
    output = scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    if unused is None:
        return output
    return output.masked_fill(unused, 0.0) if torch.is_grad_enabled() else output.masked_fill_(unused, 0.0)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attends block by block, to the window and to the global keys, and merges the two: output and log-sum-exp."""
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    given = Arguments(*arguments)
    walk, scaling = given.walk(query, SHORT), given.scaling
    if walk.is_one_block:
        ((_, _, mask),) = walk.blocks(query.dtype)
        output, lse = attend(query, key, value, attn_mask=mask, scale=scaling)
        output = output.transpose(1, 2).contiguous().transpose(1, 2)  # as empty_rows: it mostly is
        return _erase(output, lse.contiguous(), walk.unused)
    output, lse = empty_rows(query, value)
    for rows, columns, mask in walk.blocks(query.dtype):
        output[rows], lse[rows] = attend(query[rows], key[columns], value[columns], attn_mask=mask, scale=scaling)
    separate = walk.separate_of(key, value)
    for rows, mask in walk.row_chunks(query.dtype):
        other, other_lse = attend(query[rows], *separate, attn_mask=mask, scale=scaling)
        _merge_into(output[rows], lse[rows], other, other_lse, (mask == 0).any(dim=-1))
    return _erase(output, lse, walk.unused)


def _attend_backward(
    grad_output: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    *arguments: Any,
) -> tuple[torch.Tensor, ...]:
    """Walks the same blocks and adds up the gradients of every part.

    In the precision of the log-sum-exp: the kernel's backward pass is slower in bfloat16 than in float32.
    """
    given = Arguments(*arguments)
    walk, scaling = given.walk(query, SHORT), given.scaling
    dtype = query.dtype
    query, key, value, output, grad_output = (x.to(lse.dtype) for x in (query, key, value, output, grad_output))
    grads = Gradients(query, key, value, walk)

    def add(rows: Index, keys: Any, values: Any, mask: Any, key_grad: Any, value_grad: Any) -> None:
        parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *(grad_output[rows], query[rows], keys, values, output[rows], lse[rows].contiguous()),
            *(0.0, False),
            attn_mask=mask,
            scale=scaling,
        )
        for grad, part in zip((grads.query[rows], key_grad, value_grad), parts, strict=True):
            grad += part

    for rows, columns, mask in walk.blocks(query.dtype):
        add(rows, key[columns], value[columns], mask, grads.key[columns], grads.value[columns])
    separate = walk.separate_of(key, value)
    for rows, mask in walk.row_chunks(query.dtype):
        add(rows, separate[0], separate[1], mask, grads.separate_keys, grads.separate_values)
    return tuple(x.to(dtype) for x in grads.total())


def _attend_plainly(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any) -> torch.Tensor:
    return attend_plainly(query, key, value, Arguments(*arguments))


def _erase(output: torch.Tensor, lse: torch.Tensor, unused: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and log-sum-exp, without those of rows that nobody uses."""
    if unused is not None:
        batch, token = unused.nonzero(as_tuple=True)
        output[batch, :, token] = 0.0
        lse[batch, :, token] = float("inf")  # every weight of these rows becomes 0
    return output, lse


def _merge_into(
    output: torch.Tensor, lse: torch.Tensor, other: torch.Tensor, other_lse: torch.Tensor, sees_other: torch.Tensor
) -> None:
    """Makes a partial attention, output and log-sum-exp, the whole one: merges another one of the same rows into it,
    which counts only where it saw something.
    """
    other_lse = other_lse.masked_fill(~sees_other, float("-inf"))
    merged = torch.logaddexp(lse, other_lse)
    weight = torch.exp(other_lse - merged)[..., None]
    if output.dtype == weight.dtype:
        output.lerp_(other, weight)
    else:
        output.copy_(torch.lerp(output.to(weight.dtype), other.to(weight.dtype), weight))
    lse.copy_(merged)


_LOCAL_ROWS = make_operator(
    "local_rows",
    attend=_attend,
    attend_backward=_attend_backward,
    attend_plainly=_attend_plainly,
    tensors=TENSORS,
    numbers=NUMBERS,
    has_lse=True,
    device="cpu",
)
