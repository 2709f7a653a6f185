# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Coreference: which spans of a document speak of the same thing, scored from the first and last tokens of spans.

The scorer is that of Kirstain et al. 2021 (arXiv 2101.00434), without representations of spans: a span's score is made
of its first and last word, and the score of two spans of theirs. Here it is computed in blocks of rows, so that nothing
grows with words × words × hidden size, and a span says what distance and equal words are to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.utils import ModelOutput

from .configuration_hf_longformer import HfLongformerConfig
from .modeling_heads_hf_longformer import over_all_items, what_was_recorded
from .modeling_hf_longformer import HfLongformerKwargs, HfLongformerModel, HfLongformerPreTrainedModel
from .transformers_internals import can_return_tuple, initialization as init

ROWS = 256  # spans, or words, that are scored at once
DISTANCES = 16  # buckets, by powers of two
RARE = -5.0  # the logit of spans before training: of 150, one is a mention, as in LitBank about one of 200 is
RELATIONS = 3  # two spans have the same words, the same last word, or neither


@dataclass
class HfLongformerCoreferenceOutput(ModelOutput):
    """What is said of the likeliest mentions, in the order of the text; rows are padded with -1 and minus infinity.

    Args:
        loss: In nats per gold mention, if `labels` were given.
        spans: `(batch, K, 2)` int64, the first and the last word.
        mention_logits: `(batch, K)`, how likely a span is a mention: above 0 if it is.
        antecedents: `(batch, K)` int64, the likeliest earlier span that speaks of the same, as its place in `spans`; -1
            for the first, before which there is none.
        antecedent_logits: `(batch, K)`, the score of that pair: above 0 if it is likelier than that there is none.
    """

    loss: torch.Tensor | None = None
    spans: torch.Tensor | None = None
    mention_logits: torch.Tensor | None = None
    antecedents: torch.Tensor | None = None
    antecedent_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    global_attentions: tuple[torch.Tensor, ...] | None = None


class HfLongformerEdges(nn.Module):
    """What a scorer sees of words as the first and as the last of spans: `(words, hidden_size)` to `(words, size)`."""

    def __init__(self, config: HfLongformerConfig, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, size)
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.norm(self.dropout(nn.functional.gelu(self.dense(states))))


