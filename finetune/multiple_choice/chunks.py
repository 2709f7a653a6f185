# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Choosing the answer to a question among candidates, beside texts of any length: WikiHop in section 6 of the paper.

A text is `<s> [q] question [/q] [ent] candidate [/ent] … </s> support </s> support … </s>`. Where the supports do not
fit, question and candidates are repeated in front of every chunk of them. A model of token labels with one label gives
a logit at every `[ent]`; the score of a candidate is its mean over the chunks.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Sequence, Value
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import MultipleChoiceModelOutput
from transformers.utils import logging

from hf_longformer import DataCollatorWithGlobalAttention
from hf_longformer.conversion import InputError

from ..data import ROW, Table, texts_of
from ..markers import add_tokens, ids_of
from ..question_files import name_of_question
from ..training import LongTrainer

logger = logging.get_logger(__name__)
QUESTION_BEGINS, QUESTION_ENDS, CANDIDATE_BEGINS, CANDIDATE_ENDS = MARKERS = "[q]", "[/q]", "[ent]", "[/ent]"
QUESTION, CANDIDATES, SUPPORTS, ANSWER = "question", "candidates", "supports", "answer"  # columns of `read_questions`
ID = "id"  # of a question, in lines of predictions
CHUNKS, CHUNKS_LEFT_OUT = "chunks", "chunks_left_out"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def read_questions(table: Table, question: str, candidates: str, supports: str | None, answer: str) -> Table:
    """The table with the columns `question`, `candidates`, `supports` (lists of texts), `answer` (an index) and, if it
    has one, `id` (as a text) alone.

    Args:
        table: As it was read.
        question: The column with the question.
        candidates: The column with lists of candidates.
        supports: The column with texts, or lists of texts, that the answer follows from; None: there are none.
        answer: The column with the gold candidate: its text, its index from 0, or its letter from A.

    Raises:
        InputError: If a column is missing, a row has no candidates, or its answer is none of them.
    """
    table.check_columns([candidates, answer], texts=[question] if supports is None else [question, supports])
    feature = table.rows.features[answer]
    text, number, has_names = Value("string"), Value("int64"), ID in table.rows.column_names

    def check_row(row: dict[str, Any]) -> dict[str, Any]:
        """A row under our names, with the number of its answer, if it is one that can be trained on."""
        where = table.where([row[ROW]])
        choices = row[candidates]
        if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
            raise InputError(f"{where} must have a list of texts in {candidates}, got {str(choices)[:60]!r}")
        texts = (row[supports] if supports else None) or []
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{where} must have a text or a list of texts in {supports}, got {str(texts)[:60]!r}")
        value = row[answer]
        if isinstance(value, int) and not isinstance(value, bool) and hasattr(feature, "int2str"):
            named = feature.int2str(value) if value >= 0 else None
            value = named if named in choices else value
        found = _index(value, choices)
        if found is None:
            some = ", ".join(choices[:10]) + ", …" * (len(choices) > 10)
            raise InputError(f"{where} must have one of its candidates ({some}) in {answer}, got {value}")
        (asked,) = texts_of({question: [row[question]], ROW: [row[ROW]]}, question, table.name)
        name = {ID: name_of_question(row[ID], row[ROW])} if has_names else {}
        return {QUESTION: asked, CANDIDATES: choices, SUPPORTS: texts, ANSWER: found, **name}

    kinds = {QUESTION: text, CANDIDATES: Sequence(text), SUPPORTS: Sequence(text), ANSWER: number, ROW: number}
    kinds |= {ID: text} if has_names else {}
    others = [column for column in table.rows.column_names if column != ROW]
    return Table(table.rows.map(check_row, remove_columns=others, features=Features(kinds)), table.name)


def _index(answer: Any, candidates: list[str]) -> int | None:
    """Which candidate is meant: by its text before all else, as a candidate may be a letter or a number."""
    if isinstance(answer, str):
        texts, letter = [text.strip() for text in candidates], answer.strip()
        if letter in texts:
            return texts.index(letter)
        answer = LETTERS.find(letter) if len(letter) == 1 else None
    number = isinstance(answer, int) and not isinstance(answer, bool)
    return answer if number and 0 <= answer < len(candidates) else None


def add_markers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Gives tokenizer and model, both changed in place, the four marker tokens, if they do not have them."""
    add_tokens(model, tokenizer, MARKERS)


def make_chunks(
    table: Table,
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int,
    max_chunks: int | None = None,
    workers: int | None = None,
) -> Dataset:
    """Questions with their candidates in front of every chunk of their supports, sorted by length.

    Args:
        table: As `read_questions` gives it.
        tokenizer: Of the model, with the markers.
        length: Tokens of a chunk, special ones and question and candidates included.
        max_chunks: Chunks of a question that are kept; None: all.
        workers: Processes that tokenise.

    Returns:
        One row per question: `chunks`, lists of token ids; `labels`, the index of the gold candidate; `length`, tokens
        of all chunks; `chunks_left_out`; and `row` in the table's file.

    Raises:
        InputError: If a question and its candidates leave no room for supports.
    """
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    begins_q, ends_q, begins, ends = ids_of(tokenizer, MARKERS)
    name = table.name

    def encode_all(texts: list[str]) -> list[list[int]]:
        # What stands in a text is text, also if it looks like a marker or a separator.
        return tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]

    def cut_row(row: dict[str, Any]) -> dict[str, Any]:
        """The row's question and candidates with one part of its documents after the other."""
        texts = encode_all([row[QUESTION], *row[CANDIDATES], *row[SUPPORTS]])
        head, supports = [first, begins_q, *texts[0], ends_q], texts[1 + len(row[CANDIDATES]) :]
        for candidate in texts[1 : 1 + len(row[CANDIDATES])]:
            head += [begins, *candidate, ends]
        head.append(last)
        context = [token for support in supports if support for token in (*support, last)][:-1]
        room = length - len(head) - 1
        if room < 1 and (context or room < -1):
            raise InputError(
                f"row {row[ROW]} of {name}: question and candidates must leave room for supports within {length} "
                f"tokens, got {len(head)} tokens: raise --max_seq_length, or give fewer candidates"
            )
        starts = range(0, len(context), max(room, 1))
        pieces = [[*context[start : start + room], last] for start in starts] or [[]]
        chunks = [head + piece for piece in pieces]
        kept = chunks[:max_chunks]
        counts = {"length": sum(map(len, kept)), CHUNKS_LEFT_OUT: len(chunks) - len(kept)}
        return {CHUNKS: kept, "labels": row[ANSWER], **counts}

    others = [column for column in table.rows.column_names if column != ROW]
    return table.rows.map(cut_row, remove_columns=others, num_proc=workers).sort("length", reverse=True)


