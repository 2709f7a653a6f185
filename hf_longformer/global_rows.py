# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The rows of global tokens, which attend to all real tokens by projections of their own, and their places among the
local rows.

There are three ways to compute them, and `add_global_rows` chooses: from projections of all tokens; without projecting
a key and a value for every token, where there are few rows; and with their weights, if somebody wants to see those.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from .dense_attention import dense_attention, drop, masked_softmax
from .operators import is_transformed, sum_dtype
from .plain_modules import is_listened_to, is_plain, is_untouched
from .token_roles import GlobalTokens, PackedTexts, TokenRoles
from .window_pattern import WindowPattern


class GlobalProjections(NamedTuple):
    """How queries, keys and values of the rows of global tokens are projected.

    Args:
        modules: The three layers.
        split_heads: `(batch, n, hidden_size)` to `(batch, heads, n, head_dim)`.
        head_dim: Of the attention.
        are_separate: Whether they are others than the local ones.
        is_training: Whether the attention is in training mode.
        scaling_length: Of the configuration, `global_scaling_length`.
    """

    modules: tuple[nn.Module, nn.Module, nn.Module]
    split_heads: Callable[[torch.Tensor], torch.Tensor]
    head_dim: int
    are_separate: bool
    is_training: bool
    scaling_length: int | None = None

    def factor(
        self, hidden_states: torch.Tensor, key_padding_mask: torch.Tensor | None, length: int | None = None
    ) -> torch.Tensor | None:
        """`(batch, 1, 1, 1)`, what scores of global rows are multiplied with: `log(n) / log(scaling_length)` in a text
        of n real tokens, in float32 at least. None if that is not asked for.

        Args:
            hidden_states: `(batch, S, hidden_size)`.
            key_padding_mask: `(batch, S)`, bool, True for real tokens; None if all are real.
            length: Of the texts, if the states are those of a slice.
        """
        if self.scaling_length is None:
            return None
        batch, of_states = hidden_states.shape[:2]
        length = of_states if length is None else length
        ones = torch.ones(batch, device=hidden_states.device, dtype=sum_dtype(hidden_states))
        real = ones * length if key_padding_mask is None else key_padding_mask.sum(dim=1).to(ones.dtype)
        return (real.clamp(min=1.0).log() / math.log(self.scaling_length))[:, None, None, None]

    def weights(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Weight and bias of each, for which nothing may sit on the layers."""
        return [(module.weight, module.bias) for module in self.modules]  # type: ignore[misc]

    def of_states(self, states: torch.Tensor) -> list[torch.Tensor]:
        """All three of `(batch, n, hidden_size)`."""
        return [self.split_heads(module(states)) for module in self.modules]

    def of_tokens(self, hidden_states: torch.Tensor, tokens: GlobalTokens) -> tuple[torch.Tensor, ...]:
        """Queries `(batch, heads, G, head_dim)` of the global tokens, and keys and values of all tokens."""
        if is_listened_to(self.modules[:1]):  # all tokens pass through it then, as in the definition
            query, key, value = self.of_states(hidden_states)
            return tokens.gather(query), key, value
        of_global = states_of(hidden_states, tokens).unflatten(0, (-1, tokens.number))
        states = (of_global, hidden_states, hidden_states)
        return tuple(self.split_heads(module(each)) for module, each in zip(self.modules, states, strict=True))


def add_global_rows(
    output: torch.Tensor,
    hidden_states: torch.Tensor,
    projections: GlobalProjections,
    *,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float,
    output_attentions: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The rows of global tokens put among the local ones, and their weights if they are asked for.

    Args:
        output: `(batch, heads, S, head_dim)`, the local rows.
        hidden_states: `(batch, S, hidden_size)`.
        projections: Of global rows.
        pattern: Its direction matters; of a pattern of somebody's own, only `allows` may be another.
        roles: Real and global tokens.
        dropout: Probability of dropping an attention weight.
        output_attentions: Whether to return weights.

    Returns:
        The output, and `(batch, heads, S, G)` or None.
    """
    if roles.global_tokens is None:
        return without_global_tokens(output, hidden_states, projections), None
    batch: Any = roles  # in which texts stand one below the other
    if isinstance(roles, PackedTexts):
        batch, hidden_states = roles.batch, roles.pad(hidden_states)
    settings: dict[str, Any] = {"pattern": pattern, "roles": batch, "dropout": dropout}
    tokens, weights = batch.global_tokens, None
    factor = projections.factor(hidden_states, batch.key_padding_mask)
    if output_attentions:
        query, key, value = projections.of_tokens(hidden_states, tokens)
        query = scaled(query, factor)
        weights = global_weights(query, key, **settings)
        rows = weights.mT @ value
    elif tokens.has_static_count and tokens.number < projections.head_dim and is_plain(*projections.modules):
        of_global, heads = states_of(hidden_states, tokens), output.shape[1]
        settings["factor"] = factor
        rows = global_rows_of_states(of_global, hidden_states, projections.weights(), heads, **settings)
    else:
        query, key, value = projections.of_tokens(hidden_states, tokens)
        rows = global_rows(scaled(query, factor), key, value, **settings)
    if isinstance(roles, PackedTexts):  # texts stand in one row, and so do their global tokens
        rows = rows.transpose(0, 1).flatten(1, 2)[None]
    return put_global_rows(output, rows, roles.global_tokens), weights


def scaled(query: torch.Tensor, factor: torch.Tensor | None) -> torch.Tensor:
    """`(batch, heads, G, head_dim)`, multiplied with `(batch, 1, 1, 1)` if that is there, in their own dtype."""
    return query if factor is None else (query * factor).to(query.dtype)


def without_global_tokens(
    output: torch.Tensor, hidden_states: torch.Tensor, projections: GlobalProjections
) -> torch.Tensor:
    """The local rows as they are. Hooks are called all the same, and in training the projections get a gradient of
    zero, which distributed training waits for.
    """
    if not projections.are_separate:
        return output
    if not is_untouched(*projections.modules) and is_listened_to(projections.modules):
        return output + zero_row(*projections.of_states(hidden_states))
    if not projections.is_training or not torch.is_grad_enabled():
        return output
    if is_plain(*projections.modules):
        return with_zero_gradients(output, *(tensor for pair in projections.weights() for tensor in pair))
    return output + zero_row(*projections.of_states(hidden_states[:, :0]))


def with_zero_gradients(tensor: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    """The tensor as it is, and in a backward pass a gradient of zero for others."""
    if torch.compiler.is_compiling() or is_transformed():
        return tensor + sum(other[..., :0].sum() for other in others).to(tensor.dtype)
    return _ZeroGradients.apply(tensor, *others)


class _ZeroGradients(torch.autograd.Function):
    """A tensor as it is, with a gradient of zero for others."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        ctx.others = others
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        wanted = zip(ctx.others, ctx.needs_input_grad[1:], strict=True)
        return grad_output, *(torch.zeros_like(other) if is_wanted else None for other, is_wanted in wanted)


def zero_row(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`(batch, heads, 1, head_dim)` of zeros, for a gradient of zero of the projections."""
    return (query[:, :, :0] @ key[:, :, :0].mT @ value[:, :, :0]).sum(dim=2, keepdim=True)


def states_of(hidden_states: torch.Tensor, tokens: GlobalTokens) -> torch.Tensor:
    """The states of the global tokens, `(batch * G, hidden_size)`."""
    return hidden_states.flatten(0, 1).index_select(0, tokens.flat_index)  # type: ignore[arg-type]


def join_global_rows(
    output: torch.Tensor,
    query_global: torch.Tensor,
    key_global: torch.Tensor,
    value_global: torch.Tensor,
    *,
    roles: TokenRoles,
    **settings: Any,
) -> torch.Tensor:
    """Puts the rows of global tokens among the local ones, from projections of all tokens.

    Args:
        output: `(batch, heads, S, head_dim)`, the local rows.
        query_global, key_global, value_global: The same shape.
        roles: Real and global tokens.
        **settings: As those of `global_rows`.
    """
    if not roles.has_global:
        return output + zero_row(query_global, key_global, value_global) if torch.is_grad_enabled() else output
    tokens: Any = roles.global_tokens
    query_global = _rows_of(query_global, tokens)
    rows = global_rows(query_global, key_global, value_global, roles=roles, **settings)
    return put_global_rows(output, rows, tokens)


def _rows_of(tensor: torch.Tensor, tokens: GlobalTokens) -> torch.Tensor:
    """`tokens.gather` of `(batch, heads, S, n)`; where tokens lie one after the other its backward pass copies less."""
    if not tensor.stride(1) < tensor.stride(2) or tokens.flat_index is None:
        return tokens.gather(tensor)
    rows = tensor.transpose(1, 2).flatten(0, 1).index_select(0, tokens.flat_index)
    return rows.unflatten(0, (-1, tokens.number)).transpose(1, 2)


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
    """Output `(batch, heads, G, head_dim)` of the global rows, which attend to every real token.

    Args:
        query_global: `(batch, heads, G, head_dim)`, of the global tokens, in the order of `roles.global_tokens.index`.
        key_global, value_global: `(batch, heads, S, head_dim)`, of all tokens.
        pattern: Its direction matters; of a pattern of somebody's own, only `allows` may be another.
        roles: Real and global tokens; at least one is global.
        dropout: Probability of dropping an attention weight.
        scaling: Factor on the scores, `head_dim ** -0.5` if left out.
    """
    mask = _mask_of_global_rows(roles, pattern)
    # Kernels want to know how many rows there are; and that for CPUs has no second derivatives.
    has_static_count = roles.global_tokens.has_static_count
    needs_weights = not has_static_count or (query_global.device.type == "cpu" and query_global.requires_grad)
    return dense_attention(query_global, key_global, value_global, mask, dropout, scaling, needs_weights)


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
    factor: torch.Tensor | None = None,
) -> torch.Tensor:
    """`global_rows` without projecting a key and a value for every token: `softmax((q W_k) Xᵀ) X W_v`.

    Costs S · hidden_size · heads · G instead of S · hidden_size²: cheaper while G is below head_dim.

    Args:
        global_states: `(batch * G, hidden_size)`, the states of the global tokens.
        hidden_states: `(batch, S, hidden_size)`.
        projections: Weight `(hidden_size, hidden_size)` and bias `(hidden_size,)` of global queries, keys and values.
        heads: Number of heads.
        pattern: Its direction matters; of a pattern of somebody's own, only `allows` may be another.
        roles: Real and global tokens; at least one is global.
        dropout: Probability of dropping an attention weight.
        scaling: Factor on the scores, `head_dim ** -0.5` if left out.
        factor: Another one, `(batch, 1, 1, 1)`.
    """
    num_global = roles.num_global
    scores = scores_of_states(global_states, hidden_states, projections[:2], heads, num_global, scaling, factor)
    mask = _mask_of_global_rows(roles, pattern)
    weights = masked_softmax(scores, None if mask is None else mask.expand(-1, heads, num_global, -1).flatten(1, 2))
    return rows_of_states(drop(weights, dropout), hidden_states, projections[2], heads, num_global, dropout == 0.0)


def scores_of_states(
    global_states: torch.Tensor,
    hidden_states: torch.Tensor,
    projections: Sequence[tuple[torch.Tensor, torch.Tensor]],
    heads: int,
    num_global: int,
    scaling: float | None = None,
    factor: torch.Tensor | None = None,
) -> torch.Tensor:
    """What global rows score every token with, `(batch, heads * G, S)`, by the projections of queries and of keys."""
    size = hidden_states.shape[-1]
    head_dim = size // heads
    scaling = head_dim**-0.5 if scaling is None else scaling
    (query_weight, query_bias), (key_weight, key_bias) = projections
    query = torch.addmm(query_bias, global_states, query_weight.t(), beta=scaling, alpha=scaling)
    query = query.view(-1, heads, head_dim).transpose(0, 1)
    if factor is not None:
        query = scaled(query.unflatten(1, (-1, num_global)), factor[:, 0]).flatten(1, 2)
    query_of_states = _swap_outer(torch.bmm(query, key_weight.view(heads, head_dim, size)), num_global)
    if hidden_states.dtype == torch.bfloat16:  # the same product: CPUs take 50 times longer the other way round
        scores = torch.bmm(hidden_states, query_of_states.mT).mT
    else:
        scores = torch.bmm(query_of_states, hidden_states.mT)
    if torch.is_grad_enabled():  # what it adds is the same for all keys, so that softmax takes it out again
        return with_zero_gradients(scores, key_bias)
    return scores


def rows_of_states(
    weights: torch.Tensor,
    hidden_states: torch.Tensor,
    projection: tuple[torch.Tensor, torch.Tensor],
    heads: int,
    num_global: int,
    sum_to_one: bool,
) -> torch.Tensor:
    """Rows `(batch, heads, G, head_dim)` of weights `(batch, heads * G, S)`, by the projection of values.

    Args:
        weights: Of the global rows.
        hidden_states: `(batch, S, hidden_size)`.
        projection: Weight and bias.
        heads: Number of heads.
        num_global: G.
        sum_to_one: Whether the weights of every row do.
    """
    weight, bias = projection
    head_dim = bias.shape[0] // heads
    value_weight, value_bias = weight.view(heads, head_dim, -1), bias.view(heads, 1, head_dim)
    if not sum_to_one:
        value_bias = value_bias * _swap_outer(weights.sum(dim=-1, keepdim=True), num_global)
    mixed = _swap_outer(torch.bmm(weights, hidden_states), num_global)
    rows = torch.baddbmm(value_bias, mixed, value_weight.mT)
    return rows.view(heads, -1, num_global, head_dim).transpose(0, 1)


def _swap_outer(tensor: torch.Tensor, num_global: int) -> torch.Tensor:
    """`(a, b · G, n)` to `(b, a · G, n)`: rows of a head to rows of a text, so that no weight is copied per text."""
    if not torch.compiler.is_compiling():  # of one text, or one head, that is a view
        if tensor.shape[1] == num_global:
            return tensor.reshape(1, -1, tensor.shape[2])
        if tensor.shape[0] == 1:
            return tensor.view(-1, num_global, tensor.shape[2])
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
    weights = masked_softmax(scores, _mask_of_global_rows(roles, pattern))
    weights = weights.masked_fill(~roles.global_tokens.valid[:, None, :, None], 0.0)
    return drop(weights, dropout).mT


def put_global_rows(output: torch.Tensor, rows: torch.Tensor, tokens: GlobalTokens) -> torch.Tensor:
    """Puts `rows` `(batch, heads, G, head_dim)` at the global positions of `output`, which are 0 there, or anything if
    every text has G of them: in its place unless a backward pass needs it as it is.
    """
    if not tokens.is_even:
        rows = rows.masked_fill(~tokens.valid[:, None, :, None], 0.0)
    rows = rows.to(output.dtype)
    is_kept = torch.is_grad_enabled() and (output.requires_grad or rows.requires_grad)  # for a backward pass, as it is
    is_kept = is_kept or is_transformed()
    if not is_kept and tokens.is_even and not torch.compiler.is_compiling() and output.shape[0] == 1:
        return output.index_copy_(2, tokens.index[0], rows)  # of a short text every operator is felt
    if output.stride(1) < output.stride(2):  # tokens lie one after the other: they are rows of a matrix
        flat_index: Any = tokens.flat_index
        by_token, rows = (x.transpose(1, 2).flatten(0, 1) for x in (output, rows))
        batch, heads, length, size = output.shape
        if tokens.is_even:
            put_rows: Any = by_token.index_copy if is_kept else by_token.index_copy_
        else:
            put_rows = by_token.index_add if is_kept else by_token.index_add_
        return put_rows(0, flat_index, rows).view(batch, length, heads, size).transpose(1, 2)
    index = tokens.index[:, None, :, None].expand_as(rows)
    if tokens.is_even:
        put_rows = output.scatter if is_kept else output.scatter_
    else:
        put_rows = output.scatter_add if is_kept else output.scatter_add_
    return put_rows(2, index, rows)


def _mask_of_global_rows(roles: TokenRoles, pattern: WindowPattern) -> torch.Tensor | None:
    """Which keys the global rows see, `(batch, 1, 1 or G, S)`, bool; None if all. Unused entries see everything."""
    pattern.require_global_rows()
    if torch.compiler.is_compiling():  # which joins equal ones
        return _make_mask_of_global_rows(roles, pattern.is_causal)
    return roles.derived(
        ("global rows", pattern.is_causal), lambda: _make_mask_of_global_rows(roles, pattern.is_causal)
    )


def _make_mask_of_global_rows(roles: TokenRoles, is_causal: bool) -> torch.Tensor | None:
    tokens: Any = roles.global_tokens
    mask = None if roles.key_padding_mask is None else roles.key_padding_mask[:, None, None, :]
    if is_causal:
        position = torch.arange(tokens.mask.shape[1], device=tokens.mask.device)
        before = position <= tokens.index[:, None, :, None]
        mask = before if mask is None else mask & before
    return mask if mask is None or tokens.is_even else mask | ~tokens.valid[:, None, :, None]
