# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Stock Longformer, whose parameters have the same names as ours: to be run faster, or to be made longer still."""

from .family import SourceFamily

FAMILY = SourceFamily(
    model_type="longformer",
    class_prefix="Longformer",
    base_prefix="longformer",
    counts_from_padding=True,
    is_long=True,
)
