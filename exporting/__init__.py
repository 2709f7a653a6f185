# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as graphs that run out of Python: ONNX. `hf-longformer export` writes them, `load_exported` runs them."""

from .export import export
from .formats import BACKENDS, FORMATS
from .runtime import ExportedModel, load_exported

__all__ = ["BACKENDS", "FORMATS", "ExportedModel", "export", "load_exported"]
