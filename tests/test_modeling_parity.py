# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""With the same weights our models and stock Longformer are the same function: outputs and gradients of every head."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from helpers import SIZES, randomise, tiny_config
from torch import nn
from transformers import LongformerConfig

import hf_longformer

HEADS = (
    "Model",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForQuestionAnswering",
    "ForTokenClassification",
    "ForMultipleChoice",
)
# Where the first token is padding, stock classifies by it and ours by the first real one.
BY_TOKEN = ("ForMaskedLM", "ForQuestionAnswering", "ForTokenClassification")
# Shorter and longer than both windows, a multiple of them and not; with padding on every side.
INPUTS: dict[str, dict[str, Any]] = {
    "automatic global attention": {"length": 37},
    "automatic and padded": {"length": 37, "padded": slice(30, None)},
    "no global token": {"length": 43, "marked": ([], [])},
    "ragged": {"length": 50, "padded": slice(40, None), "marked": ([0], [3, 4, 5, 6])},
    "left": {"length": 50, "padded": slice(0, 13), "marked": ([14, 49], [0])},
    "interior": {"length": 48, "padded": slice(20, 24), "marked": ([0, 19], [])},
    "one row without": {"length": 48, "marked": ([], [11])},
    "short": {"length": 3, "marked": ([0], [0])},
}
CASES = [(head, kind) for head in HEADS for kind in INPUTS if kind != "left" or head in BY_TOKEN]


def make_pair(head: str, implementation: str, dtype: torch.dtype, **fields: Any) -> tuple[nn.Module, nn.Module]:
    """A stock model and ours with its weights."""
    fields = SIZES | {"attention_window": [4, 8]} | fields
    stock = randomise(getattr(transformers, f"Longformer{head}")(LongformerConfig(**fields))).to(dtype)
    config = tiny_config(**fields, attn_implementation=implementation)
    ours = getattr(hf_longformer, f"HfLongformer{head}")(config).to(dtype).eval()
    ours.load_state_dict(stock.state_dict(), strict=True)
    return stock, ours


def make_inputs(head: str, kind: str) -> dict[str, torch.Tensor]:
    facts = {"padded": None, "marked": None} | INPUTS[kind]
    length = facts["length"]
    shape = (2, length) if head != "ForMultipleChoice" else (2, 2, length)
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(3, 99, shape, generator=generator)
    mask = torch.ones_like(ids)
    if facts["padded"] is not None:
        mask[0, ..., facts["padded"]] = 0
        ids[0, ..., facts["padded"]] = 1
    if facts["marked"] is None:
        ids[..., 0] = 0
        for position in (8, 9, 29):
            ids[..., position] = 2  # stock's question answering wants exactly three separators
    inputs = {"input_ids": ids, "attention_mask": mask}
    inputs["token_type_ids"] = torch.randint(0, 2, shape, generator=generator)
    if facts["marked"] is not None:
        marked = torch.zeros_like(ids)
        for row, positions in enumerate(facts["marked"]):
            marked[row, ..., positions] = 1
        inputs["global_attention_mask"] = marked
    return inputs


def answer(outputs: Any) -> dict[str, torch.Tensor]:
    names = ("logits", "start_logits", "end_logits", "last_hidden_state", "pooler_output")
    return {name: outputs[name] for name in names if outputs.get(name) is not None}


def gradients(model: nn.Module, outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    model.zero_grad()
    sum((torch.randn(o.shape, generator=generator).to(o.dtype) * o).sum() for o in outputs.values()).backward()
    parameters = model.named_parameters()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in parameters}


def assert_same(ours: dict[str, torch.Tensor], stock: dict[str, torch.Tensor], tolerance: float) -> None:
    """Within `tolerance` of the largest entry of all tensors of this kind, or of 1 if that is smaller."""
    assert ours.keys() == stock.keys()
    scale = max(1.0, *(tensor.abs().max().item() for tensor in stock.values()))
    for name, expected in stock.items():
        assert ours[name].shape == expected.shape, name
        error = (ours[name] - expected).abs().max().item()
        assert error <= tolerance * scale, f"{name}: {error:.2e} of {scale:.2e}"


