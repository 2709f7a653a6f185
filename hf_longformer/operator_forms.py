# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Operators of PyTorch made of two functions, an attention and its backward pass, and who may take them."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

# A copy of this file, such as comes with a model from the Hub, registers operators of its own.
NAMESPACE = re.sub(r"\W", "_", __name__.rpartition(".")[0])


def is_exporting() -> bool:
    """Whether `torch.export` traces. PyTorch's own function of that name says so of `torch.compile` too before 2.13."""
    return getattr(torch.compiler, "_is_exporting_flag", False)


def is_transformed() -> bool:
    """Whether a transform of `torch.func` (`grad`, `vmap`, `jvp`, …), or differentiation forward, is under way: these
    want PyTorch's own operators.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


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
    functions: tuple[Callable[..., Any], Callable[..., Any], Callable[..., torch.Tensor]],
    arguments: str,
    outputs: str,
    *,
    device: str,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Two forms of a function of projections, masks and numbers: an operator for compiled programs, and one that has
    less to do around it for all others.

    Args:
        name: Of the operator.
        functions: One gives `outputs`, that of the attention first; the next gradients of the three projections, from
            that of the attention's output, the projections, the outputs and the other arguments of the first; the last
            gives the attention's output by operators that PyTorch can differentiate any number of times. It is taken
            for the backward pass where that is to be differentiated again (`create_graph=True`).
        arguments: Of the first function, in the language of schemas; tensors stand before numbers.
        outputs: The same of what it gives.
        device: Where it runs.
    """
    attend, attend_backward, attend_plainly = functions
    options: dict[str, Any] = {"mutates_args": (), "device_types": device}
    names = arguments.split(", ")
    num_tensors = sum(name.startswith("Tensor") for name in names)
    num_outputs = outputs.count("Tensor")
    keep = slice(2) if num_outputs == 2 else 0  # an operator gives a tuple, or a tensor
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
        def backward(ctx: Any, grad_output: torch.Tensor | None, *_: None) -> tuple[torch.Tensor | None, ...]:
            saved = ctx.saved_tensors
            grads: tuple[torch.Tensor | None, ...] = (None, None, None)
            if grad_output is not None and torch.is_grad_enabled():
                inputs = (*saved[:3], *saved[3 + num_outputs :], *ctx.numbers)
                grads = _gradients_with_graph(attend_plainly, grad_output, inputs)
            elif grad_output is not None:
                grads = run(grad_output, *saved, *ctx.numbers)
            return (*grads, *[None] * (len(names) - 3))

        return backward

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = attend(*inputs)
            save(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *grad_outputs: Any) -> Any:
            return backward_with(attend_backward)(ctx, *grad_outputs)

    operator.register_autograd(backward_with(operator_backward), setup_context=save)
    return operator, Eager.apply


def _gradients_with_graph(
    attend: Callable[..., torch.Tensor], grad_output: torch.Tensor, inputs: tuple[Any, ...]
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of the three projections that can be differentiated again, from the attention itself, computed anew."""
    projections = [x.view_as(x) for x in inputs[:3]]  # which may be one tensor: here they are three
    wanted = [x for x in projections if x.requires_grad]
    output = attend(*projections, *inputs[3:])
    found = iter(torch.autograd.grad(output, wanted, grad_output, create_graph=True))
    return tuple(next(found) if x.requires_grad else None for x in projections)
