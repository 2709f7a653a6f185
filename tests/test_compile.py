# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`torch.compile` of whole graphs, forward and backward, at any length; `torch.export` to other lengths and batches;
the operators behind the former, by `torch.library.opcheck`.
"""

import copy
import io
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest
import torch
from helpers import Case, random_ids, random_projections, randomise, tiny_config, token_roles
from torch import nn
from torch._dynamo.utils import counters
from torch.export import Dim

from hf_longformer import (
    HfLongformerForCausalLM,
    HfLongformerForMaskedLM,
    HfLongformerForQuestionAnswering,
    HfLongformerForSequenceClassification,
    HfLongformerForTokenClassification,
    HfLongformerModel,
    dispatch,
    longformer_attention,
)
from hf_longformer.attention_cpu import _LOCAL_ROWS
from hf_longformer.attention_cpu_dropout import _LOCAL_ROWS as _LOCAL_ROWS_WITH_DROPOUT
from hf_longformer.blocks import Arguments
from hf_longformer.transformers_internals import CHECKPOINTING

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ROTARY = {"is_decoder": True, "position_embedding_type": "rotary", "use_cache": False}
MASKS = ((), ("attention_mask",), ("global_attention_mask",), ("attention_mask", "global_attention_mask"))
LENGTHS = (40, 53, 64, 9, 129, 17, 200)  # shorter and longer than a block, and whole ones


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch.compiler.reset()
    if torch.__version__ < "2.11":  # which cannot count global tokens inside a graph unless told to
        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            yield
    else:
        yield
    torch.compiler.reset()


def make_model(model_class: type, **options: Any) -> nn.Module:
    return randomise(model_class(tiny_config(num_hidden_layers=1, **options))).double()


def make_inputs(batch: int, length: int, number_global: int = 0) -> dict[str, torch.Tensor]:
    """Texts padded on the right and on the left, and one that is not; ragged global tokens if any."""
    real = torch.ones(batch, length, dtype=torch.long)
    real[0, length - length // 3 :] = 0
    if batch > 1:
        real[1, : length // 3] = 0
    inputs = {"input_ids": random_ids(batch, length).masked_fill(real == 0, 1), "attention_mask": real}
    if number_global:
        inputs["global_attention_mask"] = torch.zeros_like(real)
        inputs["global_attention_mask"][0, :number_global] = 1
        inputs["global_attention_mask"][-1, length // 2] = 1
        inputs["global_attention_mask"] *= real
    return inputs


def output_and_gradients(model: nn.Module, run: Callable[..., Any], inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The first output, of real tokens if it has any, and under their names the gradients of all parameters that have
    one.
    """
    model.zero_grad()
    torch.manual_seed(5)
    output, real = run(**inputs)[0], inputs["attention_mask"].bool()
    output = output[real] if output.shape[:2] == real.shape else output
    output.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"output": output.detach()} | gradients


def assert_same(compiled: dict[str, Any], eager: dict[str, Any]) -> None:
    assert compiled.keys() == eager.keys()
    for name, exact in eager.items():
        scale = max(1.0, exact.abs().max().item())
        torch.testing.assert_close(compiled[name], exact, rtol=0, atol=1e-12 * scale, msg=name)


