# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of this package, to be made longer still."""

from .family import SourceFamily

FAMILY = SourceFamily(
    model_type="hf_longformer",
    class_prefix="HfLongformer",
    base_prefix="longformer",
    counts_from_padding=True,
    is_long=True,
)