class ChunkCollator:
    """Makes a batch of all chunks of some questions; all before the first separator of a chunk is global.

    Args:
        tokenizer: Of the model, with the markers.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.collate = DataCollatorWithGlobalAttention(tokenizer, "question")
        self.marker = ids_of(tokenizer, MARKERS)[MARKERS.index(CANDIDATE_BEGINS)]

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch of N chunks of Q questions with at most C candidates.

        Args:
            features: Rows as `make_chunks` gives them.

        Returns:
            `input_ids`, `attention_mask`, `global_attention_mask` `(N, S)`; `positions` `(N, C)`, where the markers of
            candidates stand, -1 where there is none; `shares` `(Q, N)`, how much every chunk adds to the mean of its
            question; `labels` `(Q,)`, if the features have them.
        """
        question_of = [question for question, feature in enumerate(features) for _ in feature[CHUNKS]]
        batch = self.collate([{"input_ids": ids} for feature in features for ids in feature[CHUNKS]])
        names = ("input_ids", "attention_mask", "global_attention_mask")
        batch = {name: batch[name] for name in names}
        positions = [(ids == self.marker).nonzero()[:, 0] for ids in batch["input_ids"]]
        batch["positions"] = torch.nn.utils.rnn.pad_sequence(positions, batch_first=True, padding_value=-1)
        belongs = torch.tensor(question_of) == torch.arange(len(features))[:, None]
        batch["shares"] = belongs / belongs.sum(dim=1, keepdim=True)
        if "labels" in features[0]:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        return batch


def candidate_scores(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    global_attention_mask: torch.Tensor,
    positions: torch.Tensor,
    shares: torch.Tensor,
    at_once: int | None = None,
    **_: Any,
) -> MultipleChoiceModelOutput:
    """The scores of candidates: what a model of token labels says at their markers, averaged over chunks.

    Args:
        model: `HfLongformerForTokenClassification` with one label.
        input_ids, attention_mask, global_attention_mask, positions, shares: As `ChunkCollator` gives them.
        at_once: Chunks that the model gets at once, to save memory without gradients; None: all.
        **_: What `Trainer` has for the loss.

    Returns:
        An output with `logits` `(Q, C)`, minus infinity where a question has no further candidate.
    """
    size = at_once or len(input_ids)
    parts = zip(*(one.split(size) for one in (input_ids, attention_mask, global_attention_mask)), strict=True)
    names = ("input_ids", "attention_mask", "global_attention_mask")
    logits = [model(**dict(zip(names, part, strict=True))).logits[..., 0].float() for part in parts]
    at_markers = torch.cat(logits).gather(1, positions.clamp(min=0))
    present = positions >= 0
    # Sums, not matrix products: those would be rounded in mixed precision.
    means = (shares[:, :, None] * at_markers).sum(dim=1)
    exists = ((shares > 0)[:, :, None] & present).any(dim=1)
    return MultipleChoiceModelOutput(logits=means.where(exists, -torch.inf))


class ChoiceTrainer(LongTrainer):
    """`LongTrainer` of questions: the loss needs all chunks of a question together."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As `Trainer`'s, of scores of candidates instead of logits of tokens."""
        at_once = None if torch.is_grad_enabled() else self.args.per_device_eval_batch_size
        scores: Any = partial(candidate_scores, model, at_once=at_once)
        return super().compute_loss(scores, inputs, *args, **kwargs)


def measure(questions: Dataset, scores: np.ndarray, table: Table) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Accuracy, and what is written of every question: row, `id`, the predicted and the gold candidate, probabilities.

    Args:
        questions: As `make_chunks` gives them.
        scores: `(questions, C)`; what is beyond the candidates of a question does not count.
        table: As `read_questions` gives it.

    Returns:
        `accuracy`, and `chance`, what guessing would reach; and a line per question in the table's order.
    """
    of_row = dict(zip(questions[ROW], scores, strict=True))
    lines: list[dict[str, Any]] = []
    for row in table.rows:
        candidates = row[CANDIDATES]
        values = torch.from_numpy(np.asarray(of_row[row[ROW]][: len(candidates)])).double().softmax(dim=-1)
        predicted = int(values.argmax())
        lines.append(
            {
                **{name: row[name] for name in (ROW, ID) if name in row},
                "predicted": candidates[predicted],
                "gold": candidates[row[ANSWER]],
                "scores": values.tolist(),
            }
        )
    found = {
        "accuracy": float(np.mean([line["predicted"] == line["gold"] for line in lines])),
        "chance": float(np.mean([1 / len(line["scores"]) for line in lines])),
    }
    return found, lines
