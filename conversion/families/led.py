# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Stock LED: windows and global projections are its own; to be run faster, or to be made longer still."""

from hf_longformer import HfLongformerEncoderDecoderConfig

from .bart import LENGTH, NAMES, SETTINGS_OF_2020, check_settings
from .family import SourceFamily

FAMILY = SourceFamily(
    model_type="led",
    class_prefix="LED",
    base_prefix="led",
    counts_from_padding=False,
    is_long=True,
    default_length=LENGTH,
    to_config=lambda config: HfLongformerEncoderDecoderConfig.from_dict(config.to_dict()),
    pads_to_windows=True,
    class_endings={"EncoderDecoderModel": "Model"},
    fields={"max_position_embeddings": "max_encoder_position_embeddings"},
    names=(
        *NAMES,
        (r"^encoder\.layers\.(\d+)\.self_attn\.longformer_self_attn\.", r"encoder.encoder.layer.\1.attention.self."),
        (r"^encoder\.layers\.(\d+)\.self_attn\.output\.", r"encoder.encoder.layer.\1.attention.output.dense."),
    ),
    prepare=lambda config: check_settings(config, {**SETTINGS_OF_2020, "scale_embedding": False}),
)
