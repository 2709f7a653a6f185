# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Whatever sits on a module of a model (hooks, pruning, parametrizations, adapters, offloading) does there what it does
in the definition, for every module and every path: the module is called then, not taken apart.
"""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from helpers import random_ids, randomise, tiny_config
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import hf_longformer

LENGTH = 150
ENCODER = "HfLongformerForSequenceClassification"
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "encoder": (ENCODER, {}),
    "encoder, norm first": (ENCODER, {"norm_style": "pre"}),
    "causal": ("HfLongformerForCausalLM", {"is_decoder": True, "global_attention": "cls"}),
    "causal, rotary": ("HfLongformerForCausalLM", {"is_decoder": True, "position_embedding_type": "rotary"}),
    "causal, relative": ("HfLongformerForCausalLM", {"is_decoder": True, "position_embedding_type": "relative"}),
}
BATCHES = ("plain", "padded", "no global token")


def make(name: str, **overrides: Any) -> Any:
    """The same model twice: by the fastest path, and by the definition."""
    head, options = MODELS[name]
    options = {"hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 19} | options | overrides
    model = randomise(getattr(hf_longformer, head)(tiny_config(**options))).double()
    oracle = copy.deepcopy(model)
    oracle.set_attn_implementation("eager")
    return model, oracle


def inputs_of(name: str, batch: str) -> dict[str, torch.Tensor]:
    ids, mask = random_ids(2, LENGTH), torch.ones(2, LENGTH, dtype=torch.long)
    if batch == "padded":  # enough for the padding to be left out
        mask[0, 10:] = 0
        ids[0, 10:] = 1
    inputs = {"input_ids": ids, "attention_mask": mask}
    if batch == "no global token" and "r" not in name.partition(", ")[2]:
        inputs["global_attention_mask"] = torch.zeros_like(ids)
    return inputs


def modules_of(model: nn.Module) -> list[str]:
    kinds = (nn.Linear, nn.Embedding, nn.LayerNorm, nn.Dropout)
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    layer = "longformer.encoder.layer.0"
    return names + [f"{layer}.{name}" for name in ("intermediate", "output", "attention.output", "attention.self")]


def run(model: nn.Module, inputs: dict[str, torch.Tensor], train: bool) -> list[torch.Tensor]:
    """Logits, and in training the gradients of all parameters."""
    model.train(train).zero_grad()
    with torch.set_grad_enabled(train):
        logits = model(**inputs).logits
    if not train:
        return [logits]
    weights = torch.sin(torch.arange(logits.numel(), dtype=logits.dtype)).view_as(logits)
    (logits * weights).sum().backward()
    grads = [p.grad for p in model.parameters()]
    return [logits.detach(), *(torch.zeros(()) if grad is None else grad for grad in grads)]


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        if one.shape != other.shape:  # no gradient, and one of zero
            one, other = one.abs().max(), other.abs().max()
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


class Seen:
    """Hooks that say what they met, and change it in places that only the definition's layout has."""

    def __init__(self, model: nn.Module, names: list[str], change: bool) -> None:
        self.calls: dict[str, list[Any]] = {}
        for name in names:
            model.get_submodule(name).register_forward_hook(partial(self.note, name, change))

    def note(self, name: str, change: bool, module: nn.Module, inputs: Any, output: Any) -> Any:
        tensor = output if isinstance(output, torch.Tensor) else output[0]
        self.calls.setdefault(name, []).append(tuple(tensor.shape))
        if not change or not isinstance(output, torch.Tensor) or output.dim() != 3:
            return None
        factor = 1.0 + 0.1 * torch.arange(output.shape[1], dtype=output.dtype)[:, None] / LENGTH
        return output * factor + 0.1


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", MODELS)
def test_hooks_are_called_as_in_the_definition(name: str, batch: str, train: bool):
    model, oracle = make(name)
    inputs, names = inputs_of(name, batch), modules_of(model)
    seen, expected = (Seen(each, names, change=True) for each in (model, oracle))
    assert_same(run(model, inputs, train), run(oracle, inputs, train))
    assert seen.calls == expected.calls
    assert set(seen.calls) == set(names)


@pytest.mark.parametrize("batch", ["plain", "padded"])
@pytest.mark.parametrize("name", ["encoder", "causal"])
def test_a_hook_on_any_one_module(name: str, batch: str):
    for of_module in modules_of(make(name)[0]):
        model, oracle = make(name)
        for each in (model, oracle):
            Seen(each, [of_module], change=True)
        assert_same(run(model, inputs_of(name, batch), False), run(oracle, inputs_of(name, batch), False))


