# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The local rows on a CPU: PyTorch's flash attention kernel, block by block, on views of the projections.

Nothing is copied, and nothing is kept for the backward pass but query, key, value, output and log-sum-exp. Two facts
carry it. Partial attentions merge by their log-sum-exp; and the backward pass of each part may be called with the
*merged* output and log-sum-exp, so that no kernel needs a gradient of its log-sum-exp.

That kernel has no dropout. With dropout, weights are computed block by block, forward and again backward, and what is
dropped is drawn twice from one seed: kept are query, key, value, output and the seed.

Both are operators of `torch.library`: `torch.compile` puts one node into its graph for all blocks, whatever the length.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch

from .dropout_cpu import Draw, draw_seed
from .operator_forms import empty_rows, make_operator, statistics_dtype
from .window_pattern import TokenRoles, WindowPattern

FEWEST, MOST = 64, 256  # rows of a block
PART = 1024  # rows that attend to the global tokens at a time
SHORT, SHORT_WITH_DROPOUT = 256, 128  # rows: two such blocks that see each other's ends are taken as one
Index = tuple[slice, slice, slice]
EVERYTHING: Index = (slice(None), slice(None), slice(None))


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
    pattern.refuse_others()
    masks = (roles.key_padding_mask, roles.is_global, roles.global_index, roles.global_valid)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    numbers = (pattern.attention_window, list(pattern.dilations), pattern.is_causal, scaling)
    form = 0 if torch.compiler.is_compiling() else 1
    if dropout == 0.0:
        attend = _attend if form and not torch.is_grad_enabled() else _LOCAL_ROWS[form]
        return attend(query, key, value, *masks, *numbers)[0]
    seed = draw_seed()
    return _LOCAL_ROWS_WITH_DROPOUT[form](query, key, value, *masks, seed, *numbers, dropout)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attends block by block, to the window and to the global keys, and merges the two."""
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    roles, pattern, scaling, thrown_away = _unpack(query, arguments)
    if _is_one_block(query.shape[2], pattern, SHORT):
        mask = _mask_of_one_block(query, pattern, roles, SHORT)
        output, statistics = attend(query, key, value, attn_mask=mask, scale=scaling)
        output = output.transpose(1, 2).contiguous().transpose(1, 2)  # as empty_rows: it mostly is
        return _throw_away(output, statistics.contiguous(), thrown_away)
    output, statistics = empty_rows(query, value)
    global_keys = _gather_global(roles, key, value)
    for rows, columns, mask in _blocks(query, pattern, roles):
        output[rows], statistics[rows] = attend(
            query[rows], key[columns], value[columns], attn_mask=mask, scale=scaling
        )
    for rows, mask in _parts_for_global(query, pattern, roles):
        other = attend(query[rows], *global_keys, attn_mask=mask, scale=scaling)
        _merge_into(output[rows], statistics[rows], other, (mask == 0).any(dim=-1))
    return _throw_away(output, statistics, thrown_away)


def _throw_away(
    output: torch.Tensor, statistics: torch.Tensor, thrown_away: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and log-sum-exp of rows whose output is not wanted, padding and global tokens, erased."""
    if thrown_away is not None:
        batch, token = thrown_away.nonzero(as_tuple=True)
        output[batch, :, token] = 0.0
        statistics[batch, :, token] = float("inf")  # every weight of these rows becomes 0
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
    """Walks the same blocks and adds up the gradients of every part.

    In the precision of the statistics: the kernel's backward pass is slower in bfloat16 than in float32.
    """
    roles, pattern, scaling, _ = _unpack(query, arguments)
    dtype = query.dtype
    tensors = (query, key, value, output, grad_output)
    query, key, value, output, grad_output = (x.to(statistics.dtype) for x in tensors)
    global_keys = _gather_global(roles, key, value)
    grads, global_grads = _zero_gradients(query, key, value, global_keys)

    def add(rows: Index, keys: Any, values: Any, mask: Any, key_grad: Any, value_grad: Any) -> None:
        parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *(grad_output[rows], query[rows], keys, values, output[rows], statistics[rows].contiguous()),
            *(0.0, False),
            attn_mask=mask,
            scale=scaling,
        )
        for grad, part in zip((grads[0][rows], key_grad, value_grad), parts, strict=True):
            grad += part

    for rows, columns, mask in _blocks(query, pattern, roles):
        add(rows, key[columns], value[columns], mask, grads[1][columns], grads[2][columns])
    for rows, mask in _parts_for_global(query, pattern, roles):
        add(rows, global_keys[0], global_keys[1], mask, global_grads[0], global_grads[1])
    return tuple(x.to(dtype) for x in _with_gradients_of_global(roles, grads, global_grads))


