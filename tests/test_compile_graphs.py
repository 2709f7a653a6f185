# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What CUDA graphs (`torch.compile(model, mode="reduce-overhead")`) ask of a program: one graph for all batches of a
shape, whatever is padded; nothing in it that the host reads; and nothing that stands on another device.

Models stand on PyTorch's device without memory, as they would on a GPU: what is made on the CPU all the same shows, and
kernels are operators of the graph.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers import random_ids, tiny_config
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters
from torch._functorch.aot_autograd import make_boxed_func

from hf_longformer import (
    HfLongformerForMaskedLM,
    HfLongformerForSequenceClassification,
    HfLongformerModel,
    attention_roles,
    attention_triton,
    dispatch,
    longformer_attention,
)

READS = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "unique")
CLS = {"global_attention": "cls"}


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """Where the backend below puts graphs."""
    pytest.importorskip("triton")
    monkeypatch.setattr(attention_triton, "DEVICES", ("meta",))
    monkeypatch.setattr(dispatch, "why_not_proven", lambda *_: None)
    return []


def collecting(graphs: list[torch.fx.GraphModule]) -> Any:
    def keep(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return make_boxed_func(graph.forward)

    return aot_autograd(fw_compiler=keep, bw_compiler=keep)


def operators_of(graph: torch.fx.GraphModule) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


def assert_fit_for_cuda_graphs(graph: torch.fx.GraphModule) -> None:
    """Sizes are numbers, all tensors are on the device, and nothing is read."""
    assert not [name for name in operators_of(graph) if any(word in name.split(".") for word in READS)]
    for node in graph.graph.nodes:
        values = node.meta.get("val")
        for value in values if isinstance(values, (tuple, list)) else [values]:
            assert not isinstance(value, torch.SymInt), node
            if isinstance(value, torch.Tensor):
                assert value.device.type == "meta", f"{node} is on {value.device}"
                assert all(isinstance(size, int) for size in value.shape), node


def on_device(model_class: type, **options: Any) -> torch.nn.Module:
    return model_class(tiny_config(num_hidden_layers=2, **CLS, **options)).to("meta", torch.bfloat16)


MODELS = {
    "model": (HfLongformerModel, {}),
    "masked_lm": (HfLongformerForMaskedLM, {}),
    "classification": (HfLongformerForSequenceClassification, {"attention_dilation": [[1, 1, 2], [1, 1, 1]]}),
}


@pytest.mark.parametrize("has_mask", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("name", MODELS)
def test_inference_is_one_graph(name: str, has_mask: bool, graphs: list[torch.fx.GraphModule]) -> None:
    model_class, options = MODELS[name]
    compiled = torch.compile(on_device(model_class, **options).eval(), backend=collecting(graphs), fullgraph=True)
    for _ in range(3):  # masks hold something else in every call, which nobody sees
        inputs = {"input_ids": torch.zeros(2, 150, dtype=torch.long, device="meta")}
        if has_mask:
            inputs["attention_mask"] = torch.zeros(2, 150, dtype=torch.long, device="meta")
        with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
            compiled(**inputs)
    assert len(graphs) == 1
    assert_fit_for_cuda_graphs(graphs[0])
    assert sum("local_rows_on_gpu" in operator for operator in operators_of(graphs[0])) == 2
    assert not counters["graph_break"]


@pytest.mark.parametrize("has_mask", [False, True], ids=["whole", "padded"])
def test_a_training_step_is_two_graphs(has_mask: bool, graphs: list[torch.fx.GraphModule]) -> None:
    """Forward and backward, with dropout everywhere."""
    options = {"attention_probs_dropout_prob": 0.1, "hidden_dropout_prob": 0.1}
    compiled = torch.compile(on_device(HfLongformerForMaskedLM, **options), backend=collecting(graphs), fullgraph=True)
    for _ in range(3):
        inputs = {"input_ids": torch.zeros(2, 150, dtype=torch.long, device="meta")}
        if has_mask:
            inputs["attention_mask"] = torch.zeros(2, 150, dtype=torch.long, device="meta")
        with torch._dynamo.config.patch(error_on_recompile=True):
            compiled(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert len(graphs) == 2
    for graph in graphs:
        assert_fit_for_cuda_graphs(graph)
        assert sum("local_rows_on_gpu" in operator for operator in operators_of(graph)) == 2
    assert not counters["graph_break"]


def test_the_operator_with_a_promised_number_is_two_graphs(graphs: list[torch.fx.GraphModule]) -> None:
    """And with roles. What a mask marks is otherwise counted in the graph, which shows here."""
    settings: dict[str, Any] = {"attention_window": 16, "dropout": 0.1}
    marked = torch.zeros(2, 150, dtype=torch.bool, device="meta")
    roles = attention_roles(marked, marked, num_global_tokens=1)
    for told in ({"global_attention_mask": marked, "num_global_tokens": 1}, {"roles": roles}):
        graphs.clear()
        compiled = torch.compile(longformer_attention, backend=collecting(graphs), fullgraph=True)
        for _ in range(2):
            leaves = [torch.empty(2, 3, 150, 16, device="meta", requires_grad=True) for _ in range(3)]
            with torch._dynamo.config.patch(error_on_recompile=True):
                compiled(*leaves, **settings, **told).sum().backward()
        assert len(graphs) == 2
        for graph in graphs:
            assert_fit_for_cuda_graphs(graph)
        torch.compiler.reset()
    compiled = torch.compile(longformer_attention, backend=collecting(graphs), fullgraph=True)
    with pytest.raises(RuntimeError, match="item"):
        compiled(*(x.detach() for x in leaves), **settings, global_attention_mask=marked)
    with pytest.raises(AssertionError):
        assert_fit_for_cuda_graphs(graphs[-1])


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("is_training", [False, True], ids=["inference", "training"])
def test_padding_is_no_part_of_the_program(is_training: bool, backend: str) -> None:
    """With numbers: one program gives what the model gives for every padding of a shape."""
    torch.manual_seed(0)
    model = HfLongformerForMaskedLM(tiny_config(**CLS)).double().train(is_training)
    compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=False)
    for number, padded in enumerate((10, 70, 1, 0)):
        ids = random_ids(2, 100)
        mask = torch.ones_like(ids)
        mask[0, 100 - padded :] = 0
        mask[1, : padded // 2] = 0
        results = []
        for run in (compiled, model):
            model.zero_grad()
            with torch._dynamo.config.patch(error_on_recompile=number > 0), torch.set_grad_enabled(is_training):
                logits = run(input_ids=ids, attention_mask=mask).logits[mask.bool()]
            if is_training:
                logits.square().mean().backward()
            results.append([logits.detach(), *(x.grad.clone() for x in model.parameters() if x.grad is not None)])
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
