# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Questions with pieces of their documents, as rows of tokens and as batches."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from ..windows import CUT, encode


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
        answer_loss: `"any"`: every gold span; `"first"`: the first one only.
        workers: Processes that tokenise.

    Returns:
        One row per window: what the tokenizer makes, `offset_mapping` (characters of the document; -1 elsewhere),
        `starts` and `ends` (tokens of gold spans in this window, as many of each), `length`, and `index`, the question
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
    token, which stands for "no answer here"; `starts` and `ends` `(batch, spans)`, gold tokens, padded with -1 (the
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
                gold = torch.as_tensor(one[name] or [0]) + shift
                batch[name][row, : len(gold)] = gold
        batch["labels"] = torch.as_tensor([one["index"] for one in features])
        return batch
