# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The autoregressive model, trained in phases as in section 4 of the paper: windows and lengths grow, rates fall."""

from .task import CausalTraining

__all__ = ["TASK"]

TASK = CausalTraining
