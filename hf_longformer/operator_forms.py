# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Operators of PyTorch made of two functions, an attention and its backward pass, and who may take them."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

# A copy of this file, such as comes with a model from the Hub, registers operators of its own.
NAMESPACE = re.sub(r"\W", "_", __name__.rpartition(".")[0])


def is_exporting() -> bool:
    """Whether `torch.export` traces. PyTorch's own function of that name says so of `torch.compile` too before 2.13."""
    return getattr(torch.compiler, "_is_exporting_flag", False)


def empty_rows(query: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for the output and the log-sum-exp of all rows.

    The output is `(batch, S, heads, head_dim)` in memory: the projection that follows reads it without a copy.
    """
    batch, heads, length, _ = query.shape
    output = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
    return output, query.new_empty(batch, heads, length, dtype=statistics_dtype(query))


def statistics_dtype(tensor: torch.Tensor) -> torch.dtype:
    """That of log-sum-exps and of sums over blocks: float32 at least."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def make_operator(
    name: str,
    functions: tuple[Callable[..., Any], Callable[..., Any]],
    arguments: str,
    outputs: str,
    *,
    device: str,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Two forms of a function of projections, masks and numbers: an operator for compiled programs, and one that has
    less to do around it for all others.

    Args:
        name: Of the operator.
        functions: One gives `outputs`, that of the attention first; the other gradients of the three projections, from
            that of the attention's output, the projections, the outputs and the other arguments of the first.
        arguments: Of the first function, in the language of schemas; tensors stand before numbers.
        outputs: The same of what it gives.
        device: Where it runs.
    """
    attend, attend_backward = functions
    options: dict[str, Any] = {"mutates_args": (), "device_types": device}
    names = arguments.split(", ")
    num_tensors = sum(name.startswith("Tensor") for name in names)
    keep = slice(2) if outputs.count("Tensor") == 2 else 0  # an operator gives a tuple, or a tensor
    saved = ", ".join(["Tensor grad_output", *names[:3], *outputs.split(", "), *names[3:]])
    operator = torch.library.custom_op(
        f"{NAMESPACE}::{name}", attend, schema=f"({arguments}) -> ({outputs})", **options
    )
    operator_backward = torch.library.custom_op(
        f"{NAMESPACE}::{name}_backward", attend_backward, schema=f"({saved}) -> (Tensor, Tensor, Tensor)", **options
    )
    operator.register_fake(lambda query, key, value, *_: empty_rows(query, value)[keep])
    operator_backward.register_fake(lambda _, *saved: tuple(torch.empty_like(x) for x in saved[:3]))

    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        rows = output if isinstance(output, tuple) else (output,)
        ctx.save_for_backward(*inputs[:3], *rows, *inputs[3:num_tensors])
        ctx.numbers = inputs[num_tensors:]
        ctx.set_materialize_grads(False)

    def backward_with(run: Callable[..., Any]) -> Callable[..., Any]:
        def backward(ctx: Any, grad_output: torch.Tensor, *_: None) -> tuple[torch.Tensor | None, ...]:
            grads = run(grad_output, *ctx.saved_tensors, *ctx.numbers)
            return (*grads, *[None] * (len(names) - 3))

        return backward

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = attend(*inputs)
            save(ctx, inputs, output)
            return output

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *grad_outputs: Any) -> Any:
            return backward_with(attend_backward)(ctx, *grad_outputs)

    operator.register_autograd(backward_with(operator_backward), setup_context=save)
    return operator, Eager.apply
