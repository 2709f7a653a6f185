# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""RoBERTa: the model that Longformer was made from."""

from .family import SourceFamily

FAMILY = SourceFamily(model_type="roberta", class_prefix="Roberta", base_prefix="roberta", counts_from_padding=True)
