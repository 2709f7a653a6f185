# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Task heads of the encoder: masked words, classes or numbers of a text, answers, tags, choices.

Parameter names are those of Transformers' stock Longformer, so its checkpoints load key for key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_outputs import (
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import logging

from .configuration_hf_longformer import HfLongformerConfig
from .layers_hf_longformer import HfLongformerLMHead
from .modeling_hf_longformer import (
    HfLongformerKwargs,
    HfLongformerModel,
    HfLongformerModelOutput,
    HfLongformerPreTrainedModel,
    first_token_states,
)
from .text_segments import KEYWORDS as OF_SEGMENTS
from .transformers_internals import can_return_tuple

logger = logging.get_logger(__name__)


@dataclass
class HfLongformerMaskedLMOutput(MaskedLMOutput):
    """Logits `(batch, S, vocab_size)`; attentions as in `HfLongformerModelOutput`."""

    global_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class HfLongformerSequenceClassifierOutput(SequenceClassifierOutput):
    """Logits `(batch, num_labels)`; attentions as in `HfLongformerModelOutput`."""

    global_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class HfLongformerTokenClassifierOutput(TokenClassifierOutput):
    """Logits `(batch, S, num_labels)`, or `(batch, S, config.tag_layers, num_labels)` with several layers; attentions
    as in `HfLongformerModelOutput`.
    """

    global_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class HfLongformerQuestionAnsweringOutput(QuestionAnsweringModelOutput):
    """Start and end logits `(batch, S)`; attentions as in `HfLongformerModelOutput`."""

    global_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class HfLongformerMultipleChoiceOutput(MultipleChoiceModelOutput):
    """Logits `(batch, num_choices)`; attentions as in `HfLongformerModelOutput`, `batch · num_choices` rows."""

    global_attentions: tuple[torch.Tensor, ...] | None = None


