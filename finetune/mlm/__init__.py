# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Continued pretraining of a converted checkpoint on masked words, as in section 5 of the paper."""

from .task import MaskedLanguageModel

__all__ = ["TASK"]

TASK = MaskedLanguageModel
