# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The feed-forward of a layer, with less memory: in training the widest tensor is kept once, and in inference on a CPU
tokens are widened part by part in a workspace that all layers share. Short texts have little to save, and take the
modules as they are.

`intermediate` is a module with `dense`, `activation` and `dropout`, which may be None; `output` one with `dense`,
`dropout`, `LayerNorm`, `norm_first`, and `read`, which gives what the feed-forward reads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from transformers.activations import GELUActivation

from .operators import is_transformed
from .plain_modules import is_plain, is_untouched
from .transformers_internals import is_tracing
from .workspace import Workspace

PART = 12 * 2**20  # bytes that tokens are widened to at a time, where nothing is kept for a backward pass

SMALL = 2**16  # numbers of hidden states, up to which the modules as they are take less time; measured


def feed_forward(intermediate: Any, output: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """The feed-forward, its residual connection and layer norm: `(…, hidden_size)` to the same."""
    read = output.read(hidden_states)
    is_plain_call = not intermediate.training or is_tracing(read) or read.numel() <= SMALL
    if is_plain_call or not _can_recompute(intermediate):
        return output(intermediate(read), hidden_states)
    activate = _activation_of(intermediate, read.device)
    if activate is None:
        return output(intermediate(read), hidden_states)
    with recomputed(activate, intermediate.dense(read)) as activated:
        return output(activated, hidden_states)


def _activation_of(intermediate: Any, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The activation, and a dropout that will drop the same again; None where no dropout does that."""
    activation, dropout = intermediate.activation, intermediate.dropout
    if dropout is None:
        return activation
    drop = dropout.once(device)
    return None if drop is None else lambda wide: drop(activation(wide))


def can_go_in_parts(intermediate: Any, output: Any, hidden_states: torch.Tensor) -> bool:
    """Whether this is inference on a CPU, there is enough to save, and nothing sits on the modules."""
    if intermediate.training or torch.is_grad_enabled() or hidden_states.device.type != "cpu":
        return False
    if hidden_states.numel() <= SMALL or is_tracing(hidden_states) or is_transformed():
        return False
    if not is_plain(intermediate.dense, output.dense):
        return False
    return is_untouched(*intermediate.modules(), *output.modules())


def feed_forward_in_parts(
    intermediate: Any, output: Any, hidden_states: torch.Tensor, workspace: Workspace
) -> torch.Tensor:
    """The same as `feed_forward`, for some tokens at a time."""
    tokens, widen, narrow = hidden_states.flatten(0, 1), intermediate.dense, output.dense
    at_once = max(1, PART // (widen.out_features * tokens.element_size()))
    if _drops(intermediate, output) or torch.is_autocast_enabled("cpu"):
        parts = [feed_forward(intermediate, output, part) for part in tokens.split(at_once)]
        return torch.cat(parts).view_as(hidden_states)
    buffer = workspace.take("wide", (widen.out_features * min(len(tokens), at_once),), tokens)
    narrowed = torch.empty_like(tokens)
    for part, of_part in zip(tokens.split(at_once), narrowed.split(at_once), strict=True):
        wide = widen_into(buffer[: widen.out_features * len(part)], widen, output.read(part))
        torch.addmm(narrow.bias, activate_in_place(intermediate.activation, wide), narrow.weight.T, out=of_part)
        of_part += part
    narrowed = narrowed.view_as(hidden_states)
    return narrowed if output.norm_first else output.LayerNorm(narrowed)


def _drops(intermediate: Any, output: Any) -> bool:
    """Whether dropouts were left in training, as for an estimate of how sure a model is."""
    return any(dropout is not None and dropout.training for dropout in (intermediate.dropout, output.dropout))


def widen_into(buffer: torch.Tensor, linear: nn.Linear, tokens: torch.Tensor) -> torch.Tensor:
    """`linear(tokens)` in `buffer`. In float32 tokens stand beside each other in memory, not below: a product of few of
    them takes up to a sixth less time to write.
    """
    if tokens.dtype == torch.float32:
        wide = buffer.view(linear.out_features, len(tokens))
        return torch.addmm(linear.bias[:, None], linear.weight, tokens.T, out=wide).T
    return torch.addmm(linear.bias, tokens, linear.weight.T, out=buffer.view(len(tokens), linear.out_features))


def activate_in_place(activation: nn.Module, wide: torch.Tensor) -> torch.Tensor:
    """`activation(wide)`, in the place of `wide` if the activation is known to allow that."""
    if type(activation) is GELUActivation and activation.act is nn.functional.gelu:
        return torch.ops.aten.gelu.out(wide, out=wide)
    return activation(wide)


def _can_recompute(intermediate: Any) -> bool:
    """Whether there is a backward pass, nobody waits for the module to be called, and nobody else, such as a
    checkpoint, looks after what is kept.
    """
    hooks: Any = torch._C._autograd
    top_hooks = getattr(hooks, "_top_saved_tensors_default_hooks", None)  # from PyTorch 2.8 on
    return (
        torch.is_grad_enabled()
        and not is_transformed()
        and is_untouched(intermediate, *intermediate.activation.modules())
        and (intermediate.dropout is None or is_untouched(intermediate.dropout))
        and hooks._saved_tensors_hooks_is_enabled()
        and top_hooks is not None
        and top_hooks(True) is None
    )


@contextmanager
def recomputed(function: Callable[[torch.Tensor], torch.Tensor], tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Gives `function(tensor)`. Inside, what is kept of it for a backward pass is `tensor`, from which it is computed
    again when that comes. Autograd says only which memory it keeps, so the result is known by its address.
    """
    result, origin = function(tensor), tensor.detach()
    identity = result.data_ptr(), result.numel()

    def pack(saved: torch.Tensor) -> Any:
        is_result = (saved.data_ptr(), saved.numel()) == identity
        return (saved.shape, saved.stride()) if is_result else saved

    def unpack(saved: Any) -> torch.Tensor:
        return saved if isinstance(saved, torch.Tensor) else function(origin).as_strided(*saved)

    with saved_tensors_hooks(pack, unpack):
        yield result
