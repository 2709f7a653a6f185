# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Summaries of documents, by an encoder-decoder: section 7 of the paper."""

from .predictor import SummarizationPredictor
from .task import Summarization

__all__ = ["PREDICTOR", "TASK"]

TASK, PREDICTOR = Summarization, SummarizationPredictor
