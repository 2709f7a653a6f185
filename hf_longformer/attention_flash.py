# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The local rows on a GPU in half precision: PyTorch's flash attention kernel with a window, on texts without padding.

The kernel knows windows, but no global tokens. Those that a window does not hold are attended to by small dense
products beside it, and the two are merged by their log-sum-exp. The backward pass of the kernel is called with the
*merged* output and log-sum-exp, so that it needs no gradient of its log-sum-exp.

Real tokens are packed one after the other, those that windows of a dilation can hold side by side: every phase of every
text is a text of its own for the kernel. Padding is left out, which is exact where it stands at the ends of a text.
"""

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from .window_pattern import TokenRoles, WindowPattern

DTYPES = (torch.float16, torch.bfloat16)
LARGEST_HEAD_DIM, HEAD_DIM_STEP = 256, 8
OLDEST = (8, 0)  # compute capability


def can_attend(query: torch.Tensor, roles: TokenRoles) -> bool:
    """Whether the kernel takes projections like this query `(batch, heads, S, head_dim)`, and the padding."""
    head_dim = query.shape[-1]
    if query.device.type != "cuda" or query.dtype not in DTYPES or torch.version.hip:
        return False
    if head_dim > LARGEST_HEAD_DIM or head_dim % HEAD_DIM_STEP:
        return False
    if roles.key_padding_mask is not None and not roles.is_contiguous:
        return False
    return torch.cuda.get_device_capability(query.device) >= OLDEST


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
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    parts = []
    for dilation, heads in pattern.head_runs(query.shape[1]):
        of_run = WindowPattern(pattern.attention_window, dilation, pattern.is_causal)
        parts.append(_LocalRows.apply(query[:, heads], key[:, heads], value[:, heads], of_run, roles, dropout, scaling))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class _LocalRows(torch.autograd.Function):
    """The rows of heads with one dilation."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        pattern: WindowPattern,
        roles: TokenRoles,
        dropout: float,
        scaling: float,
    ) -> torch.Tensor:
        packing = _pack_texts(query.shape, pattern.dilations[0], roles, query.device)
        packed = [packing.pack(x) for x in (query, key, value)]
        output, statistics, *ctx.state = _kernel(packed, packing, pattern, dropout, scaling)
        output, statistics = packing.unpack(output), packing.unpack(statistics.T[..., None])[..., 0]
        ctx.kept = None
        if roles.has_global:
            scores, values = _global_scores(query, key, pattern, roles, scaling), roles.gather_global(value)
            merged = torch.logaddexp(statistics, scores.logsumexp(dim=-1))
            weights = torch.exp(scores - merged[..., None])
            if dropout > 0.0:
                ctx.kept = torch.rand_like(weights) >= dropout
                weights = weights * ctx.kept / (1.0 - dropout)
            share = torch.exp(statistics - merged)[..., None]
            output = (output * share + weights.to(value.dtype) @ values).to(query.dtype)
            statistics = merged
        if roles.hidden is not None:
            output = output.masked_fill(roles.hidden[:, None, :, None], 0.0)
            statistics = statistics.masked_fill(roles.hidden[:, None], float("inf"))  # their weights become 0
        ctx.save_for_backward(query, key, value, output, statistics)
        ctx.pattern, ctx.roles, ctx.dropout, ctx.scaling = pattern, roles, dropout, scaling
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, output, statistics = ctx.saved_tensors
        pattern, roles, scaling = ctx.pattern, ctx.roles, ctx.scaling
        if roles.hidden is not None:
            grad_output = grad_output.masked_fill(roles.hidden[:, None, :, None], 0.0)
        packing = _pack_texts(query.shape, pattern.dilations[0], roles, query.device)
        packed = [packing.pack(x) for x in (grad_output, query, key, value, output)]
        packed.append(packing.pack(statistics[..., None])[..., 0].T.contiguous())
        found = _kernel_backward(packed, packing, pattern, ctx.dropout, scaling, ctx.state)
        grads = [packing.unpack(x) for x in found]
        if roles.key_padding_mask is not None:
            padded = ~roles.key_padding_mask[:, None, :, None]
            grads = [grad.masked_fill(padded, 0.0) for grad in grads]
        if roles.has_global:
            keys, values = roles.gather_global(key), roles.gather_global(value)
            weights = torch.exp(_global_scores(query, key, pattern, roles, scaling) - statistics[..., None])
            factor = 1.0 if ctx.kept is None else ctx.kept / (1.0 - ctx.dropout)
            of_output = (grad_output.to(weights.dtype) * output).sum(dim=-1, keepdim=True)
            grad_scores = weights * ((grad_output @ values.mT) * factor - of_output) * scaling
            grad_scores = grad_scores.to(query.dtype)
            of_values = (weights * factor).to(value.dtype).mT @ grad_output
            index = roles.global_index[:, None, :, None].expand_as(keys)
            grads[0] = grads[0] + grad_scores @ keys
            grads[1] = grads[1].scatter_add(2, index, grad_scores.mT @ query)
            grads[2] = grads[2].scatter_add(2, index, of_values)
        return (*grads, None, None, None, None)


