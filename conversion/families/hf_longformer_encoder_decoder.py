# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""An encoder-decoder of this package, to be made longer still."""

from copy import deepcopy

from .bart import LENGTH
from .family import SourceFamily

FAMILY = SourceFamily(
    model_type="hf_longformer_encoder_decoder",
    class_prefix="HfLongformer",
    base_prefix="model",
    counts_from_padding=False,
    is_long=True,
    default_length=LENGTH,
    to_config=deepcopy,
)