class HfLongformerLanguageModel(HfLongformerPreTrainedModel):
    """What language models share: the head, tied to the word embeddings."""

    _tied_weights_keys = {
        "lm_head.decoder.weight": "longformer.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__(config)
        config = self.config
        self.longformer = HfLongformerModel(config, add_pooling_layer=False)
        self.lm_head = HfLongformerLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        """The projection to the vocabulary, tied to the word embeddings."""
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replaces the projection to the vocabulary. Its bias stands twice, as in RoBERTa: the two are one where
        weights are tied, and two where they are not, since what is one is saved once and looked for twice.
        """
        self.lm_head.decoder = new_embeddings
        bias = new_embeddings.bias
        self.lm_head.bias = (
            bias if self.config.tie_word_embeddings or bias is None else nn.Parameter(bias.detach().clone())
        )


class HfLongformerForMaskedLM(HfLongformerLanguageModel):
    """Masked language model."""

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        masked_only: bool = False,
        **kwargs: Unpack[HfLongformerKwargs],
    ) -> tuple | HfLongformerMaskedLMOutput:
        """Arguments as in `HfLongformerModel.forward`; `labels` `(batch, S)`, -100 where nothing is to be predicted.

        `masked_only`: logits of tokens with a label only, `(number of labels, vocab_size)`: the same loss, faster. Its
        name holds no "label", by which `Trainer` would take it for one.
        """
        outputs = self.encode(
            input_ids, attention_mask, global_attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
        )
        states = outputs.last_hidden_state
        if masked_only and labels is not None:
            chosen = labels != -100
            states, labels = states[chosen], labels[chosen]
        logits = self.lm_head(states)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **loss_keywords(kwargs))
        return HfLongformerMaskedLMOutput(loss=loss, logits=logits, **what_was_recorded(outputs))


class HfLongformerClassificationHead(nn.Module):
    """Classifies a text by its first token: `(batch, S, hidden_size)` to `(batch, num_labels)`."""

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.classifier_activation]
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.out_proj = nn.Linear(config.hidden_size, len(config.id2label or ()))

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        states = self.dropout(first_token_states(hidden_states, attention_mask))
        return self.out_proj(self.dropout(self.activation(self.dense(states))))


class HfLongformerForSequenceClassification(HfLongformerPreTrainedModel):
    """Classification or regression of texts. The first token is global unless told otherwise."""

    auto_global_attention = "cls"

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__(config)
        config = self.config
        self.num_labels = config.num_labels
        self.longformer = HfLongformerModel(config, add_pooling_layer=False)
        self.classifier = HfLongformerClassificationHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[HfLongformerKwargs],
    ) -> tuple | HfLongformerSequenceClassifierOutput:
        """Arguments as in `HfLongformerModel.forward`.

        `labels`: `(batch,)` int64 for single-label classification, `(batch, num_labels)` float for multi-label,
        `(batch,)` or `(batch, num_labels)` float for regression; `config.problem_type` says which, or is inferred.
        """
        outputs = self.encode(
            input_ids, attention_mask, global_attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
        )
        logits = self.classifier(outputs.last_hidden_state, attention_mask)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **loss_keywords(kwargs))
            if self.config.problem_type != "single_label_classification":  # Transformers' loss of which divides so
                uncounted = labels.eq(-100).sum()  # of numbers that are -100 `Trainer` thinks that they are no labels
                loss = over_all_items(loss * labels.numel(), labels.numel(), kwargs, uncounted)
        return HfLongformerSequenceClassifierOutput(loss=loss, logits=logits, **what_was_recorded(outputs))


class HfLongformerForQuestionAnswering(HfLongformerPreTrainedModel):
    """Extractive question answering. The question, all before the first separator, is global unless told otherwise."""

    auto_global_attention = "question"

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__(config)
        config = self.config
        self.longformer = HfLongformerModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        **kwargs: Unpack[HfLongformerKwargs],
    ) -> tuple | HfLongformerQuestionAnsweringOutput:
        """Arguments as in `HfLongformerModel.forward`; the positions `(batch,)` are those of the answer's tokens;
        positions outside the text are ignored. The loss knows real tokens only, so that padding does not change it.
        """
        outputs = self.encode(
            input_ids, attention_mask, global_attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
        )
        start_logits, end_logits = self.qa_outputs(outputs.last_hidden_state).unbind(dim=-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            if attention_mask is not None and self.config.position_counting == "input_ids":
                logger.warning_once("the loss leaves padding out, which stock Longformer's has among the candidates")
            spans = [(start_logits, start_positions), (end_logits, end_positions)]
            (starts, first), (ends, last) = (_among_real_tokens(*each, attention_mask) for each in spans)
            loss = self.loss_function(starts, ends, first, last, **loss_keywords(kwargs))
        return HfLongformerQuestionAnsweringOutput(
            loss=loss, start_logits=start_logits, end_logits=end_logits, **what_was_recorded(outputs)
        )


def _among_real_tokens(
    logits: torch.Tensor, positions: torch.Tensor, attention_mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits `(batch, S)` that expect nothing of padding, and positions `(batch,)` that are S if they lie outside."""
    length, positions = logits.shape[1], positions.flatten()
    real = torch.ones_like(logits, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    is_outside = (positions < 0) | (positions >= length)
    is_outside = is_outside | ~real.gather(1, positions.clamp(0, length - 1)[:, None])[:, 0]
    return logits.masked_fill(~real, torch.finfo(logits.dtype).min), positions.masked_fill(is_outside, length)


class HfLongformerForTokenClassification(HfLongformerPreTrainedModel):
    """A label for every token, or, with `config.tag_layers` above 1, one of every layer, as nested entities have."""

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__(config)
        config = self.config
        self.num_labels = config.num_labels
        self.longformer = HfLongformerModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, config.tag_layers * len(config.id2label or ()))
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[HfLongformerKwargs],
    ) -> tuple | HfLongformerTokenClassifierOutput:
        """Arguments as in `HfLongformerModel.forward`; `labels` `(batch, S)`, -100 where there is none. With several
        layers of tags `labels` are `(batch, S, layers)` and `logits` `(batch, S, layers, num_labels)`.
        """
        outputs = self.encode(
            input_ids, attention_mask, global_attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
        )
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        if self.config.tag_layers > 1:
            logits = logits.unflatten(-1, (self.config.tag_layers, -1))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config, **loss_keywords(kwargs))
        return HfLongformerTokenClassifierOutput(loss=loss, logits=logits, **what_was_recorded(outputs))