def _attend_with_dropout(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any) -> torch.Tensor:
    """Attends block by block, to the window and the global keys beside it, with weights dropped."""
    *masks, seed, attention_window, dilations, is_causal, scaling, dropout = arguments
    numbers = [*masks, attention_window, dilations, is_causal, scaling]
    roles, pattern, scaling, thrown_away = _unpack(query, numbers, SHORT_WITH_DROPOUT)
    output, _ = empty_rows(query, value)
    drop = Draw(int(seed), dropout)
    values_of = _behind_global(value, pattern, roles)
    for rows, columns, weights, _ in _weights_of_blocks(query, key, pattern, roles, scaling, thrown_away):
        torch.mul(drop(weights) @ values_of(columns), drop.scale, out=output[rows])
    return output


def _attend_with_dropout_backward(
    grad_output: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    *arguments: Any,
) -> tuple[torch.Tensor, ...]:
    """Walks the same blocks, computes their weights again, and adds up the gradients."""
    *masks, seed, attention_window, dilations, is_causal, scaling, dropout = arguments
    numbers = [*masks, attention_window, dilations, is_causal, scaling]
    roles, pattern, scaling, thrown_away = _unpack(query, numbers, SHORT_WITH_DROPOUT)
    drop = Draw(int(seed), dropout)
    values_of, rooms = _behind_global(value, pattern, roles), Rooms()
    grads, global_grads = _zero_gradients(query, key, value, _gather_global(roles, key, value))
    split = roles.num_global

    def add(index: int, rows: Index, columns: Index, part: torch.Tensor) -> None:
        grads[index][columns].add_(part[:, :, split:])
        if split:
            global_grads[index - 1][:, rows[1]].add_(part[:, :, :split])

    for rows, columns, weights, keys in _weights_of_blocks(query, key, pattern, roles, scaling, thrown_away):
        grad, kept = grad_output[rows] * drop.scale, drop(rooms("kept", weights.shape, query).copy_(weights))
        part = rooms("columns", keys.shape, query)
        add(2, rows, columns, torch.matmul(kept.mT, grad, out=part))
        score_grad = torch.matmul(grad, values_of(columns).mT, out=rooms("scores", weights.shape, query)).mul_(kept)
        score_grad.addcmul_(weights, (grad_output[rows] * output[rows]).sum(dim=-1, keepdim=True), value=-1.0)
        torch.mul(score_grad @ keys, scaling, out=grads[0][rows])
        add(1, rows, columns, torch.matmul(score_grad.mT, query[rows] * scaling, out=part))
    return _with_gradients_of_global(roles, grads, global_grads)


def _attend_plainly_with_dropout(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any
) -> torch.Tensor:
    """The same weights dropped as in `_attend_with_dropout`: they are drawn for blocks of the same shapes."""
    *masks, seed, attention_window, dilations, is_causal, scaling, dropout = arguments
    numbers = [*masks, attention_window, dilations, is_causal, scaling]
    return _attend_plainly(query, key, value, *numbers, drop=Draw(int(seed), dropout))


def _attend_plainly(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any, drop: Draw | None = None
) -> torch.Tensor:
    """Attends in operators that PyTorch can differentiate any number of times, block by block, with explicit weights:
    for second derivatives.
    """
    roles, pattern, scaling, thrown_away = _unpack(query, arguments, SHORT_WITH_DROPOUT)
    of_global = _gather_global(roles, key, value)
    output = torch.zeros_like(query)
    for rows, columns, mask in _blocks(query, pattern, roles, SHORT_WITH_DROPOUT):
        keys, values = key[columns], value[columns]
        if of_global:
            keys, values = (
                torch.cat([x[:, rows[1]], y], dim=2) for x, y in zip(of_global, (keys, values), strict=True)
            )
        scores = (query[rows] * scaling) @ keys.mT
        parts = list(scores.tensor_split([roles.num_global], dim=-1))
        if roles.num_global:
            parts[0] = parts[0] + _global_mask(roles, pattern, rows[2], query.dtype)
        if mask is not None:
            parts[1] = parts[1] + mask
        scores, hidden = torch.cat(parts, dim=-1), None
        if thrown_away is not None:
            hidden = thrown_away[:, None, rows[2], None]
            scores = scores.masked_fill(hidden, 0.0)  # some see nothing
        weights = torch.softmax(scores, dim=-1)
        if hidden is not None:
            weights = weights.masked_fill(hidden, 0.0)
        if drop is not None:
            weights = weights * (drop(torch.ones_like(weights, requires_grad=False)) * drop.scale)
        output[rows] = weights @ values
    return output


