# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as graphs for ONNX Runtime, OpenVINO and PyTorch: `export` writes them, `load_exported` runs them."""

from .export import export
from .formats import BACKENDS, FORMATS
from .runtime import ExportedModel, load_exported

__all__ = ["BACKENDS", "FORMATS", "ExportedModel", "export", "load_exported"]
