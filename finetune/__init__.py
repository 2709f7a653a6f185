# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Training on long documents with Transformers' `Trainer`, and prediction."""

from .errors import TrainingError

__all__ = ["TrainingError"]
