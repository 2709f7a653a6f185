# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Entities in documents of any length from a trained checkpoint."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from hf_longformer import HfLongformerForTokenClassification
from hf_longformer.conversion import InputError

from ..metrics import entities, scheme_of
from ..prediction import model_inputs
from ..windows import CUT
from ..word_prediction import PLACE, TEXT, WordsPredictor
from ..words import Encoded, cut_texts, owners_of, with_special_tokens
from .words import OUTSIDE

STRATEGIES = ("none", "simple", "first", "average", "max")


class TokenClassificationPredictor(WordsPredictor):
    """The entities of documents."""

    task = "token-classification"
    model_class = HfLongformerForTokenClassification
    # The first token of a word is the one that training labels.
    defaults = {"max_seq_length": None, "stride": None, "aggregation_strategy": "first"}

    def __init__(self, model: Any, tokenizer: Any, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        strategy = self.options["aggregation_strategy"]
        if strategy not in STRATEGIES:
            raise InputError(f"aggregation_strategy must be one of {', '.join(STRATEGIES)}, got {strategy}")
        self.names = [model.config.id2label[number] for number in range(model.config.num_labels)]
        self.scheme = scheme_of(self.names)

    def windows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of tokens, each with the index `text` of its row; what they are cut from is added to the rows."""
        found = []
        options = {"length": self.options["max_seq_length"], "stride": self.options["stride"]}
        texts = cut_texts(self.tokenizer, [row["words"] for row in rows], **options)
        for number, (row, (one, cut)) in enumerate(zip(rows, texts, strict=True)):
            row |= {"encoded": one, "cut": cut}
            for begin, end in cut:
                ids = with_special_tokens(self.tokenizer, one.ids[begin:end])
                found.append({"input_ids": ids, "text": number, CUT: 0})
        return found

    def forward(self, windows: list[dict[str, Any]]) -> Iterable[Any]:
        """Logits `(tokens, layers, tags)` of every window of a batch, without special tokens and padding."""
        batch = model_inputs(self, windows)
        logits = self.model(**batch).logits.float().cpu().numpy()
        logits = logits.reshape(*logits.shape[:2], -1, len(self.names))
        real = batch["attention_mask"].bool().cpu().numpy()
        return [one[kept][1:-1] for one, kept in zip(logits, real, strict=True)]

    def results(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """The entities of every row."""
        of_row: list[list[Any]] = [[] for _ in rows]
        for window, output in zip(windows, outputs, strict=True):
            of_row[window["text"]].append(output)
        return [{"entities": self._entities(row, logits)} for row, logits in zip(rows, of_row, strict=True)]

    def fields(self) -> dict[str, pa.DataType]:
        """The list of entities; `start_word` and `end_word` are null where words were not given."""
        kind = "entity" if self.options["aggregation_strategy"] == "none" else "entity_group"
        entity = {kind: pa.string(), "score": pa.float64(), "word": pa.string(), **PLACE}
        return {"entities": pa.list_(pa.struct(entity))}

    def _entities(self, row: dict[str, Any], logits: list[np.ndarray]) -> list[dict[str, Any]]:
        """What is said of one row, from the logits of its windows."""
        strategy, places = self.options["aggregation_strategy"], row["places"]
        scores = joined(logits, row["cut"])
        if strategy in ("none", "simple"):
            words = row["encoded"].words
            units = [
                (places[word][0] + begin, places[word][0] + end, word)
                for word, (begin, end) in zip(words, row["encoded"].characters, strict=True)
            ]
        else:
            scores = of_words(scores, row["encoded"], strategy)
            units = [(*place, word) for word, place in enumerate(places)]
        found = []
        for (first, behind, kind), score in self._spans(scores).items():
            (start, _, word), (_, end, last) = units[first], units[behind - 1]
            entity = {
                "entity" if strategy == "none" else "entity_group": kind,
                "score": score,
                "word": row[TEXT][start:end],
                "start": start,
                "end": end,
            }
            found.append(entity | self.word_places(row, word, last + 1))
        return found

    def _spans(self, scores: np.ndarray) -> dict[tuple[int, int, str], float]:
        """First unit, the one behind the last, and kind of all entities, by their places, the longer first; and their
        scores. What several layers hold is one, with the best score.

        Args:
            scores: `(units, layers, tags)`, of words or tokens.
        """
        found: dict[tuple[int, int, str], float] = {}
        for layer in range(scores.shape[1]):
            tags = [self.names[number] for number in scores[:, layer].argmax(axis=-1)]
            values = scores[:, layer].max(axis=-1, initial=0)
            if self.options["aggregation_strategy"] == "none":
                spans = [(unit, unit + 1, tag) for unit, tag in enumerate(tags) if tag != OUTSIDE]
            else:
                spans = entities(tags, self.scheme)
            for span in spans:
                found[span] = max(found.get(span, 0.0), float(values[span[0] : span[1]].mean()))
        return {span: found[span] for span in sorted(found, key=lambda span: (span[0], -span[1], span[2]))}


def joined(logits: list[np.ndarray], windows: list[tuple[int, int]]) -> np.ndarray:
    """The probabilities of tags `(tokens, layers, tags)` of a text, every token from the window in which it stands
    farthest from an edge.

    Args:
        logits: `(tokens, layers, tags)` of every window.
        windows: As `cut_words` gives them.
    """
    owners = owners_of(windows, list(range(windows[-1][1])))
    rows = [logits[owner][token - windows[owner][0]] for token, owner in enumerate(owners)]
    values = np.stack(rows).astype(np.float64) if rows else np.zeros((0, *logits[0].shape[1:]))
    powers = np.exp(values - values.max(axis=-1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=-1, keepdims=True)


def of_words(scores: np.ndarray, encoded: Encoded, strategy: str) -> np.ndarray:
    """The probabilities of tags `(words, layers, tags)`: of a word's first token, of the mean of its tokens, or of the
    token that is surest of its tag, as the pipeline of Transformers has it.

    Args:
        scores: `(tokens, layers, tags)`.
        encoded: The text.
        strategy: `"first"`, `"average"` or `"max"`.
    """
    if strategy == "first" or not encoded.starts:
        return scores[encoded.starts]
    parts = np.split(scores, encoded.starts[1:])
    if strategy == "average":
        return np.stack([part.mean(axis=0) for part in parts])
    surest = [part.max(axis=-1).argmax(axis=0) for part in parts]  # per layer, which token
    return np.stack([part[best, np.arange(len(best))] for part, best in zip(parts, surest, strict=True)])
