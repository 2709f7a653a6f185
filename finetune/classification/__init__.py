# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Labels, several labels or a number for documents of any length, as in section 6 of the paper."""

from .predictor import ClassificationPredictor
from .task import Classification

__all__ = ["PREDICTOR", "TASK"]

PREDICTOR = ClassificationPredictor
TASK = Classification