class _Packing(NamedTuple):
    """Which tokens stand where for the kernel.

    Args:
        order: `(batch * S,)`, the tokens in their new order, padding last; None if that is their order.
        bounds: `(texts + 1,)`, int32, where texts begin and end. What lies behind the last is not computed.
        longest: No text has more tokens.
        shape: Batch and S.
    """

    order: torch.Tensor | None
    bounds: torch.Tensor
    longest: int
    shape: tuple[int, int]

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(batch, heads, S, x)` to `(batch * S, heads, x)`."""
        tokens = tensor.transpose(1, 2).flatten(0, 1)
        return tokens if self.order is None else tokens[self.order]

    def unpack(self, tokens: torch.Tensor) -> torch.Tensor:
        """Undoes `pack`."""
        if self.order is not None:
            tokens = torch.empty_like(tokens).index_copy_(0, self.order, tokens)
        return tokens.unflatten(0, self.shape).transpose(1, 2)


def _pack_texts(shape: torch.Size, dilation: int, roles: TokenRoles, device: torch.device) -> _Packing:
    """Made once for all layers with one dilation, without waiting for the device."""
    name = ("packed", dilation)
    if name not in roles.cache:
        roles.cache[name] = _make_packing(shape[0], shape[2], dilation, roles.key_padding_mask, device)
    return roles.cache[name]


def _make_packing(batch: int, length: int, dilation: int, real: torch.Tensor | None, device: torch.device) -> _Packing:
    if real is None and dilation == 1:
        bounds = torch.arange(0, (batch + 1) * length, length, dtype=torch.int32, device=device)
        return _Packing(None, bounds, length, (batch, length))
    position = torch.arange(length, device=device)
    text = torch.arange(batch, device=device)[:, None] * dilation + position % dilation
    counted = torch.ones_like(text) if real is None else real.long()
    behind = text if real is None else torch.where(real, text, batch * dilation)
    order = torch.argsort(behind.flatten(), stable=True)
    lengths = torch.zeros(batch * dilation, dtype=torch.long, device=device)
    lengths.scatter_add_(0, text.flatten(), counted.flatten())
    bounds = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
    return _Packing(order, bounds, -(-length // dilation), (batch, length))


def _global_scores(
    query: torch.Tensor, key: torch.Tensor, pattern: WindowPattern, roles: TokenRoles, scaling: float
) -> torch.Tensor:
    """`(batch, heads, S, G)`, float32 at least: scores of the global tokens, -inf where the window holds them."""
    name = ("beside", pattern)
    if name not in roles.cache:
        position = torch.arange(query.shape[2], device=query.device)[:, None]
        index = roles.global_index[:, None, :]
        seen = roles.global_valid[:, None, :] & ~pattern.allows(position, index)
        if pattern.is_causal:
            seen = seen & (index <= position)
        roles.cache[name] = seen[:, None]
    scores = query @ roles.gather_global(key).mT
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) * scaling
    return scores.masked_fill(~roles.cache[name], float("-inf"))


def _kernel(
    projections: list[torch.Tensor], packing: _Packing, pattern: WindowPattern, dropout: float, scaling: float
) -> tuple[torch.Tensor, ...]:
    """Output `(T, heads, head_dim)`, log-sum-exp `(heads, T)`, and two tensors that say what was dropped."""
    bounds, longest = packing.bounds, packing.longest
    return torch.ops.aten._flash_attention_forward(
        *(*projections, bounds, bounds, longest, longest, dropout, False, False), scale=scaling, **_sides(pattern)
    )[:4]


def _kernel_backward(
    tensors: list[torch.Tensor],
    packing: _Packing,
    pattern: WindowPattern,
    dropout: float,
    scaling: float,
    state: list[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """Gradients of query, key and value from that of the output, the projections, the output and its log-sum-exp."""
    bounds, longest = packing.bounds, packing.longest
    return torch.ops.aten._flash_attention_backward(
        *(*tensors, bounds, bounds, longest, longest, dropout, False, *state), scale=scaling, **_sides(pattern)
    )


def _sides(pattern: WindowPattern) -> dict[str, int]:
    w = pattern.one_sided_window
    return {"window_size_left": w, "window_size_right": 0 if pattern.is_causal else w}
