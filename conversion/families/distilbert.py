# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""DistilBERT: BERT without token types and pooler, under other names; its heads have a ReLU where BERT has a tanh."""

from .family import SourceFamily

_HEAD = {"classifier_activation": "relu"}

FAMILY = SourceFamily(
    model_type="distilbert",
    class_prefix="DistilBert",
    base_prefix="distilbert",
    counts_from_padding=False,
    fields={
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "classifier_dropout": "seq_classif_dropout",
    },
    values={
        "": {"type_vocab_size": 1, "layer_norm_eps": 1e-12},
        "ForSequenceClassification": _HEAD,
        "ForMultipleChoice": _HEAD,
    },
    needs={"ForMaskedLM": {"activation": "gelu"}},
    names=(
        (r"^transformer\.layer\.", "encoder.layer."),
        (r"\.attention\.q_lin\.", ".attention.self.query."),
        (r"\.attention\.k_lin\.", ".attention.self.key."),
        (r"\.attention\.v_lin\.", ".attention.self.value."),
        (r"\.attention\.out_lin\.", ".attention.output.dense."),
        (r"\.sa_layer_norm\.", ".attention.output.LayerNorm."),
        (r"\.ffn\.lin1\.", ".intermediate.dense."),
        (r"\.ffn\.lin2\.", ".output.dense."),
        (r"\.output_layer_norm\.", ".output.LayerNorm."),
    ),
    head_names={
        "ForMaskedLM": (
            (r"vocab_transform\.", "lm_head.dense."),
            (r"vocab_layer_norm\.", "lm_head.layer_norm."),
            (r"vocab_projector\.", "lm_head.decoder."),
        ),
        "ForSequenceClassification": (
            (r"pre_classifier\.", "classifier.dense."),
            (r"classifier\.", "classifier.out_proj."),
        ),
        "ForMultipleChoice": ((r"pre_classifier\.", "longformer.pooler.dense."),),
    },
)
