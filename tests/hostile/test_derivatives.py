# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Second derivatives, and the transforms of `torch.func`: of operators and of models, as the definition has them."""

from typing import Any

import pytest
import torch
from helpers import Case, random_ids, random_projections, randomise, tiny_config, token_roles
from torch.func import functional_call, grad, jacrev, jvp, vmap

import hf_longformer
from hf_longformer import longformer_attention
from hf_longformer.attention_cpu import local_rows as local_rows_on_cpu
from hf_longformer.dropout_cpu import Dropout
from hf_longformer.operators import is_transformed
from hf_longformer.transformers_internals import CHECKPOINTING

CASES = [
    Case(16, 8),
    Case(16, 8, globals_="one", padding="right"),
    Case(65, 4, (1, 2, 3), globals_="ragged", padding="left"),
    Case(300, 32, globals_="ragged", padding="interior"),
    Case(300, 512, globals_="one", padding="row"),
    Case(300, 16, 2, True, globals_="ragged", padding="right"),
    Case(150, 16, 1, True),
]


def second(attend: Any, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients of the square of gradients, which needs both derivatives."""
    leaves = [x.clone().requires_grad_() for x in tensors]
    first = torch.autograd.grad(attend(*leaves).sin().sum(), leaves, create_graph=True, materialize_grads=True)
    return list(torch.autograd.grad(sum((x**2).sum() for x in first), leaves, materialize_grads=True))


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def attend(case: Case, *projections: torch.Tensor, **options: Any) -> torch.Tensor:
    is_global, real = case.masks()
    names = ("query_global", "key_global", "value_global")
    if is_global is not None and real is not None:
        is_global = is_global & real
    return longformer_attention(
        *projections[:3],
        **dict(zip(names, projections[3:], strict=True)),
        attention_window=case.window,
        attention_dilation=case.dilation,
        is_causal=case.is_causal,
        attention_mask=real,
        global_attention_mask=is_global,
        **options,
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_longformer_attention_twice(case: Case):
    tensors = random_projections(case)[:6]
    found = second(lambda *x: attend(case, *x), tensors)
    assert_close(found, second(lambda *x: attend(case, *x, attn_implementation="eager"), tensors))


def test_longformer_attention_of_one_tensor_thrice():
    tensor = random_projections(Case(70, 8))[:1]
    found = second(lambda x: longformer_attention(x, x, x, attention_window=8), tensor)
    eager = {"attention_window": 8, "attn_implementation": "eager"}
    assert_close(found, second(lambda x: longformer_attention(x, x, x, **eager), tensor))


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_longformer_attention_with_a_frozen_projection(frozen: int):
    tensors = random_projections(Case(70, 8))[:3]
    kept = tensors.pop(frozen)

    def run(*leaves: torch.Tensor, **options: Any) -> torch.Tensor:
        given = [*leaves[:frozen], kept, *leaves[frozen:]]
        return longformer_attention(*given, attention_window=8, **options)

    assert_close(second(run, tensors), second(lambda *x: run(*x, attn_implementation="eager"), tensors))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_longformer_attention_twice_with_dropout(case: Case):
    """What was dropped stays dropped: gradients of gradients are those of differences."""
    tensors = random_projections(case)[:3]
    roles, leaves = token_roles(case), [x.clone().requires_grad_() for x in tensors]

    def first(*leaves: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(3)
        output = local_rows_on_cpu(*leaves, pattern=case.pattern, roles=roles, dropout=0.3)
        return list(torch.autograd.grad(output.sin().sum(), leaves, create_graph=True))

    def without_graph(*leaves: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(3)
        output = local_rows_on_cpu(*leaves, pattern=case.pattern, roles=roles, dropout=0.3)
        return list(torch.autograd.grad(output.sin().sum(), leaves))

    assert_close(first(*leaves), without_graph(*leaves))
    direction = [torch.randn_like(x) for x in tensors]
    total = sum((x**2).sum() for x in first(*leaves))
    slope = sum((x * y).sum() for x, y in zip(torch.autograd.grad(total, leaves), direction, strict=True))
    step, sides = 1e-6, []
    for sign in (1.0, -1.0):
        moved = [(x + sign * step * y).requires_grad_() for x, y in zip(tensors, direction, strict=True)]
        sides.append(sum((x**2).sum() for x in without_graph(*moved)).item())
    difference = (sides[0] - sides[1]) / (2 * step)
    assert slope.item() == pytest.approx(difference, rel=1e-5, abs=1e-4)


def test_dropout_twice():
    drop, tensor = Dropout(0.4).train(), torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad((drop(tensor) ** 3).sum(), tensor, create_graph=True)
    (again,) = torch.autograd.grad(first.sum(), tensor)
    torch.testing.assert_close(again, torch.where(first != 0, 2 * first.detach() / tensor.detach(), 0.0))


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "encoder": ("HfLongformerForSequenceClassification", {}),
    "many global tokens": ("HfLongformerForSequenceClassification", {}),
    "causal": ("HfLongformerForCausalLM", {"is_decoder": True, "global_attention": "cls"}),
    "rotary": ("HfLongformerForCausalLM", {"is_decoder": True, "position_embedding_type": "rotary"}),
    "relative": ("HfLongformerForCausalLM", {"is_decoder": True, "position_embedding_type": "relative"}),
}


def make(kind: str, length: int) -> tuple[Any, dict[str, torch.Tensor]]:
    head, options = KINDS[kind]
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 13, "max_position_embeddings": 302}
    model = randomise(getattr(hf_longformer, head)(tiny_config(**(sizes | options)))).double().train()
    mask = torch.ones(2, length, dtype=torch.long)
    mask[0, length // 4 :] = 0
    inputs = {"attention_mask": mask, "input_ids": random_ids(2, length).masked_fill(mask == 0, 1)}
    if kind == "many global tokens":
        inputs["global_attention_mask"] = torch.zeros_like(mask).index_fill(1, torch.arange(4), 1)
    return model, inputs


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("length", [16, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_models_twice(kind: str, length: int, checkpointing: bool):
    """A gradient penalty on embeddings reaches every parameter as in the definition."""
    model, inputs = make(kind, length)
    if checkpointing:
        getattr(model, f"{CHECKPOINTING}_enable")({"use_reentrant": False})
    ids = inputs.pop("input_ids")
    found = []
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        embeddings = model.get_input_embeddings()(ids)
        options = {"use_cache": False} if model.config.is_decoder else {}
        logits = model(inputs_embeds=embeddings, **inputs, **options).logits
        (first,) = torch.autograd.grad(logits.sin().sum(), embeddings, create_graph=True)
        parameters = list(model.parameters())
        found.append(list(torch.autograd.grad((first**2).sum(), parameters, materialize_grads=True)))
    assert any(x.abs().max() > 1e-6 for x in found[0])
    assert_close(*found)


@pytest.mark.parametrize("kind", KINDS)
def test_models_backward_twice(kind: str):
    """With `retain_graph`, gradients add up; without it PyTorch refuses, as for other models."""
    model, inputs = make(kind, 80)
    loss = model(**inputs).logits.sin().sum()
    loss.backward(retain_graph=True)
    once = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    loss.backward()
    for parameter, grad_once in zip(model.parameters(), once, strict=True):
        if grad_once is not None:
            torch.testing.assert_close(parameter.grad, 2 * grad_once)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_models_under_transforms_of_parameters(kind: str, train: bool):
    """`grad`, `jvp` and `vmap` over parameters."""
    model, inputs = make(kind, 80)
    model.train(train)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    tangents = {name: torch.sin(torch.arange(p.numel()).double()).view_as(p) for name, p in parameters.items()}
    stacked = {name: torch.stack([p, p + 0.1 * tangents[name]]) for name, p in parameters.items()}

    def run(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        options = {"use_cache": False} if model.config.is_decoder else {}
        return functional_call(model, parameters, kwargs=inputs | options, tie_weights=True).logits

    def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return run(parameters).sin().sum()

    found = []
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        of_jvp = jvp(run, (parameters,), (tangents,))
        found.append([*grad(loss)(parameters).values(), *of_jvp, vmap(run)(stacked)])
    assert_close(*found)
    assert not is_transformed()


def test_models_under_jacrev():
    model, inputs = make("encoder", 80)
    ids, found = inputs.pop("input_ids"), []
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        embeddings = model.get_input_embeddings()(ids).detach()
        found.append([jacrev(lambda x: model(inputs_embeds=x, **inputs).logits)(embeddings)])
    assert_close(*found)


@pytest.mark.parametrize("has_masks", [False, True])
@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_gradients_of_every_text(kind: str, has_masks: bool):
    """`vmap` over texts with padding and global tokens of their own: what one text after the other gives."""
    model, _ = make(kind, 80)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    ids, mask, is_global = random_ids(3, 80), torch.ones(3, 80, dtype=torch.long), torch.zeros(3, 80, dtype=torch.long)
    if has_masks:
        mask[1, 70:], mask[2, :5], ids[1, 70:], ids[2, :5] = 0, 0, 1, 1
        is_global[0, :3], is_global[2, 6] = 1, 1

    def loss(parameters: dict[str, torch.Tensor], *given: torch.Tensor) -> torch.Tensor:
        names = ("input_ids", "attention_mask", "global_attention_mask")
        inputs = {name: tensor[None] for name, tensor in zip(names, given, strict=False)}
        logits = functional_call(model, parameters, kwargs=inputs).logits
        return (logits.sin() * (inputs["attention_mask"][..., None] if logits.dim() == 3 else 1)).sum()

    given = (ids, mask, is_global) if has_masks else (ids, mask)
    found = vmap(grad(loss), in_dims=(None, *[0] * len(given)))(parameters, *given)
    model.set_attn_implementation("eager")
    for text in range(3):
        expected = grad(loss)(parameters, *(x[text] for x in given))
        assert_close([x[text] for x in found.values()], list(expected.values()))
