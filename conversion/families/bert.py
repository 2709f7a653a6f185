# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""BERT: positions from row 0, two token types, and heads on a pooler."""

from .family import SourceFamily

FAMILY = SourceFamily(
    model_type="bert",
    class_prefix="Bert",
    base_prefix="bert",
    counts_from_padding=False,
    needs={"ForMaskedLM": {"hidden_act": "gelu"}},
    head_names={
        "ForMaskedLM": (
            (r"cls\.predictions\.transform\.dense\.", "lm_head.dense."),
            (r"cls\.predictions\.transform\.LayerNorm\.", "lm_head.layer_norm."),
            (r"cls\.predictions\.decoder\.", "lm_head.decoder."),
            (r"cls\.predictions\.bias", "lm_head.bias"),
        ),
        # BERT classifies by its pooler and one layer more, which is what RoBERTa's head is.
        "ForSequenceClassification": (
            (r"bert\.pooler\.dense\.", "classifier.dense."),
            (r"classifier\.", "classifier.out_proj."),
        ),
    },
    # The head for the next sentence has no counterpart and is dropped.
    other_heads={"ForPreTraining": "ForMaskedLM"},
)
