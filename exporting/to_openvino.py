# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's own files, made of the ONNX file: its Attention operator becomes OpenVINO's, which computes in blocks."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import to_onnx


def write(
    model: Any,
    inputs: dict[str, Any],
    dimensions: dict[str, tuple[str, ...]],
    file: Path,
    dtype: str = "float32",
    batches: None = None,
) -> None:
    """Writes a model as `FILE.xml` and, with the weights, `FILE.bin`, whose dimensions are free.

    Args:
        model: In float32 and evaluation mode.
        inputs: Texts to trace it with, tensors by name: more than one, of more than one token.
        dimensions: Names of the dimensions of every input.
        file: The first of the two.
        dtype: As for ONNX; `"int8"` stores the weights of products in 8 bits, with a scale and a zero point per
            channel, and computes in float32.
        batches: None are needed.
    """
    with TemporaryDirectory() as folder:
        graph = Path(folder, "model.onnx")
        to_onnx.write(model, inputs, dimensions, graph, "float16" if dtype == "float16" else "float32")
        convert(graph, file, in_8_bits=dtype == "int8")


def convert(graph: Path, file: Path, in_8_bits: bool = False) -> None:
    """Writes an ONNX file as OpenVINO's.

    Args:
        graph: The ONNX file.
        file: The first of the two to write.
        in_8_bits: Whether weights are to be stored so.
    """
    openvino = import_openvino()
    read = openvino.Core().read_model(graph)
    openvino.save_model(_compress(read) if in_8_bits else read, file, compress_to_fp16=False)


def import_openvino() -> Any:
    """The module, imported without its telemetry, a package of its own that reports every import over the network
    unless somebody has opted out; where that package cannot be had, OpenVINO and NNCF do without.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _compress(read: Any) -> Any:
    import nncf

    with to_onnx.silence():
        return nncf.compress_weights(read, mode=nncf.CompressWeightsMode.INT8_ASYM)


__all__ = ["convert", "import_openvino", "write"]