class HfLongformerForMultipleChoice(HfLongformerPreTrainedModel):
    """Chooses between texts. What follows the first separator is global unless told otherwise."""

    auto_global_attention = "after_separator"

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__(config)
        config = self.config
        self.longformer = HfLongformerModel(config)
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[HfLongformerKwargs],
    ) -> tuple | HfLongformerMultipleChoiceOutput:
        """Arguments as in `HfLongformerModel.forward` with one more dimension, `(batch, num_choices, S)`; `labels`
        `(batch,)`.
        """
        tokens = input_ids if input_ids is not None else inputs_embeds
        if tokens is None or tokens.dim() != (3 if input_ids is not None else 4):
            raise ValueError(
                "input_ids must have the shape (batch, num_choices, S), or inputs_embeds one dimension more, "
                f"got {None if tokens is None else tuple(tokens.shape)}"
            )
        num_choices = tokens.shape[1]
        input_ids, attention_mask, global_attention_mask, token_type_ids, position_ids, inputs_embeds = (
            None if tensor is None else tensor.flatten(0, 1)
            for tensor in (
                input_ids,
                attention_mask,
                global_attention_mask,
                token_type_ids,
                position_ids,
                inputs_embeds,
            )
        )
        outputs = self.encode(
            input_ids, attention_mask, global_attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
        )
        logits = self.classifier(self.dropout(outputs.pooler_output)).view(-1, num_choices)
        loss = None
        if labels is not None:
            labels = labels.to(logits.device)
            total = nn.functional.cross_entropy(logits, labels, reduction="sum")
            loss = over_all_items(total, labels.ne(-100).sum(), kwargs)
        return HfLongformerMultipleChoiceOutput(loss=loss, logits=logits, **what_was_recorded(outputs))


def _classifier_dropout(config: HfLongformerConfig) -> float:
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


def loss_keywords(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What `Trainer` passes for the loss, such as `num_items_in_batch`, without what is meant for the encoder."""
    return {name: value for name, value in kwargs.items() if not name.startswith("output_") and name not in OF_SEGMENTS}


def over_all_items(
    total: torch.Tensor, items: torch.Tensor | int, kwargs: Mapping[str, Any], uncounted: torch.Tensor | int = 0
) -> torch.Tensor:
    """The mean over the labels of one call; or its share of the mean over those of all calls that `Trainer` takes
    together, which it adds up without dividing, if the model takes `num_items_in_batch`.

    Args:
        total: The sum of the losses.
        items: Labels of this call.
        kwargs: Of `forward`.
        uncounted: Those of them that `num_items_in_batch` lacks.
    """
    of_all = kwargs.get("num_items_in_batch")
    if of_all is None:
        return total / items
    return total / ((of_all.to(total.device) if isinstance(of_all, torch.Tensor) else of_all) + uncounted)


def what_was_recorded(outputs: HfLongformerModelOutput) -> dict[str, Any]:
    """Hidden states and attention weights, where they were asked for."""
    return {name: outputs.get(name) for name in ("hidden_states", "attentions", "global_attentions")}


__all__ = [
    "HfLongformerForMaskedLM",
    "HfLongformerForMultipleChoice",
    "HfLongformerForQuestionAnswering",
    "HfLongformerForSequenceClassification",
    "HfLongformerForTokenClassification",
]