def _unpack(
    query: torch.Tensor, arguments: Sequence[Any], short: int = SHORT
) -> tuple[TokenRoles, WindowPattern, float, torch.Tensor | None]:
    """What the operators are told besides the projections, which can only be tensors and numbers: the roles of keys,
    the pattern, the scaling, and `(batch, S)` which rows are thrown away.
    """
    *masks, attention_window, dilations, is_causal, scaling = arguments
    pattern = WindowPattern(attention_window, tuple(dilations), is_causal).within(query.shape[2])
    roles = TokenRoles(*masks)
    thrown_away = roles.hidden
    if _is_one_block(query.shape[2], pattern, short):
        roles = TokenRoles(roles.key_padding_mask, roles.is_global)  # global keys are shown by the mask
    elif query.shape[2] <= pattern.one_sided_window + 1 and _is_plain(pattern):
        roles = TokenRoles(roles.key_padding_mask)  # every window holds all keys, the global ones among them
    return roles, pattern, scaling, thrown_away


def _is_one_block(length: int, pattern: WindowPattern, short: int) -> bool:
    """Whether a text is so short that one block of all its rows costs less than several with a part of the keys."""
    return length <= short + min(pattern.one_sided_window, short) and _is_plain(pattern)


def _is_plain(pattern: WindowPattern) -> bool:
    return pattern.reach == pattern.one_sided_window and not pattern.is_causal


def _zero_gradients(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, global_keys: tuple[torch.Tensor, ...]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Zeros for query, key and value, and for the keys and values of global tokens.

    Keys and values get contributions of several blocks: they are added up in the precision of the statistics.
    """
    sums: dict[str, Any] = {"dtype": statistics_dtype(query), "memory_format": torch.preserve_format}
    grads = [torch.zeros_like(query), torch.zeros_like(key, **sums), torch.zeros_like(value, **sums)]
    return grads, [torch.zeros_like(x, **sums) for x in global_keys]


def _with_gradients_of_global(
    roles: TokenRoles, grads: list[torch.Tensor], global_grads: list[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """The gradients of all tokens, those of global ones added, in the dtype of the query's."""
    for grad, part in zip(grads[1:], global_grads, strict=False):  # without global tokens there are none
        grad.scatter_add_(2, roles.global_index[:, None, :, None].expand_as(part), part)
    return tuple(grad.to(grads[0].dtype) for grad in grads)


def _weights_of_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    pattern: WindowPattern,
    roles: TokenRoles,
    scaling: float,
    thrown_away: torch.Tensor | None,
) -> Iterator[tuple[Index, Index, torch.Tensor, torch.Tensor]]:
    """Blocks of rows, the columns of their windows, the weights of the global tokens and, behind them, of these
    columns, and their keys. Weights are there until the next block.
    """
    keys_of, rooms = _behind_global(key, pattern, roles), Rooms()
    for rows, columns, mask in _blocks(query, pattern, roles, SHORT_WITH_DROPOUT):
        keys = keys_of(columns)
        shape = torch.Size([*query[rows].shape[:3], keys.shape[2]])
        scores = torch.matmul(query[rows] * scaling, keys.mT, out=rooms("scores", shape, query))
        if roles.num_global:
            scores[..., : roles.num_global].add_(_global_mask(roles, pattern, rows[2], query.dtype))
        if mask is not None:
            _add_mask(scores[..., roles.num_global :], mask)
        weights = torch.softmax(scores, dim=-1, out=rooms("weights", shape, query))  # in float32 at least inside
        if thrown_away is not None and thrown_away[:, rows[2]].any():
            weights.masked_fill_(thrown_away[:, None, rows[2], None], 0.0)  # some see nothing
        yield rows, columns, weights, keys


