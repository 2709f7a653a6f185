# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The local rows on a CPU by explicit weights, block by block: with dropout, and for second derivatives.

Weights are worked out forward and again backward, and what is dropped is drawn twice from one seed: kept for the
backward pass are query, key, value, output and the seed.
"""

from collections.abc import Iterator
from typing import Any

import torch

from .blocks import NUMBERS, TENSORS, Arguments, BlockWalk, Index
from .dropout_cpu import Draw, draw_seed
from .gradients_cpu import Gradients
from .operators import empty_rows, make_operator
from .workspace import Workspace

SHORT = 128  # rows, as in `attention_cpu.py`: weights that are kept in memory make it pay sooner


def attend_with_dropout(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, given: Arguments, dropout: float
) -> torch.Tensor:
    """The local rows `(batch, heads, S, head_dim)` with weights dropped."""
    run = _LOCAL_ROWS.operator if torch.compiler.is_compiling() else _LOCAL_ROWS.eager
    return run(query, key, value, *given[:4], draw_seed(), *given[4:], dropout)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any) -> torch.Tensor:
    """Attends block by block, to the window and the global keys in front of it."""
    given, drop = _unpack(arguments)
    output, _ = empty_rows(query, value)
    blocks = BlockWeights(query, key, given)
    values = GlobalPrefix(value, blocks.walk)
    for rows, columns, weights, _ in blocks:
        torch.mul(drop(weights) @ values.with_prefix(columns), drop.scale, out=output[rows])
    return output


def _attend_backward(
    grad_output: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    *arguments: Any,
) -> tuple[torch.Tensor, ...]:
    """Walks the same blocks, computes their weights again, and adds up the gradients."""
    given, drop = _unpack(arguments)
    blocks, workspace, scaling = BlockWeights(query, key, given), Workspace(), given.scaling
    values, grads, split = GlobalPrefix(value, blocks.walk), Gradients(query, key, value, blocks.walk), blocks.split

    def add(grad: torch.Tensor, separate: torch.Tensor | None, columns: Index, part: torch.Tensor) -> None:
        grad[columns].add_(part[:, :, split:])
        if separate is not None:
            separate[:, columns[1]].add_(part[:, :, :split])

    for rows, columns, weights, keys in blocks:
        grad = grad_output[rows] * drop.scale
        dropped = drop(workspace.take("dropped", weights.shape, query).copy_(weights))
        part = workspace.take("columns", keys.shape, query)
        add(grads.value, grads.separate_values, columns, torch.matmul(dropped.mT, grad, out=part))
        score_grad = torch.matmul(
            grad, values.with_prefix(columns).mT, out=workspace.take("scores", weights.shape, query)
        )
        score_grad.mul_(dropped)
        score_grad.addcmul_(weights, (grad_output[rows] * output[rows]).sum(dim=-1, keepdim=True), value=-1.0)
        torch.mul(score_grad @ keys, scaling, out=grads.query[rows])
        add(grads.key, grads.separate_keys, columns, torch.matmul(score_grad.mT, query[rows] * scaling, out=part))
    return grads.total()


def _attend_plainly(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any) -> torch.Tensor:
    given, drop = _unpack(arguments)
    return attend_plainly(query, key, value, given, drop)


def attend_plainly(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    given: Arguments,
    drop: Draw | None = None,
) -> torch.Tensor:
    """Attends in operators that PyTorch can differentiate any number of times, for second derivatives. Blocks are those
    of `_attend`, so that the same weights are dropped.
    """
    walk, scaling = given.walk(query, SHORT), given.scaling
    separate = walk.separate_of(key, value)
    output = torch.zeros_like(query)
    for rows, columns, mask in walk.blocks(query.dtype):
        keys, values = key[columns], value[columns]
        if separate:
            keys, values = (torch.cat([x[:, rows[1]], y], dim=2) for x, y in zip(separate, (keys, values), strict=True))
        parts = list(((query[rows] * scaling) @ keys.mT).tensor_split([walk.num_separate], dim=-1))
        if separate:
            parts[0] = parts[0] + walk.separate_mask(rows[2], query.dtype)
        if mask is not None:
            parts[1] = parts[1] + mask
        scores, unused = torch.cat(parts, dim=-1), None
        if walk.unused is not None:
            unused = walk.unused[:, None, rows[2], None]
            scores = scores.masked_fill(unused, 0.0)  # some see nothing
        weights = torch.softmax(scores, dim=-1)
        if unused is not None:
            weights = weights.masked_fill(unused, 0.0)
        if drop is not None:
            weights = weights * (drop(torch.ones_like(weights, requires_grad=False)) * drop.scale)
        output[rows] = weights @ values
    return output


def _unpack(arguments: tuple[Any, ...]) -> tuple[Arguments, Draw]:
    """What the operator is told besides the projections, and what drops weights."""
    tensors, seed, numbers, dropout = arguments[:4], arguments[4], arguments[5:-1], arguments[-1]
    return Arguments(*tensors, *numbers), Draw(int(seed), dropout)


class BlockWeights:
    """Blocks of rows, the columns of their windows, the weights of the global tokens and, behind them, of these
    columns, and their keys. The weights are there until the next block.

    Args:
        query, key: `(batch, heads, S, head_dim)`.
        given: What the operator is told.
    """

    def __init__(self, query: torch.Tensor, key: torch.Tensor, given: Arguments) -> None:
        self.query, self.scaling, self.walk = query, given.scaling, given.walk(query, SHORT)
        self.keys, self.split, self.workspace = GlobalPrefix(key, self.walk), self.walk.num_separate, Workspace()

    def __iter__(self) -> Iterator[tuple[Index, Index, torch.Tensor, torch.Tensor]]:
        query, walk = self.query, self.walk
        for rows, columns, mask in walk.blocks(query.dtype):
            keys = self.keys.with_prefix(columns)
            shape = torch.Size([*query[rows].shape[:3], keys.shape[2]])
            scores = self.workspace.take("scores", shape, query)
            torch.matmul(query[rows] * self.scaling, keys.mT, out=scores)
            if self.split:
                scores[..., : self.split].add_(walk.separate_mask(rows[2], query.dtype))
            if mask is not None:
                _add_mask(scores[..., self.split :], mask)
            weights = self.workspace.take("weights", shape, query)
            torch.softmax(scores, dim=-1, out=weights)  # in float32 at least inside
            if walk.unused is not None and walk.unused[:, rows[2]].any():
                weights.masked_fill_(walk.unused[:, None, rows[2], None], 0.0)  # some see nothing
            yield rows, columns, weights, keys


def _add_mask(scores: torch.Tensor, mask: torch.Tensor) -> None:
    """Adds the mask of a block. That of a band hides nothing but in a triangle at either end of its columns."""
    edge, width = mask.shape[-2:]
    if mask.dim() > 2 or width <= 2 * edge:
        scores += mask
        return
    for columns in (slice(edge), slice(width - edge, width)):
        scores[..., columns].add_(mask[..., columns])


class GlobalPrefix:
    """Keys (or values) of the global tokens and, behind them, of a block's columns, as one view: a copy of the keys in
    which the global ones are written in front of the columns when a block is asked for.

    What they overwrite are keys before the columns. Blocks of some heads and one phase of a dilation come from left to
    right, and phases do not share keys: no later block looks at what was overwritten.

    Args:
        tensor: `(batch, heads, S, head_dim)`.
        walk: The blocks, to be asked for in their order.
    """

    def __init__(self, tensor: torch.Tensor, walk: BlockWalk) -> None:
        self.number = walk.num_separate
        self.tensor, self.front = tensor, 0
        if not self.number:
            return
        (self.of_global,) = walk.separate_of(tensor)
        self.front = self.number * max(walk.pattern.dilations)  # so much stands before the first key of the copy
        batch, heads, length, size = tensor.shape
        self.tensor = tensor.new_empty(batch, self.front + length, heads, size).transpose(1, 2)
        self.tensor[:, :, self.front :] = tensor

    def with_prefix(self, columns: Index) -> torch.Tensor:
        """`(batch, heads, G + columns, head_dim)`. Writes into the copy: ask for blocks in their order."""
        if not self.number:
            return self.tensor[columns]
        _, heads, tokens = columns
        start, stop = tokens.start + self.front, tokens.stop + self.front
        first = start - self.number * tokens.step
        self.tensor[:, heads, first : start : tokens.step] = self.of_global[:, heads]
        return self.tensor[:, heads, first : stop : tokens.step]


_LOCAL_ROWS = make_operator(
    "local_rows_with_dropout",
    attend=_attend,
    attend_backward=_attend_backward,
    attend_plainly=_attend_plainly,
    tensors=TENSORS | {"seed": "Tensor"},
    numbers=NUMBERS | {"dropout": "float"},
    has_lse=False,
    device="cpu",
)
