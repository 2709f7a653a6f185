# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Conversion of RoBERTa-, BERT- and BART-like checkpoints to long ones, with proof, and back to stock Transformers."""

from .convert import convert, verify
from .describe import bits_lines, plan_lines, result_lines
from .errors import GateError, InputError, UploadError
from .export import export
from .gate import check_lines
from .push import push
from .sync import sync_global

__all__ = [
    "GateError",
    "InputError",
    "UploadError",
    "bits_lines",
    "check_lines",
    "convert",
    "export",
    "plan_lines",
    "push",
    "result_lines",
    "sync_global",
    "verify",
]
