# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents as windows, and what a model says of windows as what it says of documents."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..data import ROW, Table, texts_of
from ..losses import MULTI, REGRESSION
from ..windows import CUT, encode

POOLING: dict[str, Callable] = {"stride-mean": np.mean, "stride-max": np.max}


def make_windows(
    table: Table,
    labels: list[Any],
    tokenizer: PreTrainedTokenizerBase,
    columns: list[str],
    *,
    length: int,
    stride: int | None,
    workers: int | None = None,
) -> tuple[Dataset, dict[str, int]]:
    """Texts as rows of tokens, with their labels, sorted by length.

    Args:
        table: The texts.
        labels: One per row.
        tokenizer: Of the model.
        columns: One or two, the texts.
        length: Tokens at once.
        stride: Tokens that the windows of a text share; None: one window per text.
        workers: Processes that tokenise.

    Returns:
        One row per window: what the tokenizer makes, `labels`, `length`, and `row` in the table's file; and how many
        `documents` were cut off at the limit, by how many `tokens` in all.
    """
    rows, name = table.rows.select_columns([*columns, ROW]).add_column("labels", labels), table.name

    def cut_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts_and_pairs = (texts_of(batch, column, name) for column in columns)
        windows = encode(tokenizer, *texts_and_pairs, length=length, stride=stride)
        texts = windows.pop("text")
        return {**windows, **{one: [batch[one][text] for text in texts] for one in ("labels", ROW)}}

    windows = rows.map(cut_batch, batched=True, remove_columns=rows.column_names, num_proc=workers)
    beyond = np.asarray(windows[CUT])
    counts = {"documents": int((beyond > 0).sum()), "tokens": int(beyond.sum())}
    return windows.remove_columns(CUT).sort("length", reverse=True), counts


def pool(logits: np.ndarray, rows: list[int], overflow: str) -> tuple[list[int], np.ndarray]:
    """The windows of a text as one.

    Args:
        logits: `(windows, labels)`.
        rows: Which text every window belongs to.
        overflow: `"stride-mean"`, `"stride-max"`, or `"truncate"`: one window per text.

    Returns:
        The texts in order, and `(texts, labels)`.
    """
    texts, inverse = np.unique(np.asarray(rows), return_inverse=True)
    together = POOLING.get(overflow, np.mean)
    order = np.argsort(inverse, kind="stable")
    parts = np.split(logits[order], np.cumsum(np.bincount(inverse))[:-1])
    return texts.tolist(), np.stack([together(part, axis=0) for part in parts])


def probabilities(logits: np.ndarray, problem_type: str) -> np.ndarray:
    """Of the labels, `(texts, labels)`; for regression the numbers themselves."""
    if problem_type == REGRESSION:
        return logits
    values = torch.from_numpy(np.ascontiguousarray(logits)).double()
    return (values.sigmoid() if problem_type == MULTI else values.softmax(dim=-1)).numpy()
