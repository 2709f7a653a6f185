# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Tags of words, such as names of people and places, in documents of any length."""

from .predictor import TokenClassificationPredictor
from .task import TokenClassification

__all__ = ["PREDICTOR", "TASK"]

TASK, PREDICTOR = TokenClassification, TokenClassificationPredictor