class HfLongformerMentionScorer(nn.Module):
    """How likely every span of at most so many words is a mention."""

    def __init__(self, config: HfLongformerConfig, size: int) -> None:
        super().__init__()
        self.start, self.end = HfLongformerEdges(config, size), HfLongformerEdges(config, size)
        self.start_out, self.end_out = nn.Linear(size, 1), nn.Linear(size, 1)
        self.together = nn.Linear(size, size)

    def forward(self, first: torch.Tensor, last: torch.Tensor, width: int) -> torch.Tensor:
        """Logits `(words, width)`: of the span that begins at a word and has 1, 2, … words; minus infinity beyond the
        text. `first` and `last` are states `(words, hidden_size)` of the first and last token of every word.
        """
        start, end = self.start(first), self.end(last)
        words, rows = len(start), min(ROWS, len(start))
        blocks = -(-words // rows)
        start, of_start = (_padded(one, blocks * rows - words) for one in (start, self.start_out(start)))
        end, of_end = (_padded(one, blocks * rows - words + width - 1) for one in (end, self.end_out(end)))
        queries = (self.together(start) / start.shape[1] ** 0.5).view(blocks, rows, -1)
        keys = end.unfold(0, rows + width - 1, rows)  # (blocks, size, rows + width - 1)
        place = torch.arange(rows, device=start.device)[:, None] + torch.arange(width, device=start.device)
        joint = (queries @ keys).gather(2, place.expand(blocks, -1, -1)).flatten(0, 1)
        logits = joint + of_start + of_end[:, 0].unfold(0, width, 1)[: blocks * rows]
        ends = torch.arange(words, device=start.device)[:, None] + torch.arange(width, device=start.device)
        return logits[:words].masked_fill(ends >= words, -torch.inf)


class HfLongformerAntecedentScorer(nn.Module):
    """How likely two spans speak of the same."""

    def __init__(self, config: HfLongformerConfig, size: int) -> None:
        super().__init__()
        self.start, self.end = HfLongformerEdges(config, size), HfLongformerEdges(config, size)
        self.together = nn.Linear(2 * size, 2 * size)  # the four products of starts and ends with starts and ends
        self.pair = nn.Linear(2 * size, RELATIONS * DISTANCES)

    def edges(self, first: torch.Tensor, last: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        """`(spans, 2 · size)`, of spans `(spans, 2)`; states as in `HfLongformerMentionScorer`."""
        return torch.cat([self.start(first[spans[:, 0]]), self.end(last[spans[:, 1]])], dim=-1)

    def forward(
        self, rows: torch.Tensor, columns: torch.Tensor, distances: torch.Tensor, relations: torch.Tensor
    ) -> torch.Tensor:
        """Scores `(rows, columns)`, of edges `(rows, 2 · size)` and `(columns, 2 · size)`.

        What a distance and equal words say depends on the span: of a pronoun's, nearness; of a name's, the words.
        """
        buckets = (distances.clamp(min=1).float().log2().long()).clamp(max=DISTANCES - 1)
        of_pair = self.pair(rows).gather(1, relations * DISTANCES + buckets)
        return self.together(rows) / rows.shape[1] ** 0.5 @ columns.T + of_pair


class HfLongformerForCoreference(HfLongformerPreTrainedModel):
    """Mentions, and for each the earlier one that speaks of the same. The settings stand in `config.coreference`."""

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__(config)
        settings = config.coreference_settings
        self.width, self.share, self.farthest = settings["width"], settings["share"], settings["farthest"]
        self.longformer = HfLongformerModel(config, add_pooling_layer=False)
        self.mention_scorer = HfLongformerMentionScorer(config, settings["size"])
        self.antecedent_scorer = HfLongformerAntecedentScorer(config, settings["size"])
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.mention_scorer.start_out:
            init.constant_(module.bias, RARE)  # or the first steps would learn nothing but that

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        word_tokens: torch.Tensor | None = None,
        word_keys: torch.Tensor | None = None,
        mentions: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[HfLongformerKwargs],
    ) -> tuple | HfLongformerCoreferenceOutput:
        """Arguments as in `HfLongformerModel.forward`, and:

        `word_tokens`: `(batch, words, 2)` int64, the first and the last token of every word, rows padded with -1.
        `word_keys`: `(batch, words)` int64, the same number for the same word, such as a hash; by it spans with the
        same words are known.
        `mentions`: `(batch, mentions, 2)` int64, the first and the last word of gold mentions, padded with -1.
        `labels`: `(batch, mentions)` int64, the clusters of these; those of -100 are none.

        Raises:
            ValueError: If `word_tokens` or `word_keys` are missing, or one of `mentions` and `labels`.
        """
        if word_tokens is None or word_keys is None:
            raise ValueError("word_tokens and word_keys are needed, which say what the words are, got none of one")
        if (mentions is None) != (labels is None):
            raise ValueError("mentions and labels belong together, got one of them")
        outputs = self.encode(
            input_ids, attention_mask, global_attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
        )
        found, losses = [], []
        for row, states in enumerate(outputs.last_hidden_state):  # type: ignore[arg-type]
            tokens = word_tokens[row][word_tokens[row, :, 0] >= 0]
            gold = None
            if mentions is not None and labels is not None:
                gold = torch.cat([mentions[row], labels[row, :, None]], dim=1)[labels[row] != -100]
            one, of_text = self._of_text(
                states[tokens[:, 0]], states[tokens[:, 1]], word_keys[row, : len(tokens)], gold
            )
            found.append(one)
            losses.append(of_text)
        loss: torch.Tensor | None = None
        if labels is not None:
            loss = _per_mention(torch.stack(losses).sum(), (labels != -100).sum(), kwargs)
        spans, scores, antecedents, pair_scores = _batched(found)
        return HfLongformerCoreferenceOutput(
            loss=loss,
            spans=spans,
            mention_logits=scores,
            antecedents=antecedents,
            antecedent_logits=pair_scores,
            **what_was_recorded(outputs),
        )

    def _of_text(
        self, first: torch.Tensor, last: torch.Tensor, keys: torch.Tensor, gold: torch.Tensor | None
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """What the output holds of one text, and its loss: the sums of `_mention_loss` and of all blocks."""
        logits = _in_full(self.mention_scorer(first, last, self.width))
        number = min(max(1, int(self.share * len(first))), int((logits != -torch.inf).sum()))
        chosen = logits.detach().flatten().topk(number).indices.sort().values
        spans = torch.stack([chosen // self.width, chosen // self.width + chosen % self.width], dim=-1)
        scores = logits.flatten()[chosen]
        edges = self.antecedent_scorer.edges(first, last, spans)
        words = torch.cat([keys.new_zeros(1), keys.cumsum(0)])
        texts, heads = words[spans[:, 1] + 1] - words[spans[:, 0]], keys[spans[:, 1]]
        clusters, loss = None, logits.new_zeros(())
        if gold is not None:
            table = _cluster_table(gold, logits)
            clusters, loss = table.flatten()[chosen], _mention_loss(logits, table)
        antecedents, pair_logits = [], []
        for begin in range(0, number, ROWS):
            end = min(begin + ROWS, number)
            low = max(0, begin - self.farthest) if self.farthest else 0
            given = (edges, scores, spans, texts, heads, clusters, begin, end, low)
            again = torch.is_grad_enabled() and number > 2 * ROWS
            best, place, of_block = (
                checkpoint(self._block, *given, use_reentrant=False) if again else self._block(*given)
            )
            antecedents.append(place)
            pair_logits.append(best)
            loss = loss + of_block
        return (spans, scores, torch.cat(antecedents), torch.cat(pair_logits)), loss

    def _block(
        self,
        edges: torch.Tensor,
        scores: torch.Tensor,
        spans: torch.Tensor,
        texts: torch.Tensor,
        heads: torch.Tensor,
        clusters: torch.Tensor | None,
        begin: int,
        end: int,
        low: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows `begin` to `end` of the table of pairs, with columns from `low`: the best score of every row, the place
        of that span or -1, and the sum of losses.
        """
        rows, columns = slice(begin, end), slice(low, end)
        relations = torch.where(heads[rows, None] == heads[columns], 1, 2)
        relations = relations.masked_fill(texts[rows, None] == texts[columns], 0)
        distances = spans[rows, None, 0] - spans[columns, 0]
        pairs = _in_full(self.antecedent_scorer(edges[rows], edges[columns], distances, relations))
        pairs = pairs + scores[rows, None] + scores[columns]
        place = torch.arange(low, end, device=edges.device)
        gap = place[begin - low :, None] - place
        is_hidden = gap < 1
        if self.farthest:
            is_hidden = is_hidden | (gap > self.farthest)
        pairs = pairs.masked_fill(is_hidden, -torch.inf)
        best, index = pairs.detach().max(dim=1)
        loss = edges.new_zeros(())
        if clusters is not None:
            is_same = (clusters[rows, None] == clusters[columns]) & (clusters[rows, None] >= 0) & pairs.isfinite()
            with_none = torch.cat([pairs.new_zeros(len(pairs), 1), pairs], dim=1)
            is_right = torch.cat([~is_same.any(dim=1, keepdim=True), is_same], dim=1)
            loss = (with_none.logsumexp(1) - with_none.masked_fill(~is_right, -torch.inf).logsumexp(1)).sum()
        return best, torch.where(best.isfinite(), place[index], -1), loss


def _per_mention(total: torch.Tensor, mentions: torch.Tensor, kwargs: Mapping[str, Any]) -> torch.Tensor:
    """The share of a mean over gold mentions; of texts without any, the sum."""
    items = kwargs.get("num_items_in_batch")
    known = {} if items is None else {"num_items_in_batch": torch.as_tensor(items).clamp(min=1)}
    return over_all_items(total, mentions.clamp(min=1), known)


def _in_full(scores: torch.Tensor) -> torch.Tensor:
    """In float32 at least: sums over thousands of scores are to come."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _padded(values: torch.Tensor, rows: int) -> torch.Tensor:
    """With so many rows of zeros behind."""
    return nn.functional.pad(values, (0, 0, 0, rows))


def _cluster_table(gold: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The cluster of every span, `(words, width)` as `logits`; -1 for those that are no gold mention."""
    table = torch.full_like(logits, -1, dtype=torch.long)
    inside = gold[gold[:, 1] - gold[:, 0] < logits.shape[1]]
    table[inside[:, 0], inside[:, 1] - inside[:, 0]] = inside[:, 2]
    return table


def _mention_loss(logits: torch.Tensor, clusters: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of all spans, `(words, width)`, being mentions, which have a cluster, or not: a sum."""
    possible = logits != -torch.inf
    target = (clusters[possible] >= 0).to(logits.dtype)
    return nn.functional.binary_cross_entropy_with_logits(logits[possible], target, reduction="sum")


def _batched(found: list[tuple[torch.Tensor, ...]]) -> list[torch.Tensor]:
    """Rows of several texts, padded."""
    return [
        nn.utils.rnn.pad_sequence(list(column), batch_first=True, padding_value=padding)
        for column, padding in zip(zip(*found, strict=True), (-1, -torch.inf, -1, -torch.inf), strict=True)
    ]


__all__ = ["HfLongformerCoreferenceOutput", "HfLongformerForCoreference"]
