# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Long-document encoders for Transformers: Longformer's attention, and conversion of RoBERTa-like checkpoints to it.

Importing this package registers its models with the Auto classes of Transformers.
"""

from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from .attention_hf_longformer import longformer_attention
from .attention_layout import dense_attention_weights
from .byte_tokens import byte_tokenizer
from .cache_hf_longformer import RollingCache
from .configuration_encoder_decoder_hf_longformer import HfLongformerEncoderDecoderConfig
from .configuration_hf_longformer import HfLongformerConfig
from .explain import explain_attention
from .global_masks import DataCollatorToLengths, DataCollatorWithGlobalAttention, global_attention_mask
from .masks import attention_roles
from .modeling_causal_hf_longformer import HfLongformerForCausalLM
from .modeling_coreference_hf_longformer import HfLongformerForCoreference
from .modeling_encoder_decoder_hf_longformer import (
    HfLongformerEncoderDecoderModel,
    HfLongformerEncoderDecoderPreTrainedModel,
    HfLongformerForConditionalGeneration,
)
from .modeling_evidence_hf_longformer import HfLongformerForEvidenceQuestionAnswering
from .modeling_heads_hf_longformer import (
    HfLongformerForMaskedLM,
    HfLongformerForMultipleChoice,
    HfLongformerForQuestionAnswering,
    HfLongformerForSequenceClassification,
    HfLongformerForTokenClassification,
)
from .modeling_hf_longformer import HfLongformerModel, HfLongformerPreTrainedModel
from .stock import replace_stock
from .transformers_internals import warn_if_untested
from .version import __version__
from .window_pattern import WindowPattern

AUTO_CLASSES: dict[type[PreTrainedModel], Any] = {
    HfLongformerModel: AutoModel,
    HfLongformerForMaskedLM: AutoModelForMaskedLM,
    HfLongformerForCausalLM: AutoModelForCausalLM,
    HfLongformerForSequenceClassification: AutoModelForSequenceClassification,
    HfLongformerForQuestionAnswering: AutoModelForQuestionAnswering,
    HfLongformerForTokenClassification: AutoModelForTokenClassification,
    HfLongformerForMultipleChoice: AutoModelForMultipleChoice,
    HfLongformerEncoderDecoderModel: AutoModel,
    HfLongformerForConditionalGeneration: AutoModelForSeq2SeqLM,
}

warn_if_untested()
for _config_class in (HfLongformerConfig, HfLongformerEncoderDecoderConfig):
    AutoConfig.register(_config_class.model_type, _config_class)
for _model_class, _auto_class in AUTO_CLASSES.items():
    _auto_class.register(_model_class.config_class, _model_class)

__all__ = [
    "AUTO_CLASSES",
    "DataCollatorToLengths",
    "DataCollatorWithGlobalAttention",
    "HfLongformerConfig",
    "HfLongformerEncoderDecoderConfig",
    "HfLongformerEncoderDecoderModel",
    "HfLongformerEncoderDecoderPreTrainedModel",
    "HfLongformerForCausalLM",
    "HfLongformerForConditionalGeneration",
    "HfLongformerForCoreference",
    "HfLongformerForEvidenceQuestionAnswering",
    "HfLongformerForMaskedLM",
    "HfLongformerForMultipleChoice",
    "HfLongformerForQuestionAnswering",
    "HfLongformerForSequenceClassification",
    "HfLongformerForTokenClassification",
    "HfLongformerModel",
    "HfLongformerPreTrainedModel",
    "RollingCache",
    "WindowPattern",
    "__version__",
    "attention_roles",
    "byte_tokenizer",
    "dense_attention_weights",
    "explain_attention",
    "global_attention_mask",
    "longformer_attention",
    "replace_stock",
]
