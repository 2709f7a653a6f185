# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers with the sentences that they follow from, in one model: HotpotQA in section 6 and appendix D of the paper."""

from .predictor import EvidencePredictor
from .task import HotpotQA

__all__ = ["PREDICTOR", "TASK"]

PREDICTOR = EvidencePredictor
TASK = HotpotQA
