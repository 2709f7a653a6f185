# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""CamemBERT: RoBERTa for French, with a SentencePiece tokenizer and special ids of its own."""

from .family import SourceFamily

FAMILY = SourceFamily(model_type="camembert", class_prefix="Camembert", base_prefix="roberta", counts_from_padding=True)
