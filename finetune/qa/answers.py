# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Spans of windows as answers to questions, and how good they are."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import ROW
from ..metrics import QuestionAnswering, answer_scores
from ..words import whole_words


@dataclass
class Answer:
    """What was found for a question.

    Args:
        candidates: Up to `n_best` answers, the likeliest first: `text`, `probability`, `start` and `end` (characters of
            the document, the first and behind the last), and `row`, the document's.
        null_score: The log of the probability that there is no answer, minus that of the best one.
    """

    candidates: list[dict[str, Any]]
    null_score: float

    def describe(self, null_threshold: float | None, n_best: int) -> dict[str, Any]:
        """What is written of a question: the answer with its probability and place, and others if there is room."""
        text = self.text(null_threshold)
        best = self.candidates[0] if text else {}
        found = {"answer": text, **{name: best.get(name) for name in ("probability", "start", "end")}}
        others = [{name: one[name] for name in one if name != ROW} for one in self.candidates[:n_best]]
        return {**found, "n_best": others} if n_best > 1 else found

    def text(self, null_threshold: float | None) -> str:
        """The answer; empty if there is none, or if its absence is likelier by more than the threshold."""
        if not self.candidates or (null_threshold is not None and self.null_score > null_threshold):
            return ""
        return self.candidates[0]["text"]


def answers_of(
    windows: Mapping[str, Any], spans: np.ndarray, rows: Mapping[str, Any], n_best: int
) -> dict[str, Answer]:
    """The best spans of all windows as answers to the questions, by `id`; each begins and ends where words do.

    Probabilities are of a window: that a span answers, among all spans of the window and "no answer here". The best
    over windows, and over several documents of one question, counts.

    Args:
        windows: Columns `offset_mapping` and `index`, as `make_windows` gives them.
        spans: `(windows, 1 + spans, 3)`, as `best_spans` gives them, some more than are wanted (`spans.SPARE`).
        rows: Columns `id`, `context` and `row` of the questions.
        n_best: How many answers to keep.
    """
    of_question: dict[str, list[tuple[float, int, int, int]]] = defaultdict(list)
    null: dict[str, float] = {}
    names = rows["id"]
    for offsets, index, found in zip(windows["offset_mapping"], windows["index"], spans, strict=True):
        name = names[index]
        null[name] = min(null.get(name, np.inf), float(found[0, 2]))
        for first, last, score in found[1:]:
            if np.isfinite(score):
                place = offsets[int(first)][0], offsets[int(last)][1]
                of_question[name].append((float(score), index, *place))
    answers = {}
    contexts, numbers = rows["context"], rows[ROW]
    for name, lowest in null.items():
        candidates: dict[tuple[int, int, int], dict[str, Any]] = {}
        for score, index, first, behind in sorted(of_question[name], key=lambda one: -one[0]):
            if len(candidates) < n_best:
                start, end = whole_words(first, behind, contexts[index])
                text = contexts[index][start:end]
                found = {"text": text, "probability": float(np.exp(score)), "start": start, "end": end}
                candidates.setdefault((index, start, end), {**found, "row": numbers[index]})
        best = max((one[0] for one in of_question[name]), default=-np.inf)
        answers[name] = Answer(list(candidates.values()), lowest - best)
    return answers


def scores(
    answers: dict[str, Answer], gold: dict[str, list[str]], null_threshold: float | None, normalisation: str | None
) -> dict[str, Any]:
    """What `QuestionAnswering` measures.

    Args:
        answers: By `id`.
        gold: Right answers by `id`; every question counts, whether answered or not.
        null_threshold: See `Answer.text`; None: there is always an answer.
        normalisation: None as SQuAD, or `"triviaqa"`.
    """
    nothing = Answer([], np.inf)
    texts = [answers.get(name, nothing).text(null_threshold) for name in gold]
    metric = QuestionAnswering(normalisation, keep_in_memory=True)
    return metric.compute(predictions=texts, references=list(gold.values()))


def choose_null_threshold(answers: dict[str, Answer], gold: dict[str, list[str]]) -> float:
    """The threshold with the best F1: to be chosen on a validation set, and kept for all others.

    Args:
        answers: By `id`.
        gold: Right answers by `id`.
    """
    order = sorted(gold, key=lambda name: answers[name].null_score)
    answered = np.asarray([answer_scores(answers[name].text(None), gold[name])[1] for name in order])
    silent = np.asarray([answer_scores("", gold[name])[1] for name in order])
    # With the threshold behind the first k questions, those are answered and the others are not.
    totals = np.concatenate([[0], answered.cumsum()]) + silent.sum() - np.concatenate([[0], silent.cumsum()])
    best = int(totals.argmax())
    scores_ = [answers[name].null_score for name in order]
    below = scores_[best - 1] if best else min(scores_) - 1.0
    above = scores_[best] if best < len(order) else max(scores_) + 1.0
    return float((below + above) / 2)
