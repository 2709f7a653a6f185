# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""ELECTRA: BERT without pooler, whose embeddings may be narrower than its layers; heads with a GELU for BERT's tanh."""

from .family import SourceFamily

_HEAD = {"classifier_activation": "gelu"}

FAMILY = SourceFamily(
    model_type="electra",
    class_prefix="Electra",
    base_prefix="electra",
    counts_from_padding=False,
    values={"ForSequenceClassification": _HEAD, "ForMultipleChoice": _HEAD},
    needs={
        "ForMultipleChoice": {"summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"},
    },
    names=((r"^embeddings_project\.", "embeddings.projection."),),
    head_names={
        "ForMaskedLM": (
            (r"generator_predictions\.dense\.", "lm_head.dense."),
            (r"generator_predictions\.LayerNorm\.", "lm_head.layer_norm."),
            (r"generator_lm_head\.", "lm_head.decoder."),
        ),
        "ForMultipleChoice": ((r"sequence_summary\.summary\.", "longformer.pooler.dense."),),
    },
    # The discriminator's own head, which tells replaced tokens, has no counterpart: its encoder is what people want.
    other_heads={"ForPreTraining": "Model"},
)
