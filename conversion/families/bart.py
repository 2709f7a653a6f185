# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""BART: positions from row 2, dense attention; its encoder becomes ours, its decoder stays (section 7 of the paper)."""

from typing import Any

from hf_longformer import HfLongformerEncoderDecoderConfig

from ..errors import InputError
from .family import SourceFamily

WINDOW = 1024  # tokens in all, as in the paper
LENGTH = 16_384  # tokens
# What names of BART and LED have in common; those of their decoders stay.
NAMES = (
    (r"^encoder\.embed_tokens\.", "encoder.embeddings.word_embeddings."),
    (r"^encoder\.embed_positions\.", "encoder.embeddings.position_embeddings."),
    (r"^encoder\.layernorm_embedding\.", "encoder.embeddings.LayerNorm."),
    (r"^encoder\.layers\.(\d+)\.self_attn_layer_norm\.", r"encoder.encoder.layer.\1.attention.output.LayerNorm."),
    (r"^encoder\.layers\.(\d+)\.fc1\.", r"encoder.encoder.layer.\1.intermediate.dense."),
    (r"^encoder\.layers\.(\d+)\.fc2\.", r"encoder.encoder.layer.\1.output.dense."),
    (r"^encoder\.layers\.(\d+)\.final_layer_norm\.", r"encoder.encoder.layer.\1.output.LayerNorm."),
)
# Settings of models of 2020 that went under the name of BART: today's BART has one value, and passes over others.
SETTINGS_OF_2020 = {
    "normalize_before": False,
    "add_final_layer_norm": False,
    "static_position_embeddings": False,
    "normalize_embedding": True,
    "extra_pos_embeddings": 2,
}


def check_settings(config: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A config.json without a setting that its class in Transformers passes over.

    Raises:
        InputError: If it has one: the model was trained with it, and is not what its class computes.
    """
    for name, value in settings.items():
        if config.get(name) not in (None, value):
            raise InputError(
                f"{name} of config.json must be {value!r} or left out, since Transformers "
                f"passes over it, got {config[name]!r}"
            )
    return config


FAMILY = SourceFamily(
    model_type="bart",
    class_prefix="Bart",
    base_prefix="model",
    counts_from_padding=False,
    first_row=2,
    default_length=LENGTH,
    to_config=lambda config: HfLongformerEncoderDecoderConfig.of_bart(config, LENGTH, WINDOW),
    class_endings={"EncoderDecoderModel": "Model"},
    names=(
        *NAMES,
        (r"^encoder\.layers\.(\d+)\.self_attn\.q_proj\.", r"encoder.encoder.layer.\1.attention.self.query."),
        (r"^encoder\.layers\.(\d+)\.self_attn\.k_proj\.", r"encoder.encoder.layer.\1.attention.self.key."),
        (r"^encoder\.layers\.(\d+)\.self_attn\.v_proj\.", r"encoder.encoder.layer.\1.attention.self.value."),
        (r"^encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"encoder.encoder.layer.\1.attention.output.dense."),
    ),
    prepare=lambda config: check_settings(config, SETTINGS_OF_2020),
)
