# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Coreference: which words of a document speak of the same person, place or thing."""

from .predictor import CoreferencePredictor
from .task import Coreference

__all__ = ["PREDICTOR", "TASK"]

TASK, PREDICTOR = Coreference, CoreferencePredictor
