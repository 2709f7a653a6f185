# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The folder that transformers.js loads, in Node and in browsers: ONNX files of three sizes and what stands beside."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import read_json, write_json
from hf_longformer.conversion.sentence_modules import MODULES, read_modules

from . import to_onnx
from .gate import check, difference, outputs_of
from .quality import measure, sentences_of
from .samples import Case, sample
from .sessions import open_session

# What transformers.js 4.3.2 looks for, by the `dtype` that is asked for; a browser that asks for none gets q8.
FILES = {"fp32": "model.onnx", "fp16": "model_fp16.onnx", "q8": "model_quantized.onnx"}
LARGEST = 2**31 - 2**20  # bytes of a file; larger ones are several, which a page would have to be told of
SMALLEST_WEIGHT = 4096  # numbers; what is smaller stays in float32
BOUNDS = {"fp16": 0.05, "q8": 0.5}  # mean difference of outputs, as a share of their standard deviation
COMPARED = 200  # tokens

# Its classes are found by `model_type` alone; for these heads it has one of every BERT-like type.
HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
MODEL_TYPE = "bert"
POOLING = {
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last_token",
}  # of sentence-transformers, and of a pipeline's call


def refuse(config: Any, tokenizer: Any, with_global_mask: bool) -> None:
    """Refuses what transformers.js cannot run, or would run to something else.

    Args:
        config: Of the checkpoint.
        tokenizer: Of the checkpoint; None if it has none.
        with_global_mask: Whether the mask is asked for as an input.

    Raises:
        InputError: With the reason.
    """
    head = str(config.architectures[0]).removeprefix("HfLongformer")
    if head not in HEADS:
        raise InputError(f"transformers.js has a class for {', '.join(HEADS)}, got {head}: take --format onnx")
    if config.tag_layers > 1:
        raise InputError(
            f"transformers.js gives every token one label, got tag_layers={config.tag_layers}: take --format onnx"
        )
    if with_global_mask:
        raise InputError("transformers.js passes no global_attention_mask: leave out --global-attention-mask")
    if tokenizer is None or not tokenizer.is_fast:
        raise InputError("transformers.js needs the tokenizer as tokenizer.json, which the checkpoint has none for")


def write(
    model: Any,
    inputs: dict[str, torch.Tensor],
    dimensions: dict[str, tuple[str, ...]],
    file: Path,
    dtype: str = "float32",
    batches: Any = None,
) -> None:
    """Writes the graph in float32, and with weights of 16 and 8 bits.

    Args:
        model, inputs, dimensions: As for `to_onnx.write`.
        file: `onnx/model.onnx` of the folder.
        dtype, batches: As the other formats have them: all three sizes are written.

    Raises:
        InputError: If the weights do not fit one file.
    """
    import onnx_ir

    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    if size > LARGEST:
        raise InputError(f"a file for browsers holds at most 2 GiB, the weights have {size / 2**30:.1f} in float32")
    file.parent.mkdir()
    to_onnx.write(model, inputs, dimensions, file)
    for size_of_weights in BOUNDS:
        graph_model = onnx_ir.load(str(file))
        narrow_weights(graph_model.graph, size_of_weights)
        onnx_ir.save(graph_model, str(file.with_name(FILES[size_of_weights])))


def finish(folder: Path, model: Any, tokenizer: Any) -> dict[str, Any]:
    """Writes the configuration as transformers.js reads it, and compares the smaller files with the checkpoint.

    Args:
        folder: With all other files.
        model: The checkpoint, in float32 and evaluation mode.
        tokenizer: Of the checkpoint.

    Returns:
        `embedding`, as `embedding_of` gives it, `mask_token`, `files` with their bytes, `loss` of 8 bits, as
        `quality.measure` gives it, and `of_smaller_files`: checks, as those of the gate, of the mean difference of
        outputs as a share of their standard deviation.
    """
    config = read_json(folder / "config.json")
    config |= {"model_type": MODEL_TYPE, "exported_from": config["model_type"]}
    embedding = embedding_of(folder)
    if embedding:
        config["embedding"] = embedding
    write_json(folder / "config.json", config)
    case = Case(1, min(model.config.max_length_tokens, COMPARED), "none", None)
    inputs = sample(model.config, case, False)
    with torch.no_grad():
        expected = outputs_of(model, inputs)
    checks = []
    for dtype, bound in BOUNDS.items():
        session = open_session(folder, "web", file=folder / "onnx" / FILES[dtype])  # the last one is that of q8
        found = session.run({name: tensor.numpy() for name, tensor in inputs.items()})
        share: Any = difference(inputs, expected, found)
        if not isinstance(share, str):
            share = max(float(np.abs(one - found[name]).mean() / one.std()) for name, one in expected.items())
        checks.append(check(f"{FILES[dtype]}: mean difference / deviation", share <= bound, share, bound))
    return {
        "embedding": embedding,
        "mask_token": read_json(folder / "tokenizer_config.json").get("mask_token"),
        "files": {name: (folder / "onnx" / name).stat().st_size for name in FILES.values()},
        "loss": {
            "file": FILES["q8"],
            **measure(model, session.run, session.inputs, tokenizer, sentences_of(None)[::3]),
        },
        "of_smaller_files": checks,
    }


