# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""data2vec for text: RoBERTa's architecture, trained on its own hidden states."""

from .family import SourceFamily

FAMILY = SourceFamily(
    model_type="data2vec-text", class_prefix="Data2VecText", base_prefix="data2vec_text", counts_from_padding=True
)
