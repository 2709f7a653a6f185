# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers with their evidence, in one model: HotpotQA in section 6 and appendix D of the paper.

A text holds a question and paragraphs, with a marker token at the beginning of every paragraph and at the end of every
sentence. The model says which tokens begin and end an answer, whether the answer is such a span, "yes" or "no", and at
the markers which sentences and which paragraphs the answer follows from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from .configuration_hf_longformer import HfLongformerConfig
from .modeling_heads_hf_longformer import over_all_items, what_was_recorded
from .modeling_hf_longformer import (
    HfLongformerKwargs,
    HfLongformerModel,
    HfLongformerPreTrainedModel,
    first_token_states,
)
from .transformers_internals import can_return_tuple, is_tracing

QUESTION_TYPES = ("span", "yes", "no")  # what `type_logits` and `labels` count


@dataclass
class HfLongformerEvidenceQuestionAnsweringOutput(QuestionAnsweringModelOutput):
    """Start and end logits `(batch, S)`, of tokens; type logits `(batch, 3)`, of `QUESTION_TYPES`; sentence logits
    `(batch, sentences)` and paragraph logits `(batch, paragraphs)`, of the markers, each the log-odds that the answer
    follows from it, and without a meaning where there is no marker. Attentions as in `HfLongformerModelOutput`.
    """

    type_logits: torch.Tensor | None = None
    sentence_logits: torch.Tensor | None = None
    paragraph_logits: torch.Tensor | None = None
    global_attentions: tuple[torch.Tensor, ...] | None = None


class HfLongformerTwoLayerHead(nn.Module):
    """Two dense layers with an activation between them: `(…, hidden_size)` to `(…, outputs)`."""

    def __init__(self, config: HfLongformerConfig, outputs: int) -> None:
        super().__init__()
        share = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.classifier_activation]
        self.dropout = nn.Dropout(share)
        self.out_proj = nn.Linear(config.hidden_size, outputs)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.out_proj(self.dropout(self.activation(self.dense(self.dropout(hidden_states)))))


class HfLongformerForEvidenceQuestionAnswering(HfLongformerPreTrainedModel):
    """Answers with the sentences and paragraphs that they follow from.

    Unless told otherwise, all before the first paragraph is global, which is the first token and the question, and so
    are the markers of paragraphs and sentences, as in the paper.
    """

    question_types = QUESTION_TYPES

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__(config)
        self.longformer = HfLongformerModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.type_head = HfLongformerTwoLayerHead(config, len(QUESTION_TYPES))
        self.sentence_head = HfLongformerTwoLayerHead(config, 1)
        self.paragraph_head = HfLongformerTwoLayerHead(config, 1)
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
        sentence_positions: torch.Tensor | None = None,
        paragraph_positions: torch.Tensor | None = None,
        context_mask: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        sentence_labels: torch.Tensor | None = None,
        paragraph_labels: torch.Tensor | None = None,
        **kwargs: Unpack[HfLongformerKwargs],
    ) -> tuple | HfLongformerEvidenceQuestionAnsweringOutput:
        """The first six arguments as in `HfLongformerModel.forward`.

        Args:
            sentence_positions: `(batch, sentences)`, where the markers of sentences stand, -1 where there is none.
            paragraph_positions: `(batch, paragraphs)`, the same of paragraphs.
            context_mask: `(batch, S)`, 1 for tokens that an answer may begin or end with, for the loss; if left out,
                all real tokens.
            start_positions, end_positions: `(batch, spans)`, the first and last tokens of all gold spans, padded with
                -1; all -1 where the answer stands nowhere.
            labels: `(batch,)`, the type of the question as its index in `QUESTION_TYPES`. With them, all gold values
                must be given.
            sentence_labels, paragraph_labels: As the positions, 1 for what the answer follows from, 0 for the rest,
                -100 where there is no marker.

        Returns:
            With the loss, if `labels` are given: of a text the sum of four, `evidence_losses`; and of the batch their
            mean, or the share of the mean over all texts that `Trainer` takes together.

        Raises:
            ValueError: If positions are missing or are not within the text, or some gold values are missing or of
                another shape.
        """
        tokens = input_ids if input_ids is not None else inputs_embeds
        sentences = _checked_positions("sentence_positions", sentence_positions, tokens)
        paragraphs = _checked_positions("paragraph_positions", paragraph_positions, tokens)
        if global_attention_mask is None and self.config.global_attention == "auto":
            global_attention_mask = _question_and_markers(tokens, attention_mask, sentences, paragraphs)
        outputs = self.encode(
            input_ids, attention_mask, global_attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
        )
        states: Any = outputs.last_hidden_state
        start_logits, end_logits = self.qa_outputs(states).unbind(dim=-1)
        type_logits = self.type_head(first_token_states(states, attention_mask))
        sentence_logits = self.sentence_head(_states_at(states, sentences))[..., 0]
        paragraph_logits = self.paragraph_head(_states_at(states, paragraphs))[..., 0]
        loss = None
        if labels is not None:
            gold: dict[str, Any] = {
                "start_positions": start_positions,
                "end_positions": end_positions,
                "sentence_labels": sentence_labels,
                "paragraph_labels": paragraph_labels,
            }
            _check_gold(gold, tokens, sentence_labels=sentences, paragraph_labels=paragraphs)
            among = context_mask if context_mask is not None else attention_mask
            candidates = torch.ones_like(start_logits, dtype=torch.bool) if among is None else among.bool()
            losses = evidence_losses(
                (start_logits, end_logits, type_logits, sentence_logits, paragraph_logits), candidates, labels, **gold
            )
            loss = over_all_items(sum(losses.values()).sum(), len(labels), kwargs)
        return HfLongformerEvidenceQuestionAnsweringOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            type_logits=type_logits,
            sentence_logits=sentence_logits,
            paragraph_logits=paragraph_logits,
            **what_was_recorded(outputs),
        )