def embedding_of(folder: Path) -> dict[str, Any]:
    """How the modules of a sentence-transformers folder make an embedding: `pooling` and `normalize`, in the words of
    transformers.js. Empty if there are no modules.

    Raises:
        InputError: If a module does something that a pipeline of transformers.js does not.
    """
    modules = read_modules(folder)
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules[1:]]
    if not modules:
        return {}
    if kinds not in (["Pooling"], ["Pooling", "Normalize"]):
        raise InputError(
            f"transformers.js pools and normalizes, got the modules {', '.join(kinds) or 'none'} in {MODULES}: take "
            "--format onnx"
        )
    settings = read_json(folder / modules[1]["path"] / "config.json")
    modes = [
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for name, on in settings.items()
        if on is True and name.startswith("pooling_mode_")
    ]
    if isinstance(settings.get("pooling_mode"), str):
        modes = [settings["pooling_mode"]]
    if len(modes) != 1 or modes[0] not in POOLING:
        raise InputError(f"transformers.js pools by {', '.join(POOLING)}, got {', '.join(modes) or 'none'}")
    return {"pooling": POOLING[modes[0]], "normalize": "Normalize" in kinds}


def narrow_weights(graph: Any, dtype: str) -> None:
    """Puts narrower numbers in the place of weights, and before their use what makes float32 of them.

    Plain operators on constants: a runtime works them out once, when it loads the file, and computes in float32. Of
    `DequantizeLinear` in their place ONNX Runtime 1.32 makes products that round the activations, too.

    Args:
        graph: Changed in place, an `onnx_ir.Graph`.
        dtype: `"fp16"` or `"q8"`: unsigned integers of 8 bits with a step and a zero for each row of a table, and for
            each column of a matrix.
    """
    import onnx_ir

    narrow = {"fp16": _as_float16, "q8": _as_uint8}[dtype]
    for name, value in list(graph.initializers.items()):
        array = value.const_value.numpy()
        if array.size < SMALLEST_WEIGHT or value.is_graph_output() or array.dtype not in (np.float32, np.int64):
            continue
        uses = list(value.uses())
        # Of a table each row is looked up by itself; of a matrix that is multiplied with, each column makes one number.
        by_rows = all(node.op_type == "Gather" and index == 0 for node, index in uses)
        nodes = narrow(array, name, by_rows) if array.dtype == np.float32 else _as_small_integers(array, name)
        graph.initializers.pop(name)
        for constant in (one for node in nodes for one in node.inputs):
            if constant.const_value is not None and constant.name not in graph.initializers:
                graph.initializers.add(constant)
        first = nodes[-1].outputs[0]
        onnx_ir.convenience.replace_all_uses_with(value, first)
        graph.insert_before(graph[0], nodes)


def _constant(name: str, array: np.ndarray) -> Any:
    import onnx_ir

    return onnx_ir.val(name, const_value=onnx_ir.tensor(array, name=name))


def _as_small_integers(array: np.ndarray, name: str) -> list[Any]:
    """The same integers; tracers work out distances of tokens beforehand, and store them in 64 bits."""
    import onnx_ir

    dtype = next(one for one in (np.int8, np.int16, np.int32, np.int64) if (array == array.astype(one)).all())
    return [onnx_ir.node("Cast", [_constant(f"{name}.small", array.astype(dtype))], {"to": onnx_ir.DataType.INT64})]


def _as_float16(array: np.ndarray, name: str, by_rows: bool) -> list[Any]:
    import onnx_ir

    largest = np.finfo(np.float16).max
    narrow = _constant(f"{name}.half", np.clip(array, -largest, largest).astype(np.float16))
    return [onnx_ir.node("Cast", [narrow], {"to": onnx_ir.DataType.FLOAT})]


def _as_uint8(array: np.ndarray, name: str, by_rows: bool) -> list[Any]:
    """`(stored - zero) * step`, with a step and a zero for each row, or for each column."""
    import onnx_ir

    axis = array.ndim - 1 if by_rows else 0
    least, most = (np.minimum(array.min(axis, keepdims=True), 0), np.maximum(array.max(axis, keepdims=True), 0))
    step = np.maximum((most - least) / 255, np.finfo(np.float32).tiny).astype(np.float32)
    zero = np.rint(-least / step)
    stored = np.clip(np.rint(array / step) + zero, 0, 255).astype(np.uint8)
    to_float = {"to": onnx_ir.DataType.FLOAT}
    wide = onnx_ir.node("Cast", [_constant(f"{name}.stored", stored)], to_float)
    origin = onnx_ir.node("Cast", [_constant(f"{name}.zero", zero.astype(np.uint8))], to_float)
    shifted = onnx_ir.node("Sub", [wide.outputs[0], origin.outputs[0]])
    scaled = onnx_ir.node("Mul", [shifted.outputs[0], _constant(f"{name}.step", step)])
    return [wide, origin, shifted, scaled]


__all__ = ["FILES", "embedding_of", "finish", "narrow_weights", "refuse", "write"]