def test_hooks_of_all_modules():
    model, oracle = make("encoder")
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: output + 0.1 if isinstance(module, nn.Linear | nn.Embedding) else None
    )
    try:
        assert_same(
            run(model, inputs_of("encoder", "padded"), False), run(oracle, inputs_of("encoder", "padded"), False)
        )
    finally:
        hook.remove()


@pytest.mark.parametrize("kind", [nn.Linear, nn.Embedding, nn.LayerNorm], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("batch", BATCHES)
def test_a_class_of_modules_whose_forward_was_replaced(kind: type, batch: str, monkeypatch: pytest.MonkeyPatch):
    model, oracle = make("encoder")
    before = kind.forward
    monkeypatch.setattr(kind, "forward", lambda module, hidden: before(module, hidden) * 1.2)
    assert_same(run(model, inputs_of("encoder", batch), False), run(oracle, inputs_of("encoder", batch), False))


class Adapted(nn.Module):
    """LoRA: a low-rank product beside a frozen layer, which stands in its place."""

    def __init__(self, base: nn.Linear | nn.Embedding) -> None:
        super().__init__()
        rows, columns = base.weight.shape
        generator = torch.Generator().manual_seed(rows)
        self.base, self.is_linear = base, isinstance(base, nn.Linear)
        self.up = nn.Parameter(torch.randn(rows, 2, generator=generator, dtype=base.weight.dtype))
        self.down = nn.Parameter(torch.randn(2, columns, generator=generator, dtype=base.weight.dtype))
        base.requires_grad_(False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.is_linear:
            return self.base(inputs) + inputs @ self.down.T @ self.up.T
        return self.base(inputs) + self.up[inputs] @ self.down


def adapt(parent: nn.Module, name: str) -> None:
    setattr(parent, name, Adapted(getattr(parent, name)))


def adapt_as_subclass(parent: nn.Module, name: str) -> None:
    """As PEFT and quantisation do it at times: another class, the same attributes."""
    module = getattr(parent, name)

    class Doubled(type(module)):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return 2.0 * super().forward(inputs)

    module.__class__ = Doubled


def replace_forward(parent: nn.Module, name: str) -> None:
    module = getattr(parent, name)
    kept = module.forward
    module.forward = lambda inputs: 1.5 * kept(inputs)


class Scaled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 1.3 * weight


def apply_parametrization(parent: nn.Module, name: str) -> None:
    parametrize.register_parametrization(getattr(parent, name), "weight", Scaled())


def apply_weight_norm(parent: nn.Module, name: str) -> None:
    parametrizations.weight_norm(getattr(parent, name))
    with torch.no_grad():
        getattr(parent, name).parametrizations.weight.original0.mul_(1.3)


def apply_pruning(parent: nn.Module, name: str) -> None:
    prune.l1_unstructured(getattr(parent, name), "weight", 0.5)
    with torch.no_grad():  # as after loading: the weight itself is stale
        getattr(parent, name).weight_orig.mul_(1.7)


CHANGES = [adapt, adapt_as_subclass, replace_forward, apply_parametrization, apply_weight_norm, apply_pruning]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", ["encoder", "causal", "causal, relative"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_replaces_weights(change: Callable[[nn.Module, str], None], name: str, batch: str):
    """On every linear layer and embedding that is not tied, in inference and in two steps of training."""
    model, oracle = make(name, tie_word_embeddings=False)
    before = run(model, inputs_of(name, batch), False)
    for each in (model, oracle):
        places = [
            place
            for place, module in each.named_modules()
            if isinstance(module, nn.Linear | nn.Embedding) and not place.endswith(("decoder", "word_embeddings"))
        ]
        for place in places:
            parent, _, child = place.rpartition(".")
            change(each.get_submodule(parent), child)
    inputs = inputs_of(name, batch)
    found = run(model, inputs, False)
    assert_same(found, run(oracle, inputs, False))
    assert not torch.allclose(found[0], before[0])
    for _ in range(2):
        assert_same(run(model, inputs, True), run(oracle, inputs, True))
        for each in (model, oracle):
            torch.optim.SGD(each.parameters(), lr=1e-3).step()


@pytest.mark.parametrize("to_disk", [False, True])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", MODELS)
def test_offloaded_models(name: str, batch: str, to_disk: bool, tmp_path: Path):
    model, oracle = make(name)
    inputs = inputs_of(name, batch)
    if to_disk:
        accelerate.disk_offload(model, str(tmp_path), execution_device=torch.device("cpu"))
    else:
        accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    assert all(p.is_meta for p in model.parameters())
    assert_same(run(model, inputs, False), run(oracle, inputs, False))
