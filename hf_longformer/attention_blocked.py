# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Longformer's attention, exact, in O(S · window) time and memory, with plain PyTorch on any device.

Three ideas:

* queries are cut into blocks; the keys that a block can see are one slice of the sequence, `one_sided_window` longer on
  both sides, so dense attention inside a block with a band mask is all there is;
* dilation is a view: every d-th token forms a sequence of its own in which the window has no gaps;
* global keys are put in front of every block's keys, so that one softmax covers both.

`torch.compile` and `torch.export` get one geometry for all lengths: no choice here depends on the length then.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from .operator_forms import is_exporting, is_transformed
from .window_pattern import TokenRoles, WindowPattern

MIN_BLOCK, MAX_BLOCK = 64, 256


def attention_blocked(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_global: torch.Tensor,
    key_global: torch.Tensor,
    value_global: torch.Tensor,
    *,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """The same as `attention_reference`, without the S × S weights.

    Args:
        query, key, value: `(batch, heads, S, head_dim)`, the local projections.
        query_global: `(batch, heads, G, head_dim)`, the global projection of the global tokens, in the order of
            `roles.global_index`.
        key_global, value_global: `(batch, heads, S, head_dim)`, the global projections of all tokens.
        pattern: Window, dilation and direction.
        roles: Real and global tokens.
        dropout: Probability of dropping an attention weight.
        scaling: Factor on the scores, `head_dim ** -0.5` if left out.

    Returns:
        `(batch, heads, S, head_dim)`.
    """
    output = local_rows(query, key, value, pattern=pattern, roles=roles, dropout=dropout, scaling=scaling)
    rows = global_rows(
        query_global, key_global, value_global, pattern=pattern, roles=roles, dropout=dropout, scaling=scaling
    )
    return put_global_rows(output, rows, roles)


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
    heads_of = _heads_by_dilation(pattern)
    outputs = []
    for dilation, heads in heads_of.items():
        blocks = _Blocks(query.shape[2], pattern, dilation, roles)
        output = _attention(
            blocks.queries(query[:, heads]),
            blocks.keys(key[:, heads], roles),
            blocks.keys(value[:, heads], roles),
            blocks.mask(roles, query.shape[0], query.device),
            dropout,
            scaling,
        )
        outputs.append(blocks.rows(output))
    return _keep_local_rows(_restore_head_order(outputs, heads_of), roles)


def local_weights(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """Attention weights of the rows that are not global, `(batch, heads, S, G + attention_window + 1)`.

    The first G columns are the global tokens in the order of `roles.global_index`; column `G + w + k` is the token
    `dilation * k` positions to the right (w = one-sided window). Padded and global rows are 0, and so are the columns
    of global tokens inside the window: they stand once, in front.
    """
    pattern.refuse_others()
    heads_of = _heads_by_dilation(pattern)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    parts = []
    for dilation, heads in heads_of.items():
        blocks = _Blocks(query.shape[2], pattern, dilation, roles, for_weights=True)
        scores = (blocks.queries(query[:, heads]) @ blocks.keys(key[:, heads], roles).mT) * scaling
        probabilities = _softmax(scores, blocks.mask(roles, query.shape[0], query.device))
        front, window = probabilities.split([roles.num_global, blocks.num_keys], dim=-1)
        index = blocks.band_index(window.device).expand(*window.shape[:-1], -1)
        parts.append(blocks.rows(torch.cat([front, window.gather(-1, index)], dim=-1)))
    weights = _keep_local_rows(_restore_head_order(parts, heads_of), roles)
    return _drop(weights, dropout)


def apply_local_weights(
    weights: torch.Tensor, value: torch.Tensor, *, pattern: WindowPattern, roles: TokenRoles
) -> torch.Tensor:
    """Weights in the layout of `local_weights` times the values they belong to: `(batch, heads, S, head_dim)`."""
    pattern.refuse_others()
    heads_of = _heads_by_dilation(pattern)
    outputs = []
    for dilation, heads in heads_of.items():
        blocks = _Blocks(value.shape[2], pattern, dilation, roles, for_weights=True)
        front, band = blocks.queries(weights[:, heads]).tensor_split([roles.num_global], dim=-1)
        window = band.new_zeros(*band.shape[:-1], blocks.num_keys)
        window = window.scatter(-1, blocks.band_index(band.device).expand_as(band), band)
        outputs.append(blocks.rows(torch.cat([front, window], dim=-1) @ blocks.keys(value[:, heads], roles)))
    return _restore_head_order(outputs, heads_of)


def global_rows(
    query_global: torch.Tensor,
    key_global: torch.Tensor,
    value_global: torch.Tensor,
    *,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """Output `(batch, heads, G, head_dim)` of the global rows, which attend to every real token."""
    if not roles.has_global:  # no row, but gradients (of zero) for the projections: distributed training needs them
        return query_global @ key_global[:, :, :0].mT @ value_global[:, :, :0]
    mask = _global_row_mask(roles, pattern)
    # Kernels want to know how many rows there are; and that for CPUs has no second derivatives.
    needs_weights = not roles.is_counted or (query_global.device.type == "cpu" and query_global.requires_grad)
    return _attention(query_global, key_global, value_global, mask, dropout, scaling, needs_weights)


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    scaling: float | None,
    needs_weights: bool = False,
) -> torch.Tensor:
    """Dense attention, by explicit weights where kernels cannot be had."""
    if not needs_weights and not is_transformed():
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    weights = _softmax((query @ key.mT) * scaling, mask)
    return _drop(weights, dropout) @ value


def global_rows_of_states(
    global_states: torch.Tensor,
    hidden_states: torch.Tensor,
    projections: Sequence[tuple[torch.Tensor, torch.Tensor]],
    heads: int,
    *,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """`global_rows` without projecting a key and a value for every token: `softmax((q W_k) Xᵀ) X W_v`.

    Costs S · hidden_size · heads · G instead of S · hidden_size²: cheaper while G is below head_dim.

    Args:
        global_states: `(batch * G, hidden_size)`, the states of the global tokens.
        hidden_states: `(batch, S, hidden_size)`.
        projections: Weight `(hidden_size, hidden_size)` and bias `(hidden_size,)` of global queries, keys and values.
        heads: Number of heads.
        pattern: Only its direction matters.
        roles: Real and global tokens; at least one is global.
        dropout: Probability of dropping an attention weight.
        scaling: Factor on the scores, `head_dim ** -0.5` if left out.
    """
    num_global, head_dim = roles.num_global, hidden_states.shape[-1] // heads
    scaling = head_dim**-0.5 if scaling is None else scaling
    (query_weight, query_bias), (key_weight, key_bias), (value_weight, value_bias) = (
        (weight.view(heads, head_dim, -1), bias.view(heads, 1, head_dim)) for weight, bias in projections
    )
    query = torch.baddbmm(query_bias, global_states.expand(heads, -1, -1), query_weight.mT) * scaling
    query_of_states = _swap_outer(torch.bmm(query, key_weight), num_global)
    if hidden_states.dtype == torch.bfloat16:  # the same product: CPUs take 50 times longer the other way round
        scores = torch.bmm(hidden_states, query_of_states.mT).mT
    else:
        scores = torch.bmm(query_of_states, hidden_states.mT)
    if torch.is_grad_enabled():  # the same for all keys, so that softmax takes it out again: for a gradient of zero
        scores = scores + _swap_outer((query * key_bias).sum(dim=-1, keepdim=True), num_global)
    mask = _global_row_mask(roles, pattern)
    weights = _softmax(scores, None if mask is None else mask.expand(-1, heads, num_global, -1).flatten(1, 2))
    if dropout > 0.0:
        weights = torch.dropout(weights, dropout, train=True)
        value_bias = value_bias * _swap_outer(weights.sum(dim=-1, keepdim=True), num_global)
    mixed = _swap_outer(torch.bmm(weights, hidden_states), num_global)
    rows = torch.baddbmm(value_bias, mixed, value_weight.mT)
    return rows.unflatten(1, (-1, num_global)).transpose(0, 1)


def _swap_outer(tensor: torch.Tensor, num_global: int) -> torch.Tensor:
    """`(a, b · G, n)` to `(b, a · G, n)`: rows of a head to rows of a text, so that no weight is copied per text."""
    return tensor.unflatten(1, (-1, num_global)).transpose(0, 1).flatten(1, 2)


def global_weights(
    query_global: torch.Tensor,
    key_global: torch.Tensor,
    *,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """Attention weights of the global rows, `(batch, heads, S, G)`: column g is what global token g gives to all."""
    scaling = query_global.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query_global @ key_global.mT) * scaling
    weights = _softmax(scores, _global_row_mask(roles, pattern))
    if roles.global_valid is not None:
        weights = weights.masked_fill(~roles.global_valid[:, None, :, None], 0.0)
    return _drop(weights, dropout).mT


def put_global_rows(output: torch.Tensor, rows: torch.Tensor, roles: TokenRoles) -> torch.Tensor:
    """Adds `rows` `(batch, heads, G, head_dim)` at the global positions of `output`, which are 0 there."""
    if roles.global_index is None:
        return output + rows.sum(dim=2, keepdim=True)
    rows = rows.masked_fill(~roles.global_valid[:, None, :, None], 0.0).to(output.dtype)
    is_kept = torch.is_grad_enabled() and (output.requires_grad or rows.requires_grad)  # for a backward pass, as it is
    is_kept = is_kept or is_transformed()
    if output.stride(1) < output.stride(2):  # tokens lie one after the other: they are rows of a matrix
        tokens, rows = (x.transpose(1, 2).flatten(0, 1) for x in (output, rows))
        add_rows: Any = tokens.index_add if is_kept else tokens.index_add_
        return add_rows(0, roles.global_tokens, rows).view_as(output.transpose(1, 2)).transpose(1, 2)
    index = roles.global_index[:, None, :, None].expand_as(rows)
    add = output.scatter_add if is_kept else output.scatter_add_
    return add(2, index, rows)


class _Blocks:
    """How a sequence is cut into blocks of queries and windows of keys, for one dilation of one pattern.

    In the shapes here `n` is batch · dilation · number of blocks. `for_weights` asks for the plain geometry, in which
    every row of a window holds the whole band.
    """

    def __init__(
        self, length: int, pattern: WindowPattern, dilation: int, roles: TokenRoles, for_weights: bool = False
    ) -> None:
        self.length, self.dilation, self.is_causal = length, dilation, pattern.is_causal
        self.is_traced = torch.compiler.is_compiling()
        self.sub_length = -(-length // dilation)
        if self.is_traced and dilation > 1:
            self.sub_length = _at_least_two(self.sub_length)
        self.before = pattern.one_sided_window
        self.after = self.before if for_weights or not pattern.is_causal else 0
        self.size, self.is_dense = min(max(self.before, MIN_BLOCK), MAX_BLOCK), False
        if not self.is_traced:
            self.size = min(self.size, self.sub_length)
            # Shorter than the window: one block sees every key, and without gaps the global ones are among them.
            self.is_dense = self.sub_length <= self.before + 1 and not for_weights
        if self.is_dense:
            self.before, self.after, self.size = 0, 0, self.sub_length
        self.has_global_columns = roles.has_global and not (self.is_dense and dilation == 1)
        self.count = -(-self.sub_length // self.size)
        if self.is_traced:
            self.count = _at_least_two(self.count)
        self.num_keys = self.size + self.before + self.after

    def queries(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(batch, heads, S, x)` to blocks `(n, heads, size, x)`."""
        tensor = self._fold(tensor)
        missing = self.count * self.size - self.sub_length
        if self.is_traced or missing:
            tensor = pad(tensor, (0, 0, 0, missing))
        return self._join(tensor.unflatten(2, (self.count, self.size)).transpose(1, 2))

    def keys(self, tensor: torch.Tensor, roles: TokenRoles) -> torch.Tensor:
        """`(batch, heads, S, x)` to what every block sees, `(n, heads, G + num_keys, x)`: global keys, then window."""
        windows = self._windows(tensor)
        if self.has_global_columns:
            front = roles.gather_global(tensor)[:, None].expand(-1, self.dilation * self.count, -1, -1, -1)
            windows = torch.cat([self._join(front), windows], dim=2)
        return windows

    def rows(self, blocks: torch.Tensor) -> torch.Tensor:
        """Undoes `queries`."""
        tensor = blocks.unflatten(0, (-1, self.count)).transpose(1, 2).flatten(2, 3)
        if self.dilation > 1:
            tensor = self._first(tensor, self.sub_length).unflatten(0, (-1, self.dilation))
            tensor = tensor.permute(0, 2, 3, 1, 4).flatten(2, 3)
        return self._first(tensor, self.length)

    def _first(self, tensor: torch.Tensor, length: int) -> torch.Tensor:
        """`(n, heads, S, x)` without what was padded; a view, unless tracing would ask whether it is all there is."""
        if self.is_traced:
            return tensor.index_select(2, torch.arange(length, device=tensor.device))
        return tensor[:, :, :length]

    def mask(self, roles: TokenRoles, batch_size: int, device: torch.device) -> torch.Tensor | None:
        """Which of its keys every query of a block attends to, `(n, 1, size, G + num_keys)`, bool; None if all.

        Rows whose output is thrown away (padded, global, beyond the end) see everything: no row is empty, whose
        softmax some kernels cannot take.
        """
        if self.is_traced and not is_exporting():
            return self._make_mask(roles, batch_size, device)  # the compiler joins equal ones
        name = (self.dilation, self.before, self.after, self.size, self.is_causal, self.has_global_columns)
        if name not in roles.cache:
            roles.cache[name] = self._make_mask(roles, batch_size, device)
        return roles.cache[name]

    def band_index(self, device: torch.device) -> torch.Tensor:
        """`(size, attention_window + 1)`: for every row of a block, which columns of its window are its band."""
        return torch.arange(self.size, device=device)[:, None] + torch.arange(2 * self.before + 1, device=device)

    def _make_mask(self, roles: TokenRoles, batch_size: int, device: torch.device) -> torch.Tensor | None:
        if self.is_dense and self.dilation == 1 and not self.is_causal and roles.key_padding_mask is None:
            return None
        real = roles.key_padding_mask
        if real is None:
            real = torch.ones(batch_size, self.length, dtype=torch.bool, device=device)
        not_global = real if roles.is_global is None else real & ~roles.is_global
        window = self._windows(_as_column(not_global if self.has_global_columns else real)).mT
        if not self.is_dense or self.is_causal:
            row = torch.arange(self.size, device=device)[:, None] + self.before
            distance = row - torch.arange(self.num_keys, device=device)
            window = window & (distance >= (0 if self.is_causal else -self.after))
            if not self.is_dense:
                window = window & (distance <= self.before)
        if self.has_global_columns:
            front = roles.global_valid[:, None, None, None, :]
            front = self._join(front.expand(-1, self.dilation * self.count, -1, self.size, -1))
            if self.is_causal:
                position = torch.arange(self.length, device=device).expand(batch_size, -1)
                index = roles.global_index.repeat_interleave(self.dilation * self.count, dim=0)
                front = front & (index[:, None, None, :] <= self.queries(_as_column(position)))
            window = torch.cat([front, window.expand(-1, -1, self.size, -1)], dim=-1)
        return window | ~self.queries(_as_column(not_global))

    def _fold(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(batch, heads, S, x)` to `(batch * dilation, heads, sub_length, x)`: every dilation-th token by itself."""
        if self.dilation == 1:
            return tensor
        tensor = pad(tensor, (0, 0, 0, self.sub_length * self.dilation - self.length))
        return self._join(tensor.unflatten(2, (self.sub_length, self.dilation)).permute(0, 3, 1, 2, 4))

    def _windows(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = self._fold(tensor)
        missing = self.count * self.size - self.sub_length
        if self.is_traced or self.before or self.after or missing:
            tensor = pad(tensor, (0, 0, self.before, self.after + missing))
        return self._join(tensor.unfold(2, self.num_keys, self.size).permute(0, 2, 1, 4, 3))

    def _join(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(a, b, …)` to `(a · b, …)`. A traced program goes by way of a single dimension: whether the two can be one
        without a copy depends on sizes, and asking would bind it to some of them.
        """
        if not self.is_traced:
            return tensor.flatten(0, 1)
        first, second, *others = tensor.shape
        return tensor.clone(memory_format=torch.contiguous_format).flatten().unflatten(0, (first * second, *others))


def _at_least_two(size: int) -> int:
    """A size of a traced program, which takes one of 1 for a constant."""
    return max(size, 2) if isinstance(size, int) else torch.sym_max(size, 2)


def _as_column(tensor: torch.Tensor) -> torch.Tensor:
    """`(batch, S)` to `(batch, 1, S, 1)`."""
    return tensor[:, None, :, None]


def _drop(weights: torch.Tensor, dropout: float) -> torch.Tensor:
    """Some weights set to 0, the others scaled. While a program is traced the probability may be a symbol."""
    return torch.dropout(weights, dropout, train=True) if dropout > 0.0 else weights


def _softmax(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Softmax over the last dimension, in float32 at least, given back in the dtype of the scores."""
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    statistics_dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    return torch.softmax(scores, dim=-1, dtype=statistics_dtype).to(scores.dtype)


def _global_row_mask(roles: TokenRoles, pattern: WindowPattern) -> torch.Tensor | None:
    """Which keys the global rows see, `(batch, 1, 1 or G, S)`, bool; None if all. Unused entries see everything."""
    pattern.refuse_others()
    mask = None if roles.key_padding_mask is None else roles.key_padding_mask[:, None, None, :]
    if pattern.is_causal:
        position = torch.arange(roles.is_global.shape[1], device=roles.is_global.device)
        before = position <= roles.global_index[:, None, :, None]
        mask = before if mask is None else mask & before
    return None if mask is None else mask | ~roles.global_valid[:, None, :, None]


def _keep_local_rows(tensor: torch.Tensor, roles: TokenRoles) -> torch.Tensor:
    """Sets padded and global rows of `(batch, heads, S, x)` to 0."""
    if roles.key_padding_mask is not None:
        tensor = tensor.masked_fill(_as_column(~roles.key_padding_mask), 0.0)
    if roles.is_global is not None:
        tensor = tensor.masked_fill(_as_column(roles.is_global), 0.0)
    return tensor


def _heads_by_dilation(pattern: WindowPattern) -> dict[int, Any]:
    if len(set(pattern.dilations)) == 1:
        return {pattern.dilations[0]: slice(None)}
    return {
        dilation: [head for head, of_head in enumerate(pattern.dilations) if of_head == dilation]
        for dilation in sorted(set(pattern.dilations))
    }


def _restore_head_order(parts: list[torch.Tensor], heads_of: dict[int, Any]) -> torch.Tensor:
    if len(parts) == 1:
        return parts[0]
    order = [head for heads in heads_of.values() for head in heads]
    return torch.cat(parts, dim=1)[:, sorted(range(len(order)), key=order.__getitem__)]
