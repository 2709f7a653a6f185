# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""8 bits in ONNX Runtime: the weights of products with one scale per channel, and what they are multiplied with, either
with a scale that every batch makes anew, or with one that was measured on texts beforehand.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from .to_onnx import silence

# Products with weights alone: embeddings in 8 bits would be smaller yet, and per tensor a third of neighbours change.
SETTINGS: dict[str, Any] = {"op_types_to_quantize": ["MatMul"], "per_channel": True, "weight_type": QuantType.QInt8}


def to_int8(source: Path, file: Path, batches: list[dict[str, np.ndarray]] | None) -> None:
    """Writes an ONNX file in float32 as one that multiplies in 8 bits.

    Args:
        source: The file in float32.
        file: To write.
        batches: Inputs by name, to measure the scales of what is multiplied with weights on (static quantization); None
            for scales of every batch (dynamic).
    """
    with silence():
        if batches is None:
            quantize_dynamic(source, file, **SETTINGS)
            return
        chosen = _with_weights(source)
        quantize_static(
            source,
            file,
            _Batches(batches),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_quantize=chosen,
            **SETTINGS,
        )


def _with_weights(source: Path) -> list[str]:
    """Names of the products of states with weights; those of states with states stay in float32."""
    graph = onnx.load(str(source)).graph
    weights = {one.name for one in graph.initializer if len(one.dims) == 2}
    return [node.name for node in graph.node if node.op_type == "MatMul" and set(node.input) & weights]


class _Batches(CalibrationDataReader):
    def __init__(self, batches: list[dict[str, np.ndarray]]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


__all__ = ["to_int8"]
