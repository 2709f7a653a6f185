# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""XLM-RoBERTa: RoBERTa for a hundred languages, with a SentencePiece tokenizer."""

from .family import SourceFamily

FAMILY = SourceFamily(
    model_type="xlm-roberta", class_prefix="XLMRoberta", base_prefix="roberta", counts_from_padding=True
)
