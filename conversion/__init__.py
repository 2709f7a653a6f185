# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Conversion of RoBERTa-like and BERT-like checkpoints to long ones, with proof, and back to stock Transformers."""

from .convert import convert, verify
from .errors import GateError, InputError
from .export import export
from .gate import check_lines
from .push import push

__all__ = ["GateError", "InputError", "check_lines", "convert", "export", "push", "verify"]
