# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The table of formats. It imports nothing: what a format needs is imported when it is written or run."""

from typing import NamedTuple

REPORT = "export_report.json"


TRACERS = ("onnx", "onnxscript", "onnxruntime")


class Format(NamedTuple):
    """A format that checkpoints are exported to.

    Args:
        file: The file with the graph.
        needs: Modules that writing it needs, of the extra of the same name.
        dtypes: What weights can be stored as.
        module: The file of this folder that writes it.
    """

    file: str
    needs: tuple[str, ...]
    dtypes: tuple[str, ...]
    module: str


FORMATS = {
    "onnx": Format("model.onnx", TRACERS, ("float32", "float16", "int8", "int8-static"), "to_onnx"),
    "openvino": Format("openvino_model.xml", (*TRACERS, "openvino"), ("float32", "float16", "int8"), "to_openvino"),
    "torch-export": Format("model.pt2", (), ("float32",), "to_torch_export"),
    "executorch": Format("model.pte", ("executorch",), ("float32",), "to_executorch"),
    "web": Format("onnx/model.onnx", TRACERS, ("float32",), "to_web"),
}
BACKENDS = tuple(name for name in FORMATS if name != "web")  # what `runtime` runs
