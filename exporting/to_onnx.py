# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""ONNX: one file of plain operators, which ONNX Runtime, OpenVINO and transformers.js load."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy
import torch

from hf_longformer.conversion import InputError

OPSET = 23  # the first with an Attention operator, which keeps the memory of a block small
LARGEST_PROTOBUF = 2**31 - 2**20  # bytes; larger weights go to a file of their own
CHATTY = ("", "nncf", "torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir", "transformers")


def write(
    model: Any,
    inputs: dict[str, Any],
    dimensions: dict[str, tuple[str, ...]],
    file: Path,
    dtype: str = "float32",
    batches: list[dict[str, Any]] | None = None,
    opset: int = OPSET,
) -> None:
    """Writes a model as an ONNX file whose dimensions are free.

    Args:
        model: In float32 and evaluation mode.
        inputs: Texts to trace it with, tensors by name: more than one, of more than one token.
        dimensions: Names of the dimensions of every input.
        file: To write; weights beyond 2 GiB go to `FILE.data` beside it.
        dtype: `"float32"`, or `"float16"`: weights are stored so, and cast when the file is loaded; computed is in
            float32, since most CPUs multiply nothing else, and since scores of long texts need it. Or `"int8"` and
            `"int8-static"`, for which see `quantize`.
        batches: Inputs, arrays by name, that the scales of `"int8-static"` are measured on.
        opset: Version of ONNX's operators. Below 23 scores are written out: several times the memory.
    """
    import onnx_ir
    from transformers.exporters import OnnxConfig, OnnxExporter

    config = OnnxConfig(dynamic_shapes=free_sizes(dimensions), opset_version=opset)
    with silence():
        exported: Any = OnnxExporter().export(model, inputs, config=config)
    graph_model = exported.program if hasattr(exported, "program") else exported.model  # of Transformers before 5.22
    _name_dimensions(graph_model.graph, dimensions)
    _leave_out_traces(graph_model)
    if dtype == "float16":
        _store_as_float16(graph_model.graph)
    size = sum(value.const_value.nbytes for value in graph_model.graph.initializers.values())
    beside = f"{file.name}.data" if size > LARGEST_PROTOBUF else None
    if not dtype.startswith("int8"):
        onnx_ir.save(graph_model, str(file), external_data=beside)
        return
    if beside is not None:
        raise InputError(f"weights in 8 bits must be made of 2 GiB at most, got {size:,} bytes in float32")
    from .quantize import to_int8

    with TemporaryDirectory() as folder:
        whole = Path(folder, file.name)
        onnx_ir.save(graph_model, str(whole))
        to_int8(whole, file, batches if dtype == "int8-static" else None)


def free_sizes(dimensions: dict[str, tuple[str, ...]]) -> dict[str, dict[int, Any]]:
    """What tells PyTorch's tracer that every dimension of every input is free."""
    return {name: dict.fromkeys(range(len(names)), torch.export.Dim.DYNAMIC) for name, names in dimensions.items()}


def foreign_operators(file: Path) -> list[str]:
    """Operators of a file that are not ONNX's own, which other runtimes than the one they are made for do not have."""
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    return sorted({f"{node.domain}.{node.op_type}" for node in graph.node if node.domain not in ("", "ai.onnx")})


@contextmanager
def silence() -> Iterator[None]:
    """Without the progress and the warnings of tracers."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [one.level for one in loggers]
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)


def _name_dimensions(graph: Any, dimensions: dict[str, tuple[str, ...]]) -> None:
    """`batch` and `length` in the place of the tracer's symbols, also in the outputs."""
    import onnx_ir

    names: dict[str, str] = {}
    for value in graph.inputs:
        names |= {str(old): new for old, new in zip(value.shape, dimensions[value.name], strict=True)}
        value.shape = onnx_ir.Shape(dimensions[value.name])
    for value in graph.outputs:
        value.shape = onnx_ir.Shape(
            [size if isinstance(size, int) else names.get(str(size)) for size in value.shape or ()]
        )


def _store_as_float16(graph: Any) -> None:
    """Weights in half the bytes, each behind a cast to float32. What is beyond float16's range is refused by the gate:
    a weight that is infinite makes outputs that are no numbers.
    """
    import onnx_ir

    casts = []
    for name, value in list(graph.initializers.items()):
        if value.dtype != onnx_ir.DataType.FLOAT or value.const_value.size < 2:
            continue
        with numpy.errstate(over="ignore"):
            half = onnx_ir.tensor(value.const_value.numpy().astype(numpy.float16), name=f"{name}_float16")
        stored = onnx_ir.Value(name=half.name, shape=value.shape, const_value=half)
        stored.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT16)
        cast = onnx_ir.node("Cast", [stored], attributes={"to": onnx_ir.DataType.FLOAT.value}, name=f"{name}_cast")
        value.replace_all_uses_with(cast.outputs[0])
        del graph.initializers[name]
        graph.initializers[half.name] = stored
        cast.outputs[0].name = name
        casts.append(cast)
    graph.insert_before(graph[0], casts)


def _leave_out_traces(graph_model: Any) -> None:
    """Where in whose source code a node came from, and shapes in symbols that have no name any more."""
    graph_model.metadata_props.clear()
    graph = graph_model.graph
    graph.metadata_props.clear()
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in graph.outputs:
                value.shape = None
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()


__all__ = ["OPSET", "foreign_operators", "free_sizes", "silence", "write"]