def assert_compiles_once_for_all_lengths(model: nn.Module, lengths: Iterable[int], **options: Any) -> None:
    """The same as without compilation; the first length is compiled, then all lengths, then nothing any more."""
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for number, length in enumerate(lengths):
        inputs = make_inputs(2, length, **{name: max(1, length // share) for name, share in options.items()})
        with torch._dynamo.config.patch(error_on_recompile=number >= 2):
            result = output_and_gradients(model, compiled, inputs)
        assert_same(result, output_and_gradients(model, model, inputs))


def test_compile_with_a_global_first_token():
    model = make_model(HfLongformerForSequenceClassification, attention_dilation=[[1, 1, 2]])
    assert_compiles_once_for_all_lengths(model, LENGTHS)


def test_compile_with_any_number_of_global_tokens():
    """Global tokens are counted when the program runs: neither their number nor the length is part of the graph."""
    assert_compiles_once_for_all_lengths(make_model(HfLongformerForMaskedLM), LENGTHS, number_global=8)


@NEEDS_GPU
def test_compile_on_a_gpu(monkeypatch: pytest.MonkeyPatch):
    """The kernels, and not the blocked path; one padded text, of any length."""

    def blocked(*_: Any, **__: Any) -> torch.Tensor:
        raise AssertionError

    model = make_model(HfLongformerForMaskedLM, attention_dilation=[[1, 1, 2]]).float().cuda()
    compiled = torch.compile(model, fullgraph=True)
    for length in (40, 129, 200):
        inputs = {name: x.cuda() for name, x in make_inputs(2, length, number_global=3).items()}
        refused = dispatch.Implementation(blocked, lambda *_, **__: None)
        monkeypatch.setitem(dispatch.IMPLEMENTATIONS, "blocked", refused)
        result = output_and_gradients(model, compiled, inputs)
        monkeypatch.undo()
        for name, exact in output_and_gradients(model, model, inputs).items():
            scale = max(1.0, exact.abs().max().item())
            torch.testing.assert_close(result[name], exact, rtol=0, atol=1e-4 * scale, msg=name)


@NEEDS_GPU
def test_cuda_graph():
    """Captured once, right for other tokens and other padding too."""
    model = make_model(HfLongformerModel, global_attention="cls").to("cuda", torch.bfloat16).eval()
    first, second = ({name: x.cuda() for name, x in make_inputs(batch, 150).items()} for batch in (2, 3))
    second = {name: x[1:].clone() for name, x in second.items()}
    inputs = {name: x.clone() for name, x in first.items()}
    stream = torch.cuda.Stream()
    with torch.inference_mode():
        with torch.cuda.stream(stream):
            for _ in range(2):
                model(**inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = model(**inputs).last_hidden_state
        for given in (second, first):
            for name, x in inputs.items():
                x.copy_(given[name])
            graph.replay()
            real = given["attention_mask"].bool()
            expected = model(**given).last_hidden_state[real].float()
            torch.testing.assert_close(captured[real].float(), expected, rtol=0, atol=0.05)


@pytest.mark.slow
def test_compile_finds_the_question():
    model = make_model(HfLongformerForQuestionAnswering)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    inputs = make_inputs(2, 40)
    inputs["input_ids"][:, 20] = 2
    assert_same(output_and_gradients(model, compiled, inputs), output_and_gradients(model, model, inputs))


@pytest.mark.slow
def test_compile_of_a_causal_model():
    assert_compiles_once_for_all_lengths(make_model(HfLongformerForCausalLM, **ROTARY), LENGTHS)


@pytest.mark.usefixtures("nothing_is_small")  # of short texts, PyTorch draws weights in another order
def test_compile_draws_the_dropout_of_eager_and_again_in_checkpoints():
    """What is dropped follows the seed, and is the same when a checkpoint computes it again."""
    model = make_model(HfLongformerForMaskedLM, attention_probs_dropout_prob=0.3).train()
    inputs = make_inputs(2, 40, number_global=3)
    eager = output_and_gradients(model, model, inputs)
    getattr(model, f"{CHECKPOINTING}_enable")({"use_reentrant": False})
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert_same(output_and_gradients(model, compiled, inputs), eager)
    one, other = (compiled(**inputs).logits for _ in range(2))
    assert one.isfinite().all()
    assert not torch.equal(one, other)


def test_compile_takes_a_global_token_on_padding_for_padding():
    """Without compilation it is refused, which a graph cannot."""
    model = make_model(HfLongformerForMaskedLM)
    inputs = make_inputs(2, 40, number_global=3)
    wrong = inputs | {"global_attention_mask": inputs["global_attention_mask"].clone()}
    wrong["global_attention_mask"][0, -1] = 1
    with pytest.raises(ValueError, match="must be a real token"):
        model(**wrong)
    with torch.no_grad():
        logits = torch.compile(model, backend="aot_eager", fullgraph=True)(**wrong).logits
        torch.testing.assert_close(logits, model(**inputs).logits, rtol=0, atol=1e-12)


def bare_operator(
    query: torch.Tensor, real: torch.Tensor, is_global: torch.Tensor, is_causal: bool, dropout: float = 0.0
) -> torch.Tensor:
    masks = {"attention_mask": real, "global_attention_mask": is_global}
    settings: dict[str, Any] = {"attention_window": 8, "attention_dilation": (1, 1, 4), "is_causal": is_causal}
    return longformer_attention(query, query.tanh(), query.cos(), dropout=dropout, **settings, **masks)


@pytest.mark.parametrize(
    "is_causal", [pytest.param(False, marks=pytest.mark.slow, id="both"), pytest.param(True, id="causal")]
)
def test_compile_of_the_path_for_other_devices(monkeypatch: pytest.MonkeyPatch, is_causal: bool):
    """The blocked path, which devices without an operator of our own take, on this one."""
    compiled = torch.compile(bare_operator, backend="aot_eager", fullgraph=True)
    for number, length in enumerate(LENGTHS):
        inputs = make_inputs(2, length, number_global=max(1, length // 8))
        masks = inputs["attention_mask"], inputs["global_attention_mask"]
        query, weight = torch.randn(2, 2, 3, length, 4, dtype=torch.float64)
        results = []
        for run in (bare_operator, compiled):
            leaf = query.clone().requires_grad_()
            with monkeypatch.context() as patch, torch._dynamo.config.patch(error_on_recompile=number >= 2):
                if run is compiled:
                    patch.setattr(dispatch, "CHOSEN_BY_ITSELF", ("blocked",))
                output = run(leaf, *masks, is_causal)
            (output * weight).sum().backward()
            results.append((output.detach(), leaf.grad))
        torch.testing.assert_close(*results, rtol=0, atol=1e-11)


def inputs_for_inductor(batch: int, length: int, number_global: int) -> dict[str, torch.Tensor]:
    """Ragged global tokens, padding on both sides, and a row of padding alone."""
    inputs = make_inputs(batch, length, number_global)
    for mask in inputs.values():
        mask[1] = 0
    inputs["input_ids"][1] = 1
    return inputs


def test_compile_with_the_default_backend_in_inference():
    """Any number of global tokens, none too, at any length and batch, by one program."""
    model = make_model(HfLongformerForMaskedLM)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for number, (batch, length, number_global) in enumerate([(3, 40, 5), (4, 129, 1), (3, 7, 7), (2, 64, 0)]):
        inputs = inputs_for_inductor(batch, length, number_global or 1)
        if not number_global:
            inputs["global_attention_mask"].zero_()
        real = inputs["attention_mask"].bool()
        with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=number >= 1):
            logits = compiled(**inputs).logits[real]
        torch.testing.assert_close(logits, model(**inputs).logits[real], rtol=0, atol=1e-12)


def assert_trains_with_the_default_backend(model: nn.Module, **options: Any) -> None:
    """Outputs and gradients of the model itself, at two lengths by one program."""
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for number, (batch, length) in enumerate([(3, 40), (4, 129)]):
        inputs = inputs_for_inductor(batch, length, **options)
        with torch._dynamo.config.patch(error_on_recompile=number >= 1):
            result = output_and_gradients(model, compiled, inputs)
        assert_same(result, output_and_gradients(model, model, inputs))


def test_compile_with_the_default_backend_in_training():
    assert_trains_with_the_default_backend(make_model(HfLongformerForMaskedLM), number_global=5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dilated", "causal", "checkpoints"])
def test_compile_with_the_default_backend_in_training_of_other_kinds(kind: str):
    model_class: type = HfLongformerForCausalLM if kind == "causal" else HfLongformerForMaskedLM
    options: dict[str, dict[str, Any]] = {
        "dilated": {"attention_dilation": [[1, 1, 2]]},
        "causal": {"is_decoder": True, "use_cache": False},
        "checkpoints": {},
    }
    model = make_model(model_class, **options[kind]).train()
    if kind == "checkpoints":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_trains_with_the_default_backend(model, number_global=5)


@pytest.mark.slow
@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
def test_compile_with_the_default_backend_and_dropout(attn_implementation: str):
    """Finite, and a function of the seed."""
    options = {"attention_probs_dropout_prob": 0.3, "hidden_dropout_prob": 0.2}
    model = make_model(HfLongformerForMaskedLM, attn_implementation=attn_implementation, **options).train()
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for length in (40, 129):
        inputs = inputs_for_inductor(3, length, number_global=5)
        one, again = (output_and_gradients(model, compiled, inputs) for _ in range(2))
        assert all(torch.equal(one[name], again[name]) and one[name].isfinite().all() for name in one)
        assert not torch.equal(compiled(**inputs).logits, compiled(**inputs).logits)


def number_of_programs() -> int:
    return counters["stats"]["unique_graphs"]


@pytest.mark.slow
def test_compile_makes_few_programs():
    """One for each choice of masks, for a single text and for several: as many as PyTorch allows by itself."""
    model = make_model(HfLongformerForMaskedLM)
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
    counters.clear()
    for length in (40, 53, 64, 9, 129, 17, 200, 7, 3, 2):
        for names, number_global, batch in product(MASKS, (1, 3), (1, 2, 3)):
            inputs = make_inputs(batch, length, min(number_global, length))
            inputs = {name: inputs[name] for name in ("input_ids", *names)}
            if "attention_mask" not in names:
                inputs["input_ids"] = random_ids(batch, length)
            real = inputs.get("attention_mask", torch.ones(batch, length)).bool()
            with torch.no_grad():
                logits = compiled(**inputs).logits[real]
                torch.testing.assert_close(logits, model(**inputs).logits[real], rtol=0, atol=1e-12)
    assert number_of_programs() == 2 * len(MASKS) == 8


def test_compile_of_single_layers_makes_one_program_for_all():
    """Whichever the layer, the length, the padding and the number of texts."""
    model = randomise(HfLongformerForMaskedLM(tiny_config(num_hidden_layers=3))).double()
    plain = copy.deepcopy(model)
    for layer in model.longformer.encoder.layer:
        layer.compile(backend="eager", fullgraph=True, dynamic=True)
    counters.clear()
    for batch, length in ((2, 40), (3, 200), (4, 190), (5, 150)):
        inputs = make_inputs(batch, length, number_global=4)
        real = inputs["attention_mask"].bool()
        with torch.no_grad():
            logits, expected = model(**inputs).logits[real], plain(**inputs).logits[real]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
    assert number_of_programs() == 1


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_compile_with_inductor(dropout: float):
    """In float32 within the error budget; with dropout finite, and a function of the seed."""
    model = make_model(HfLongformerForSequenceClassification, attention_probs_dropout_prob=dropout)
    inputs = make_inputs(2, 40)
    exact = output_and_gradients(model, model, inputs)
    model = model.float().train(dropout > 0)
    compiled = torch.compile(model, fullgraph=True)
    one, again = (output_and_gradients(model, compiled, inputs) for _ in range(2))
    assert all(torch.equal(one[name], again[name]) and one[name].isfinite().all() for name in one)
    if dropout:
        assert not torch.equal(compiled(**inputs).logits, compiled(**inputs).logits)
        return
    eager = output_and_gradients(model, model, inputs)
    for name, best in exact.items():
        allowed = (2 if name == "output" else 3) * (eager[name] - best).abs().max()
        allowed += 8 * torch.finfo(torch.float32).eps * best.abs().max().clamp(min=1.0)
        assert (one[name] - best).abs().max() <= allowed, name


EXPORTED = {
    "model": (HfLongformerModel, {}, 0),
    "classification": (HfLongformerForSequenceClassification, {"attention_dilation": [[1, 1, 2]]}, 0),
    "masked_lm": (HfLongformerForMaskedLM, {}, 3),
}


EXPORTED_HEADS = {
    "model": (HfLongformerModel, {}, 3),
    "classification": (HfLongformerForSequenceClassification, {"attention_dilation": [[1, 1, 2]]}, 0),
    "question_answering": (HfLongformerForQuestionAnswering, {}, 0),
    "token_classification": (HfLongformerForTokenClassification, {}, 0),
    "wide": (HfLongformerForMaskedLM, {"attention_window": 256}, 3),
    "causal": (HfLongformerForCausalLM, {"is_decoder": True, "use_cache": False}, 3),
    "rotary": (HfLongformerForCausalLM, ROTARY, 0),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_export_runs_at_other_lengths_and_batches(name: str):
    """Also after a round through a file; of PyTorch's own operators alone, so that it runs without this package."""
    model_class, options, number_global = EXPORTED[name]
    model = make_model(model_class, **options)
    inputs = make_inputs(2, 40, number_global)
    shapes = {key: {0: Dim.DYNAMIC, 1: Dim.DYNAMIC} for key in inputs}
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, (), inputs, dynamic_shapes=shapes), file)
    file.seek(0)
    program = torch.export.load(file)
    operators = [node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    assert {operator.namespace for operator in operators} <= {"aten"}
    exported = program.module()
    for batch, length, more in ((2, 40, 0), (3, 7, -1), (1, 64, 2), (5, 150, 9), (2, 128, 0)):
        inputs = make_inputs(batch, length, number_global and number_global + more)
        with torch.no_grad():
            result, exact = exported(**inputs), model(**inputs)
        torch.testing.assert_close(result[0], exact[0], rtol=0, atol=1e-12)


def assert_exports_to(model: nn.Module, number_global: int, shapes: dict[int, Any], strict: bool = False) -> None:
    """What the model gives at all lengths from 1 to 2,048 tokens."""
    inputs = make_inputs(2, 40, number_global)
    dynamic = dict.fromkeys(inputs, shapes)
    program = torch.export.export(model, (), inputs, dynamic_shapes=dynamic, strict=strict).module()
    for length in (1, 2, 7, 63, 64, 65, 511, 512, 513, 1000, 2048):
        for batch in (1, 3) if length < 64 else (2,):
            inputs = make_inputs(batch, length, min(number_global, length))
            real = inputs["attention_mask"].bool()
            with torch.no_grad():
                result, exact = program(**inputs)[0], model(**inputs)[0]
            if result.shape[:2] == real.shape:
                result, exact = result[real], exact[real]
            torch.testing.assert_close(result, exact, rtol=0, atol=1e-11)


@pytest.mark.parametrize("number_global", [0, 3])
def test_export_of_named_dimensions(number_global: int):
    model = make_model(HfLongformerForMaskedLM, max_position_embeddings=2060)
    assert_exports_to(model, number_global, {0: Dim("batch", max=8), 1: Dim("length", max=2048)})


RANGES = {
    "bounded": lambda: {0: Dim("batch", min=1, max=8), 1: Dim("length", min=1, max=2048)},
    "open": lambda: {0: Dim("batch"), 1: Dim("length")},
    "dynamic": lambda: {0: Dim.DYNAMIC, 1: Dim.DYNAMIC},
    "auto": lambda: {0: Dim.AUTO, 1: Dim.AUTO},
}


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("ranges", RANGES)
def test_export_of_all_ranges(ranges: str, strict: bool):
    model = make_model(HfLongformerForMaskedLM, max_position_embeddings=2060)
    assert_exports_to(model, 3, RANGES[ranges](), strict)


@pytest.mark.slow
@pytest.mark.parametrize("head", EXPORTED_HEADS)
def test_export_of_all_heads(head: str):
    model_class, options, number_global = EXPORTED_HEADS[head]
    model = make_model(model_class, max_position_embeddings=2060, **options)
    assert_exports_to(model, number_global, {0: Dim("batch", max=8), 1: Dim("length", max=2048)})


@pytest.mark.parametrize("shape", [(2, 40), (1, 2)])
def test_export_of_some_lengths(shape: tuple[int, int]):
    """Dimensions that are not named stay what they were; texts shorter than the window."""
    model, inputs = make_model(HfLongformerForMaskedLM), make_inputs(*shape, number_global=1)
    dynamic = {key: {1: Dim("length", min=2, max=50)} for key in inputs}
    program = torch.export.export(model, (), inputs, dynamic_shapes=dynamic, strict=False).module()
    for length in (2, 5, 50):
        inputs = make_inputs(shape[0], length, number_global=1)
        with torch.no_grad():
            result, exact = program(**inputs).logits, model(**inputs).logits
        real = inputs["attention_mask"].bool()
        torch.testing.assert_close(result[real], exact[real], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "case",
    [Case(40, 8), Case(40, 8, (1, 1, 4), False, "ragged", "right"), Case(40, 8, 2, True, "one", "left")],
    ids=str,
)
def test_opcheck(case: Case):
    """Schemas, shapes, strides, gradients, and all of it while tracing with dynamic shapes."""
    query, key, value, gradient = (tensor.requires_grad_() for tensor in random_projections(case)[:4])
    given = Arguments.of(case.pattern, token_roles(case), 0.5)
    masks, numbers = given[:4], given[4:]
    seed = torch.tensor(7)
    torch.library.opcheck(_LOCAL_ROWS.operator, (query, key, value, *masks, *numbers))
    torch.library.opcheck(_LOCAL_ROWS_WITH_DROPOUT.operator, (query, key, value, *masks, seed, *numbers, 0.3))
    with torch.no_grad():
        rows = _LOCAL_ROWS.operator(query, key, value, *masks, *numbers)
        dropped = _LOCAL_ROWS_WITH_DROPOUT.operator(query, key, value, *masks, seed, *numbers, 0.3)
    tensors = [tensor.detach() for tensor in (gradient, query, key, value)]
    tests = ("test_schema", "test_faketensor")
    name = str(_LOCAL_ROWS.operator._qualname).partition("::")[0]
    operators = getattr(torch.ops, name)
    torch.library.opcheck(operators.local_rows_backward.default, (*tensors, *rows, *masks, *numbers), test_utils=tests)
    torch.library.opcheck(
        operators.local_rows_with_dropout_backward.default,
        (*tensors, dropped, *masks, seed, *numbers, 0.3),
        test_utils=tests,
    )
