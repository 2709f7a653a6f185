# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The two collectives that divided texts need, with gradients. `torch.distributed.nn` is on its way out."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import distributed


def all_reduce(tensor: torch.Tensor, group: Any) -> torch.Tensor:
    """The sum over all processes, in all of them; so is the gradient."""
    return _AllReduce.apply(tensor, group)


def start_all_to_all(
    rows: torch.Tensor, sent: Sequence[int], received: Sequence[int], group: Any
) -> Callable[[], torch.Tensor]:
    """Begins to send rows to every process; what is returned waits for those that come from every process.

    Args:
        rows: `(n, …)`: first those for the first process, and so on.
        sent: How many for each.
        received: How many come from each.
        group: The processes.
    """
    started: list[Any] = []
    output = _AllToAll.apply(rows, sent, received, group, started)

    def wait() -> torch.Tensor:
        for work, _ in started:
            work.wait()
        started.clear()
        return output

    return wait


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, group: Any) -> torch.Tensor:
        ctx.group = group
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _AllReduce.apply(gradients[0], ctx.group), None


class _AllToAll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        sent: Sequence[int],
        received: Sequence[int],
        group: Any,
        started: list[Any] | None,
    ) -> torch.Tensor:
        ctx.settings = (received, sent, group)
        rows = rows.contiguous()
        output = rows.new_empty(sum(received), *rows.shape[1:])
        work = distributed.all_to_all_single(
            output, rows, list(received), list(sent), group=group, async_op=started is not None
        )
        if started is not None:
            started.append((work, rows))  # which must live until then
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        return _AllToAll.apply(gradients[0], *ctx.settings, None), None, None, None, None


__all__ = ["all_reduce", "start_all_to_all"]