def _add_mask(scores: torch.Tensor, mask: torch.Tensor) -> None:
    """Adds the mask of a block. That of a band hides nothing but in a triangle at either end of its columns."""
    edge, width = mask.shape[-2:]
    if mask.dim() > 2 or width <= 2 * edge:
        scores += mask
        return
    for columns in (slice(edge), slice(width - edge, width)):
        scores[..., columns].add_(mask[..., columns])


def _behind_global(tensor: torch.Tensor, pattern: WindowPattern, roles: TokenRoles) -> Callable[[Index], torch.Tensor]:
    """Gives keys, or values, of the global tokens and, behind them, of a block's columns, for blocks in their order.

    It is a view of a copy: the global ones are written in front of the columns, over tokens at which no later block
    looks.
    """
    num_global = roles.num_global
    if not num_global:
        return lambda columns: tensor[columns]
    of_global, front = roles.gather_global(tensor), num_global * max(pattern.dilations)
    batch, heads, length, size = tensor.shape
    copy = tensor.new_empty(batch, front + length, heads, size).transpose(1, 2)
    copy[:, :, front:] = tensor

    def take(columns: Index) -> torch.Tensor:
        _, heads, tokens = columns
        start, stop = tokens.start + front, tokens.stop + front
        first = start - num_global * tokens.step
        copy[:, heads, first : start : tokens.step] = of_global[:, heads]
        return copy[:, heads, first : stop : tokens.step]

    return take


class Rooms:
    """Memory of what is worked out block by block: fresh one takes as long as the products."""

    def __init__(self) -> None:
        self.rooms: dict[str, torch.Tensor] = {}

    def __call__(self, name: str, shape: torch.Size, like: torch.Tensor) -> torch.Tensor:
        """A tensor of `shape`, in the place of the last one of that name."""
        if name not in self.rooms or self.rooms[name].numel() < shape.numel():
            self.rooms[name] = like.new_empty(shape.numel())
        return self.rooms[name][: shape.numel()].view(shape)


def _blocks(
    query: torch.Tensor, pattern: WindowPattern, roles: TokenRoles, short: int = SHORT
) -> Iterator[tuple[Index, Index, torch.Tensor | None]]:
    """Blocks of rows, the columns that their windows cover, and the mask between the two.

    A dilated window is a window without gaps on every d-th token: a view, like everything here.
    """
    length, w = query.shape[2], pattern.one_sided_window
    if _is_one_block(length, pattern, short):
        yield EVERYTHING, EVERYTHING, _mask_of_one_block(query, pattern, roles, short)
        return
    block = _rows_of_block(pattern.attention_window, query.dtype)
    hidden = roles.hidden
    if hidden is not None:
        before = [0, *hidden.any(dim=0).cumsum(0).tolist()]  # hidden tokens in front of every one
        hidden = _additive(~hidden, query.dtype)[:, None, None, :]
    band = _band(query.dtype, pattern.attention_window, pattern.is_causal, block)
    for dilation, heads in pattern.head_runs(query.shape[1]):
        for phase in range(min(dilation, length)):
            tokens = range(phase, length, dilation)
            for start in range(0, len(tokens), block):
                stop = min(start + block, len(tokens))
                low, high = max(0, start - w), stop if pattern.is_causal else min(len(tokens), stop + w)
                rows, columns = _slice(tokens[start:stop]), _slice(tokens[low:high])
                mask = None
                if stop - 1 - low > w or high - 1 - start > (0 if pattern.is_causal else w):  # some are not seen
                    mask = band[: stop - start, low - start + w : high - start + w]
                if hidden is not None and before[columns.start] < before[min(columns.stop, length)]:
                    mask = hidden[..., columns] if mask is None else mask + hidden[..., columns]
                yield (slice(None), heads, rows), (slice(None), heads, columns), mask


def _parts_for_global(
    query: torch.Tensor, pattern: WindowPattern, roles: TokenRoles
) -> Iterator[tuple[Index, torch.Tensor]]:
    """Parts of the rows, of all heads, and the mask between them and the global tokens; none if there are no such."""
    length = query.shape[2] if roles.num_global else 0
    for start in range(0, length, PART):
        rows = slice(start, min(start + PART, length), 1)
        yield (slice(None), slice(None), rows), _global_mask(roles, pattern, rows, query.dtype)