def used_columns(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """`(batch, 1, 1, G)`: which columns of `global_attentions` stand for a token. Stock fills the others, and the rows
    of its internal padding, with the average over everything.
    """
    marked = inputs.get("global_attention_mask")
    if marked is None:
        marked = model.default_global_attention_mask(
            inputs["input_ids"].flatten(0, -2), inputs["attention_mask"].flatten(0, -2), None
        )
    count = marked.flatten(0, -2).sum(dim=1)
    return (torch.arange(int(count.max())) < count[:, None])[:, None, None]


def compare(stock: nn.Module, ours: nn.Module, inputs: dict[str, torch.Tensor], tolerance: float) -> None:
    extras = {"output_hidden_states": True, "output_attentions": True}
    expected, result, plain = stock(**inputs, **extras), ours(**inputs, **extras), ours(**inputs)
    assert_same(answer(result), answer(expected), tolerance)
    assert_same(answer(plain), answer(expected), tolerance)
    assert len(result.hidden_states) == len(expected.hidden_states) == 3
    assert len(result.attentions) == len(expected.attentions) == 2
    for name in ("hidden_states", "attentions"):
        assert_same(dict(enumerate(result[name])), dict(enumerate(expected[name])), tolerance)
    if expected.global_attentions is None:
        assert result.global_attentions is None
    else:
        used, length = used_columns(ours, inputs), inputs["input_ids"].shape[-1]
        weights = {
            layer: weights[:, :, :length].where(used, 0.0) for layer, weights in enumerate(expected.global_attentions)
        }
        assert_same(dict(enumerate(result.global_attentions)), weights, tolerance)
    of_stock = gradients(stock, answer(expected))
    assert_same(gradients(ours, answer(plain)), of_stock, tolerance)
    assert_same(gradients(ours, answer(result)), of_stock, tolerance)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize(("head", "kind"), CASES)
def test_parity_in_float32(head: str, kind: str, implementation: str):
    compare(*make_pair(head, implementation, torch.float32), make_inputs(head, kind), 1e-5)


@pytest.mark.usefixtures("softmax_in_its_own_dtype")
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize(("head", "kind"), CASES)
def test_parity_in_float64(head: str, kind: str, implementation: str):
    compare(*make_pair(head, implementation, torch.float64), make_inputs(head, kind), 1e-10)


@pytest.mark.usefixtures("softmax_in_its_own_dtype")
@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_act": "gelu_new"},
        {"layer_norm_eps": 1e-3},
        {"pad_token_id": 0},
        {"type_vocab_size": 3},
        {"num_attention_heads": 6},
        {"num_hidden_layers": 1, "attention_window": 64},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_parity_with_other_configs(fields: dict[str, Any]):
    pad_token_id = fields.get("pad_token_id", 1)
    inputs = make_inputs("Model", "ragged")
    inputs["input_ids"][inputs["attention_mask"] == 0] = pad_token_id
    stock, ours = make_pair("Model", "sdpa", torch.float64, **fields)
    assert_same(answer(ours(**inputs)), answer(stock(**inputs)), 1e-10)


@pytest.mark.usefixtures("softmax_in_its_own_dtype")
def test_parity_of_given_position_ids():
    inputs = make_inputs("Model", "ragged")
    inputs["position_ids"] = torch.randint(0, 200, inputs["input_ids"].shape)
    stock, ours = make_pair("Model", "sdpa", torch.float64)
    assert_same(answer(ours(**inputs)), answer(stock(**inputs)), 1e-10)


@pytest.mark.usefixtures("softmax_in_its_own_dtype")
def test_parity_of_embeddings_and_defaults():
    """Without any mask or ids but the embeddings."""
    embeddings = torch.randn(2, 29, 24, dtype=torch.float64)
    stock, ours = make_pair("Model", "sdpa", torch.float64)
    assert_same(answer(ours(inputs_embeds=embeddings)), answer(stock(inputs_embeds=embeddings)), 1e-10)


def labelled(head: str) -> dict[str, dict[str, Any]]:
    """Per problem the fields of the config and the labels."""
    tokens = torch.randint(0, 3, (2, 50), generator=torch.Generator().manual_seed(3))
    tokens[0, 40:] = -100
    return {
        "ForMaskedLM": {"tokens": ({}, {"labels": tokens})},
        "ForTokenClassification": {"tokens": ({"num_labels": 3}, {"labels": tokens})},
        "ForMultipleChoice": {"choices": ({}, {"labels": torch.tensor([1, 0])})},
        "ForQuestionAnswering": {
            "answers": ({}, {"start_positions": torch.tensor([3, 7]), "end_positions": torch.tensor([5, 7])}),
            "outside": ({}, {"start_positions": torch.tensor([3, 90]), "end_positions": torch.tensor([5, 99])}),
        },
        "ForSequenceClassification": {
            "single label": ({"num_labels": 3}, {"labels": torch.tensor([2, 0])}),
            "multi label": ({"num_labels": 3}, {"labels": torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])}),
            "regression": ({"num_labels": 1}, {"labels": torch.tensor([0.3, -2.0])}),
            "regression in 3": (
                {"num_labels": 3, "problem_type": "regression"},
                {"labels": torch.tensor([[0.3, -2.0, 1.0], [0.5, 0.25, 4.0]])},
            ),
        },
    }[head]


PROBLEMS = [(head, problem) for head in HEADS[1:] for problem in labelled(head)]


@pytest.mark.parametrize(("head", "problem"), PROBLEMS)
def test_parity_of_losses(head: str, problem: str):
    fields, labels = labelled(head)[problem]
    stock, ours = make_pair(head, "sdpa", torch.float32, **fields)
    inputs = make_inputs(head, "ragged") | labels
    if head == "ForQuestionAnswering":
        inputs["input_ids"][inputs["attention_mask"] == 0] = 30  # stock counts positions by ids, we by the mask
        inputs["attention_mask"][:] = 1  # stock's loss counts padding among the candidates
    expected, result = stock(**inputs), ours(**inputs)
    assert expected.loss.item() > 0
    torch.testing.assert_close(result.loss, expected.loss, rtol=1e-5, atol=1e-6)
    result.loss.backward()
    expected.loss.backward()
    for (name, parameter), twin in zip(ours.named_parameters(), stock.parameters(), strict=True):
        if twin.grad is not None:
            torch.testing.assert_close(
                parameter.grad, twin.grad, rtol=1e-4, atol=1e-5, msg=lambda t, n=name: f"{n} {t}"
            )


def test_the_patch_of_the_softmax_is_what_makes_stock_exact(request: pytest.FixtureRequest):
    """If stock ever takes its softmax in float64 by itself, the fixture may go."""
    stock, ours = make_pair("Model", "eager", torch.float64)
    inputs = make_inputs("Model", "ragged")

    def difference(run: Callable) -> float:
        return (run(**inputs).last_hidden_state - ours(**inputs).last_hidden_state).abs().max().item()

    assert difference(stock) > 1e-9
    request.getfixturevalue("softmax_in_its_own_dtype")
    assert difference(stock) < 1e-12
