# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""From logits to an answer with its evidence: the same in training and in prediction."""

from typing import Any

import numpy as np

from ..words import whole_words
from .windows import QUESTION_TYPES

PARAGRAPHS = 2  # that an answer follows from: so HotpotQA was made
LOGITS = ("start", "end", "type", "sentence", "paragraph")  # of a window, in the order of the model's outputs


def decode(
    row: dict[str, Any], windows: list[dict[str, Any]], outputs: list[tuple[np.ndarray, ...]], answer_length: int
) -> dict[str, Any]:
    """The answer to a question, and the sentences that it follows from.

    Evidence comes from exactly two paragraphs, as in appendix D of the paper: the two that are likeliest by their own
    logits, or the only one there is. In each of them these are the sentences that are likelier than not, and at least
    the likeliest. The answer comes from them, too, which the paper leaves open: a span lies in the title or in one
    sentence of these two paragraphs, so that it never stands where there is no evidence. Whether it is a span, "yes" or
    "no" is what the windows say on average. Of spans in several windows the logits count as they are, as BERT has it
    for SQuAD.

    Args:
        row: The question, with `titles` and `sentences`.
        windows: All of its windows, as `cut_question` gives them.
        outputs: Of every window the logits in the order of `LOGITS`; what is beyond its tokens and markers is padding.
        answer_length: Tokens of a span, at most.

    Returns:
        `answer`, empty only where there is nothing to answer with; `type`; `title`, `sentence` (None: the title
        itself), `start` and `end`, where a span stands: its characters there, the first and the one behind the last;
        `probability`, that of the type, and for a span that times those of its first and last token among all of the
        two paragraphs; and `supporting_facts`, `[[title, number of the sentence], …]`.
    """
    found = [dict(zip(LOGITS, map(_numbers, one), strict=True)) for one in outputs]
    kinds = np.mean([_log_softmax(one["type"]) for one in found], axis=0)
    kinds -= _log_sum(kinds)
    kind = int(kinds.argmax())
    chosen, facts = _evidence(windows, found)
    titles = row["titles"]
    result: dict[str, Any] = {"answer": QUESTION_TYPES[kind], "type": QUESTION_TYPES[kind]}
    result |= dict.fromkeys(("title", "sentence", "start", "end"))
    score = kinds[kind]
    if QUESTION_TYPES[kind] == "span":
        span = _best_span(windows, found, chosen, answer_length)
        result["answer"] = ""
        if span is not None:
            (paragraph, sentence, first, _), (_, _, _, behind), likelihood = span
            text = titles[paragraph] if sentence < 0 else row["sentences"][paragraph][sentence]
            start, end = _without_space(text, *whole_words(first, behind, text))
            place = {"title": titles[paragraph], "sentence": None if sentence < 0 else sentence}
            result |= {"answer": text[start:end], **place, "start": start, "end": end}
            score += likelihood
    supporting = [[titles[paragraph], sentence] for paragraph, sentence in facts]
    return {**result, "probability": float(np.exp(score)), "supporting_facts": supporting}


def _evidence(windows: list[dict[str, Any]], found: list[dict[str, np.ndarray]]) -> tuple[list[int], list[Any]]:
    """The chosen paragraphs, and pairs of paragraph and sentence, both in the order of the text."""
    sentences: dict[int, dict[int, float]] = {}
    paragraphs: dict[int, float] = {}
    for window, logits in zip(windows, found, strict=True):
        for (paragraph, sentence), logit in zip(window["sentences"], logits["sentence"], strict=False):
            sentences.setdefault(paragraph, {})[sentence] = float(logit)
        paragraphs |= dict(zip(window["paragraphs"], map(float, logits["paragraph"]), strict=False))
    with_sentences = sorted(sentences, key=lambda paragraph: -paragraphs[paragraph])
    chosen = sorted(with_sentences[:PARAGRAPHS])
    facts = []
    for paragraph in chosen:
        least = min(0.0, max(sentences[paragraph].values()))
        facts += [(paragraph, sentence) for sentence, logit in sorted(sentences[paragraph].items()) if logit >= least]
    return chosen, facts


def _best_span(
    windows: list[dict[str, Any]], found: list[dict[str, np.ndarray]], chosen: list[int], answer_length: int
) -> tuple[Any, Any, float] | None:
    """The places of the first and the last token of the likeliest span, and the log of its probability."""
    places, starts, ends = [], [], []
    for window, logits in zip(windows, found, strict=True):
        kept = [token for token, place in enumerate(window["places"]) if place[0] in chosen]
        places += [window["places"][token] for token in kept]
        starts.append(logits["start"][kept])
        ends.append(logits["end"][kept])
    if not places:
        return None
    start, end = (_log_softmax(np.concatenate(logits)) for logits in (starts, ends))
    texts = np.asarray(places)[:, :2]
    best = (-np.inf, 0, 0)
    for more in range(min(answer_length, len(places))):
        size = len(places) - more
        is_of_one_text = (texts[:size] == texts[more:]).all(axis=1)
        scores = np.where(is_of_one_text, start[:size] + end[more:], -np.inf)
        first = int(scores.argmax())
        best = max(best, (float(scores[first]), first, first + more))
    score, first, last = best
    return places[first], places[last], score


def _without_space(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space at its ends."""
    inside = text[start:end]
    return start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())


def _numbers(logits: Any) -> np.ndarray:
    return np.asarray(logits, dtype=np.float64)


def _log_sum(logits: np.ndarray) -> float:
    highest = logits.max()
    return float(highest + np.log(np.exp(logits - highest).sum()))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - _log_sum(logits)
