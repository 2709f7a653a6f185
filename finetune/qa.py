# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Question answering over documents of any length: windows, the loss over all right spans, and answers as text."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from .data import ROW, Table
from .metrics import QuestionAnswering, answer_scores
from .training import LongTrainer
from .windows import CUT, encode

FIRST_STARTS = 20  # the likeliest first tokens, and as many last ones, that are combined to answers


def make_windows(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int,
    stride: int,
    question_length: int,
    answer_loss: str = "any",
    workers: int | None = None,
) -> Dataset:
    """Questions with pieces of their documents, as rows of tokens.

    Args:
        rows: As `qa_data.read_questions` gives them.
        tokenizer: Of the model.
        length: Tokens at once, question and special tokens included.
        stride: Tokens of the document that neighbouring windows share.
        question_length: Tokens of a question; what is beyond is left out.
        answer_loss: `"any"`: every right span; `"first"`: the first one only.
        workers: Processes that tokenise.

    Returns:
        One row per window: what the tokenizer makes, `offset_mapping` (characters of the document; -1 elsewhere),
        `starts` and `ends` (tokens of right spans in this window, as many of each), `length`, and `index`, the question
        in `rows`.
    """

    def cut_batch(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        """Questions as windows of their documents."""
        windows = cut_questions(
            batch["question"],
            batch["context"],
            tokenizer,
            length=length,
            stride=stride,
            question_length=question_length,
        )
        texts = windows.pop("text")
        spans = [batch["spans"][text][: 1 if answer_loss == "first" else None] for text in texts]
        tokens = [tokens_of(*pair) for pair in zip(windows["offset_mapping"], spans, strict=True)]
        windows["starts"], windows["ends"] = ([[one[side] for one in found] for found in tokens] for side in (0, 1))
        return {**windows, "index": [indices[text] for text in texts]}

    return rows.map(
        cut_batch, batched=True, batch_size=50, with_indices=True, remove_columns=rows.column_names, num_proc=workers
    )


def cut_questions(
    questions: list[str],
    contexts: list[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int,
    stride: int,
    question_length: int,
) -> dict[str, list[Any]]:
    """Columns with one entry per window, as `windows.encode` makes them; arguments as in `make_windows`. `cut` is how
    many tokens of the question were left out.
    """
    shortened = [_shorten(text.strip(), tokenizer, question_length) for text in questions]
    columns = encode(tokenizer, [text for text, _ in shortened], contexts, length=length, stride=stride, offsets=True)
    return {**columns, CUT: [shortened[text][1] for text in columns["text"]]}


def _shorten(question: str, tokenizer: PreTrainedTokenizerBase, tokens: int) -> tuple[str, int]:
    """The first so many tokens of a question, and how many more it has."""
    encoded = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = encoded["offset_mapping"]
    cut = max(0, len(offsets) - tokens)
    return (question[: offsets[tokens - 1][1]] if cut else question), cut


def tokens_of(offsets: list[tuple[int, int]], spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """First and last token of those spans of characters that lie in a window as a whole.

    Args:
        offsets: First character of every token and the one behind its last; -1 twice for tokens of something else.
        spans: First character and the one behind the last.
    """
    bounds = np.asarray(offsets)
    inside = np.flatnonzero(bounds[:, 0] >= 0)
    found = []
    if len(inside):
        starts, ends = bounds[inside, 0], bounds[inside, 1]
        for first, behind in spans:
            if starts[0] <= first and behind <= ends[-1]:
                begin = int(np.searchsorted(ends, first, side="right"))
                end = int(np.searchsorted(starts, behind, side="left")) - 1
                if begin <= end:
                    found.append((int(inside[begin]), int(inside[end])))
    return list(dict.fromkeys(found))


class WindowCollator:
    """Makes a batch of windows.

    Beside the model's own inputs it has `candidates` `(batch, S)`, true for tokens of the document and for the first
    token, which stands for "no answer here"; `starts` and `ends` `(batch, spans)`, right tokens, padded with -1 (the
    first token if there is no answer); and `labels` `(batch,)`, the question of every window.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer, self.pad = tokenizer, DataCollatorWithPadding(tokenizer)

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        names = self.tokenizer.model_input_names
        batch = dict(self.pad([{name: one[name] for name in names if name in one} for one in features]))
        length = batch["input_ids"].shape[1]
        batch["candidates"] = torch.zeros(len(features), length, dtype=torch.bool)
        spans = max(1, *(len(one["starts"]) for one in features))
        batch["starts"], batch["ends"] = (torch.full((len(features), spans), -1) for _ in range(2))
        for row, one in enumerate(features):
            own = len(one["input_ids"])
            shift = length - own if self.tokenizer.padding_side == "left" else 0
            inside = torch.as_tensor(one["offset_mapping"])[:, 0] >= 0
            batch["candidates"][row, shift : shift + own] = inside
            batch["candidates"][row, shift] = True
            for name in ("starts", "ends"):
                right = torch.as_tensor(one[name] or [0]) + shift
                batch[name][row, : len(right)] = right
        batch["labels"] = torch.as_tensor([one["index"] for one in features])
        return batch


def span_loss(logits: torch.Tensor, candidates: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Minus the log of the probability of all right tokens together, `(batch,)`: an OR over spans, as in section 6.

    Args:
        logits: `(batch, S)`, of first or of last tokens.
        candidates: `(batch, S)`, the tokens among which one is chosen.
        right: `(batch, spans)`, positions, padded with -1.
    """
    logits = logits.float().masked_fill(~candidates, -torch.inf)
    is_right = torch.zeros_like(candidates)
    rows, columns = (right >= 0).nonzero(as_tuple=True)
    is_right[rows, right[rows, columns]] = True
    return logits.logsumexp(dim=-1) - logits.masked_fill(~is_right, -torch.inf).logsumexp(dim=-1)


@torch.no_grad()
def best_spans(
    start_logits: torch.Tensor, end_logits: torch.Tensor, candidates: torch.Tensor, n_best: int, answer_length: int
) -> torch.Tensor:
    """The likeliest answers of every window.

    Args:
        start_logits: `(batch, S)`.
        end_logits: `(batch, S)`.
        candidates: `(batch, S)`; the first of a row stands for "no answer here".
        n_best: How many.
        answer_length: Tokens of an answer, at most.

    Returns:
        `(batch, 1 + n_best, 3)`, float32: first token, last token, and the log of the probability; "no answer here"
        first, then by probability, and minus infinity where a window has not so many.
    """
    start, end = (
        logits.float().masked_fill(~candidates, -torch.inf).log_softmax(dim=-1) for logits in (start_logits, end_logits)
    )
    null = candidates.int().argmax(dim=-1, keepdim=True)
    nothing = torch.cat([null, null, start.gather(1, null) + end.gather(1, null)], dim=1)[:, None]
    number = min(FIRST_STARTS, start.shape[1])
    start, first = start.scatter(1, null, -torch.inf).topk(number)
    end, last = end.scatter(1, null, -torch.inf).topk(number)
    size = last[:, None, :] - first[:, :, None] + 1
    together = (start[:, :, None] + end[:, None, :]).masked_fill((size < 1) | (size > answer_length), -torch.inf)
    score, place = together.flatten(1).topk(min(n_best, number * number))
    spans = [first.gather(1, place // number), last.gather(1, place % number), score]
    found = torch.stack([one.float() for one in spans], dim=-1)
    missing = n_best - found.shape[1]
    padding = found.new_full((len(found), missing, 3), -torch.inf)
    return torch.cat([nothing.float(), found, padding], dim=1)


def spans_of(outputs: Any, batch: dict[str, Any], tokenizer: Any, n_best: int, answer_length: int) -> torch.Tensor:
    """`best_spans` of a batch, with positions counted from the first real token."""
    spans = best_spans(outputs.start_logits, outputs.end_logits, batch["candidates"], n_best, answer_length)
    if tokenizer.padding_side == "left":
        spans[:, :, :2] -= (batch["attention_mask"] == 0).sum(dim=1)[:, None, None]
    return spans


class QuestionAnsweringTrainer(LongTrainer):
    """A trainer with the loss over all right spans, whose predictions are the best spans of every window.

    Args:
        n_best: Spans that are kept of a window.
        answer_length: Tokens of an answer, at most.
    """

    def __init__(self, *args: Any, n_best: int, answer_length: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.n_best, self.answer_length = n_best, answer_length
        self.label_names = ["labels"]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over all windows of a step, on all processes, of the loss of first and last tokens."""
        names = ("candidates", "starts", "ends", "labels")
        candidates, starts, ends, _ = (inputs[name] for name in names)
        outputs = model(**{name: value for name, value in inputs.items() if name not in names})
        losses = span_loss(outputs.start_logits, candidates, starts) + span_loss(outputs.end_logits, candidates, ends)
        if num_items_in_batch is None:
            loss = losses.mean() / 2
        else:
            processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            loss = losses.sum() / 2 / num_items_in_batch * processes
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Loss, best spans `(batch, 1 + n_best, 3)` and the question of every window `(batch,)`."""
        inputs = self.prepared_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        spans = spans_of(outputs, inputs, self.processing_class, self.n_best, self.answer_length)
        return loss.detach(), spans, inputs["labels"]


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
    """The best spans of all windows as answers to the questions, by `id`.

    Probabilities are of a window: that a span answers, among all spans of the window and "no answer here". The best
    over windows, and over several documents of one question, counts.

    Args:
        windows: Columns `offset_mapping` and `index`, as `make_windows` gives them.
        spans: `(windows, 1 + n_best, 3)`, as `best_spans` gives them.
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
        for score, index, start, end in sorted(of_question[name], key=lambda one: -one[0]):
            if len(candidates) < n_best:
                text = contexts[index][start:end]
                found = {"text": text, "probability": float(np.exp(score)), "start": start, "end": end}
                candidates.setdefault((index, start, end), {**found, "row": numbers[index]})
        best = max((one[0] for one in of_question[name]), default=-np.inf)
        answers[name] = Answer(list(candidates.values()), lowest - best)
    return answers


def gold_answers(table: Table) -> dict[str, list[str]]:
    """The right answers by `id`: those of all documents of a question."""
    found: dict[str, list[str]] = {}
    for name, answers in zip(table.rows["id"], table.rows["answers"], strict=True):
        found[name] = list(dict.fromkeys([*found.get(name, []), *answers]))
    return found


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
