# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers to questions about documents of any length, as in section 6 of the paper."""

from .predictor import QuestionAnsweringPredictor
from .task import QuestionAnswering

__all__ = ["PREDICTOR", "TASK"]

PREDICTOR = QuestionAnsweringPredictor
TASK = QuestionAnswering