def _mask_of_one_block(
    query: torch.Tensor, pattern: WindowPattern, roles: TokenRoles, short: int
) -> torch.Tensor | None:
    """The additive mask `(batch or 1, 1, S or 1, S)` of window, global keys and padding; None if all see all."""
    length, w = query.shape[2], pattern.one_sided_window
    mask = None
    if length > w + 1:
        mask = _band(query.dtype, pattern.attention_window, False, 2 * short)[None, None, :length, w : w + length]
        if roles.is_global is not None:
            is_same = bool((roles.is_global == roles.is_global[:1]).all())
            mask = mask.masked_fill(roles.is_global[: 1 if is_same else None, None, None, :], 0.0)
    if roles.key_padding_mask is None:
        return mask
    hidden = _additive(roles.key_padding_mask, query.dtype)[:, None, None, :]
    return hidden if mask is None else mask + hidden


def _rows_of_block(attention_window: int, dtype: torch.dtype) -> int:
    """Rows that are computed at a time: the more of them, the longer the products, and the more keys that only some of
    them see. Measured for windows of 64 to 2,048 tokens.
    """
    if dtype == torch.float32:
        return FEWEST if attention_window <= 1024 else MOST
    return min(max(attention_window // 4 // FEWEST * FEWEST, FEWEST), MOST)


def _slice(tokens: range) -> slice:
    return slice(tokens.start, tokens.stop, tokens.step)


@lru_cache(maxsize=16)
def _band(dtype: torch.dtype, attention_window: int, is_causal: bool, size: int) -> torch.Tensor:
    """The additive mask `(size, one_sided_window + size + one_sided_window)` between a block of rows and what they and
    their windows cover. Blocks at the ends of a text take a part of it.
    """
    w = attention_window // 2
    distance = torch.arange(size, device="cpu")[:, None] + w - torch.arange(size + 2 * w, device="cpu")
    return _additive((distance <= w) & (distance >= (0 if is_causal else -w)), dtype)


def _global_mask(roles: TokenRoles, pattern: WindowPattern, rows: slice, dtype: torch.dtype) -> torch.Tensor:
    """The additive mask `(batch, 1, 1 or rows, G)` between rows and global tokens."""
    allowed = roles.global_valid[:, None, None, :]
    if pattern.is_causal:
        position = torch.arange(rows.start, rows.stop, rows.step, device="cpu")
        allowed = allowed & (roles.global_index[:, None, None, :] <= position[:, None])
    return _additive(allowed, dtype)


def _gather_global(roles: TokenRoles, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(roles.gather_global(tensor) for tensor in tensors) if roles.num_global else ()


def _additive(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(allowed.shape, dtype=dtype, device="cpu").masked_fill_(~allowed, float("-inf"))


def _merge_into(
    output: torch.Tensor,
    statistics: torch.Tensor,
    other: tuple[torch.Tensor, torch.Tensor],
    sees_other: torch.Tensor,
) -> None:
    """Makes a partial attention, output and log-sum-exp, the whole one: merges another one of the same rows into it,
    which counts only where it saw something.
    """
    other_output, other_statistics = other
    other_statistics = other_statistics.masked_fill(~sees_other, float("-inf"))
    merged = torch.logaddexp(statistics, other_statistics)
    weight = torch.exp(other_statistics - merged)[..., None]
    if output.dtype == weight.dtype:
        output.lerp_(other_output, weight)
    else:
        output.copy_(torch.lerp(output.to(weight.dtype), other_output.to(weight.dtype), weight))
    statistics.copy_(merged)


_MASKS = "Tensor? key_padding_mask, Tensor? is_global, Tensor? global_index, Tensor? global_valid"
_TENSORS = f"Tensor query, Tensor key, Tensor value, {_MASKS}"
_NUMBERS = "int attention_window, int[] dilations, bool is_causal, float scaling"

_LOCAL_ROWS = make_operator(
    "local_rows",
    (_attend, _attend_backward, _attend_plainly),
    f"{_TENSORS}, {_NUMBERS}",
    "Tensor output, Tensor statistics",
    device="cpu",
)
_LOCAL_ROWS_WITH_DROPOUT = make_operator(
    "local_rows_with_dropout",
    (_attend_with_dropout, _attend_with_dropout_backward, _attend_plainly_with_dropout),
    f"{_TENSORS}, Tensor seed, {_NUMBERS}, float dropout",
    "Tensor output",
    device="cpu",
)
