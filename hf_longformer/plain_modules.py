# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""When a module may be taken apart instead of called. Adapters, hooks, pruning, parametrizations, quantisation and
offloading all sit on modules: whatever has something on it is called, and only the others give their weights away.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as of_all_modules

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
GLOBAL_HOOKS = tuple(f"_global{name}" for name in HOOKS)
# Whose hooks change weights, their place or gradients, and do not ask in which rows tokens stand.
INDIFFERENT = {"accelerate", "torch", "transformers"}
FORWARDS: dict[type[nn.Module], Any] = {
    kind: kind.forward for kind in (nn.Linear, nn.Embedding)
}  # before anybody puts another in their place


def is_untouched(*modules: nn.Module) -> bool:
    """Whether to call these modules is nothing but to run the `forward` of their classes: no hook, and none for all
    modules, and no `forward` of their own, as offloading gives them.
    """
    for module in modules:
        if "forward" in module.__dict__ or module._forward_hooks or module._forward_pre_hooks:
            return False
        if module._backward_hooks or module._backward_pre_hooks:
            return False
    return not _has_global_hooks()


def is_plain(*modules: nn.Module) -> bool:
    """Whether the weights of these linear layers and embeddings may be used without them: what they compute is what
    PyTorch's own do, nothing waits to be called, and weights are where they seem to be.
    """
    return all(map(_has_plain_weights, modules)) and is_untouched(*modules)


def _has_plain_weights(module: nn.Module) -> bool:
    if FORWARDS.get(type(module)) is not type(module).forward:
        return False
    if type(module) is nn.Linear:
        weight, shape = module.weight, (module.out_features, module.in_features)
        return _is_plain_tensor(weight) and _is_plain_tensor(module.bias) and weight.shape == shape
    if type(module) is not nn.Embedding or module.max_norm or module.sparse or module.scale_grad_by_freq:
        return False
    return _is_plain_tensor(module.weight) and module.weight.shape == (module.num_embeddings, module.embedding_dim)


def _is_plain_tensor(tensor: torch.Tensor | None) -> bool:
    return type(tensor) in (nn.Parameter, torch.Tensor) and not tensor.is_meta


def is_listened_to(modules: Iterable[nn.Module]) -> bool:
    """Whether somebody may look at, or change, what passes through these modules, and must find it as the definition
    has it: all texts, token by token, padding too.
    """
    for module in modules:
        known = module.__dict__
        if "forward" in known and not hasattr(module, "_hf_hook"):  # the latter is accelerate's
            return True
        if any(_root_of(hook) not in INDIFFERENT for name in HOOKS for hook in known.get(name, {}).values()):
            return True
    return _has_global_hooks()


def are_compiled(modules: Iterable[nn.Module]) -> bool:
    """Whether any of these modules is compiled by itself."""
    return any(module._compiled_call_impl is not None or hasattr(module, "_orig_mod") for module in modules)


def _has_global_hooks() -> bool:
    """Whether there are hooks for all modules, other than PyTorch's own, which count operations and modules."""
    if not of_all_modules._has_any_global_hook():
        return False
    hooks = (hook for name in GLOBAL_HOOKS for hook in getattr(of_all_modules, name).values())
    return any(_root_of(hook) not in INDIFFERENT for hook in hooks)


def _root_of(hook: object) -> str:
    """The package that a hook comes from: a function, a method, or an object that can be called."""
    return (getattr(hook, "__module__", None) or "").partition(".")[0]