def evidence_losses(
    logits: tuple[torch.Tensor, ...],
    candidates: torch.Tensor,
    labels: torch.Tensor,
    start_positions: torch.Tensor,
    end_positions: torch.Tensor,
    sentence_labels: torch.Tensor,
    paragraph_labels: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """The four losses of every text, `(batch,)` each, in nats, whose sum is trained on, every weight being 1.

    `span`: half of minus the log-probability of all gold first tokens together, and of all gold last ones (an OR over
    spans, as the paper has it for TriviaQA), over the tokens of the context; 0 without a gold span. `type`: the cross
    entropy of the three types. `sentences`, `paragraphs`: binary cross entropy, the mean over the markers of the text.

    Args:
        logits: Of starts, ends, types, sentences and paragraphs, as the model gives them.
        candidates: `(batch, S)` bool, the tokens that an answer may begin or end with.
        labels, start_positions, end_positions, sentence_labels, paragraph_labels: As in `forward`.
    """
    starts, ends, types, sentences, paragraphs = (one.float() for one in logits)
    spans = _any_of(starts, candidates, start_positions) + _any_of(ends, candidates, end_positions)
    return {
        "span": spans / 2,
        "type": nn.functional.cross_entropy(types, labels, reduction="none"),
        "sentences": _mean_over_markers(sentences, sentence_labels),
        "paragraphs": _mean_over_markers(paragraphs, paragraph_labels),
    }


def _any_of(logits: torch.Tensor, candidates: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    """Minus the log of the probability of all gold tokens together, `(batch,)`; 0 where there is none."""
    is_gold = torch.zeros_like(logits, dtype=torch.int).scatter_add(1, gold.clamp(min=0), (gold >= 0).int()) > 0
    lowest = torch.finfo(logits.dtype).min
    of_all = logits.masked_fill(~(candidates | is_gold), lowest).logsumexp(dim=-1)
    of_gold = logits.masked_fill(~is_gold, lowest).logsumexp(dim=-1)
    return (of_all - of_gold).masked_fill(~is_gold.any(dim=-1), 0.0)


def _mean_over_markers(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    present = labels >= 0
    each = nn.functional.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).float(), reduction="none")
    return each.masked_fill(~present, 0.0).sum(dim=-1) / present.sum(dim=-1).clamp(min=1)


def _states_at(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """`(batch, S, hidden_size)` at `(batch, markers)`: `(batch, markers, hidden_size)`."""
    return states.gather(1, positions.clamp(min=0)[..., None].expand(-1, -1, states.shape[-1]))


def _question_and_markers(
    tokens: Any, attention_mask: torch.Tensor | None, sentences: Any, paragraphs: Any
) -> torch.Tensor:
    """The mask `(batch, S)` of the tokens that are global by default; the first real one alone without a paragraph."""
    length = tokens.shape[1]
    place = torch.arange(length, device=tokens.device)
    real = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    real = real if attention_mask is None else attention_mask.bool()
    first_real = real.int().argmax(dim=1, keepdim=True)
    first = paragraphs.masked_fill(paragraphs < 0, length).amin(dim=1, keepdim=True)
    first = torch.where(first == length, first_real + 1, first)
    markers = torch.cat([sentences, paragraphs], dim=1)
    count = torch.zeros(real.shape, dtype=torch.int, device=tokens.device)
    is_marker = count.scatter_add(1, markers.clamp(min=0), (markers >= 0).int()) > 0
    return (((place < first) | is_marker) & real).long()


def _checked_positions(name: str, positions: torch.Tensor | None, tokens: Any) -> torch.Tensor:
    """The positions, `(batch, places)`, if they are such; `ValueError` if not."""
    if positions is None or positions.dim() != 2 or 0 in positions.shape:
        got = None if positions is None else tuple(positions.shape)
        raise ValueError(f"{name} must have the shape (batch, places), padded with -1, got {got}")
    if isinstance(tokens, torch.Tensor) and tokens.dim() > 1 and not is_tracing(positions):
        if len(positions) != len(tokens):
            raise ValueError(f"{name} must have a row for every text, got {len(positions)} for {len(tokens)} texts")
        least, most = int(positions.min()), int(positions.max())
        if least < -1 or most >= tokens.shape[1]:
            raise ValueError(f"{name} must lie in 0 … {tokens.shape[1] - 1}, or be -1, got {least} to {most}")
    return positions


def _check_gold(gold: Mapping[str, torch.Tensor | None], tokens: Any, **positions: torch.Tensor) -> None:
    """`ValueError` if a gold value is missing, or has another shape than the positions that it is of."""
    if missing := [name for name, value in gold.items() if value is None]:
        raise ValueError(f"labels need all gold values, got none for {', '.join(missing)}")
    for name in ("start_positions", "end_positions"):
        _checked_positions(name, gold[name], tokens)
    for name, places in positions.items():
        shape = tuple(getattr(gold[name], "shape", ()))
        if shape != places.shape:
            raise ValueError(
                f"{name} must have the shape of the positions that they are of, got {shape} for {tuple(places.shape)}"
            )


__all__ = ["QUESTION_TYPES", "HfLongformerForEvidenceQuestionAnswering", "evidence_losses"]
