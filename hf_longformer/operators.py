# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Operators of PyTorch made of two functions, an attention and its backward pass, and who may take them."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

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
    """Memory for the output and the log-sum-exp of all rows.

    The output is `(batch, S, heads, head_dim)` in memory: the projection that follows reads it without a copy.
    """
    batch, heads, length, _ = query.shape
    output = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
    return output, query.new_empty(batch, heads, length, dtype=sum_dtype(query))


def sum_dtype(tensor: torch.Tensor) -> torch.dtype:
    """That of log-sum-exps and of sums over blocks: float32 at least."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


class Attention(NamedTuple):
    """Two forms of one function of projections, masks and numbers.

    Args:
        operator: For compiled programs, one node of their graph.
        eager: For all others, with less to do around it.
    """

    operator: Callable[..., Any]
    eager: Callable[..., Any]


def make_operator(
    name: str,
    *,
    attend: Callable[..., Any],
    attend_backward: Callable[..., tuple[torch.Tensor, ...]],
    attend_plainly: Callable[..., torch.Tensor],
    tensors: dict[str, str],
    numbers: dict[str, str],
    has_lse: bool,
    device: str,
) -> Attention:
    """An operator of an attention and its backward pass.

    Args:
        name: Of the operator.
        attend: From query, key and value, `tensors` and `numbers`: the output, and the log-sum-exp if it `has_lse`.
        attend_backward: From the gradient of the output, the projections, all that `attend` gave, `tensors` and
            `numbers`: the gradients of the three projections.
        attend_plainly: As `attend`, the output alone, by operators that PyTorch can differentiate any number of times.
            It is taken for the backward pass where that is to be differentiated again (`create_graph=True`).
        tensors: Names of what is not differentiated, and their types in the language of schemas.
        numbers: The same of what is not a tensor.
        has_lse: Whether `attend` gives a log-sum-exp, too.
        device: Where it runs.
    """
    operator, operator_backward = _register(name, attend, attend_backward, tensors | numbers, has_lse, device)
    last_saved = 3 + len(tensors)

    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        outputs = output if has_lse else (output,)
        ctx.save_for_backward(*inputs[:3], *outputs, *inputs[3:last_saved])
        ctx.numbers = inputs[last_saved:]
        ctx.set_materialize_grads(False)

    def gradients(ctx: Any, grad_output: torch.Tensor | None, run: Callable[..., Any]) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        found: tuple[torch.Tensor | None, ...] = (None, None, None)
        if grad_output is not None and torch.is_grad_enabled():
            inputs = (*saved[:3], *saved[4 + has_lse :], *ctx.numbers)
            found = _gradients_with_graph(attend_plainly, grad_output, inputs)
        elif grad_output is not None:
            found = run(grad_output, *saved, *ctx.numbers)
        return (*found, *[None] * (len(tensors) + len(numbers)))

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = attend(*inputs)
            save(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, grad_output: Any, *_: None) -> Any:
            return gradients(ctx, grad_output, attend_backward)

    operator.register_autograd(
        lambda ctx, grad_output, *_: gradients(ctx, grad_output, operator_backward), setup_context=save
    )
    return Attention(operator, Eager.apply)


def _register(
    name: str,
    attend: Callable[..., Any],
    attend_backward: Callable[..., tuple[torch.Tensor, ...]],
    others: dict[str, str],
    has_lse: bool,
    device: str,
) -> tuple[Any, Any]:
    """Both passes as operators of `torch.library`."""
    projections, outputs = (
        ["Tensor query", "Tensor key", "Tensor value"],
        ["Tensor output", "Tensor lse"][: 1 + has_lse],
    )
    arguments = [f"{kind} {argument}" for argument, kind in others.items()]
    schema = f"({', '.join([*projections, *arguments])}) -> ({', '.join(outputs)})"
    saved = ["Tensor grad_output", *projections, *outputs, *arguments]
    schema_backward = f"({', '.join(saved)}) -> (Tensor, Tensor, Tensor)"
    options: dict[str, Any] = {"mutates_args": (), "device_types": device}
    operator = torch.library.custom_op(f"{NAMESPACE}::{name}", attend, schema=schema, **options)
    operator_backward = torch.library.custom_op(
        f"{NAMESPACE}::{name}_backward", attend_backward, schema=schema_backward, **options
    )
    keep = slice(2) if has_lse else 0  # an operator gives a tuple, or a tensor
    operator.register_fake(lambda query, key, value, *_: empty_rows(query, value)[keep])
    operator_backward.register_fake(lambda _, *saved: tuple(torch.empty_like(x) for x in saved[:3]))
    return operator, operator_backward


def _gradients_with_graph(
    attend: Callable[..., torch.Tensor], grad_output: torch.Tensor, inputs: tuple[Any, ...]
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of the three projections that can be differentiated again, from the attention itself, computed anew."""
    projections = [x.view_as(x) for x in inputs[:3]]  # which may be one tensor: here they are three
    wanted = [x for x in projections if x.requires_grad]
    output = attend(*projections, *inputs[3:])
    found = iter(torch.autograd.grad(output, wanted, grad_output, create_graph=True))
    return tuple(next(found) if x.requires_grad else None for x in projections)
