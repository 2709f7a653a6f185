# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents and summaries as tokens: cut at a limit and counted, or documents in windows one behind another."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from hf_longformer.conversion import InputError

from ..data import ROW, Table, texts_of
from ..windows import CUT

CUT_TARGET = "cut_target"


def cut_documents(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], *, length: int, prefix: str = "", stride: int | None = None
) -> list[dict[str, Any]]:
    """Documents as rows of tokens, in training and in prediction alike.

    Args:
        tokenizer: Of the model.
        texts: The documents.
        length: Tokens at once, special ones included.
        prefix: What stands in front of every document, and of every window of one.
        stride: Tokens that neighbouring windows share. None: what is beyond the first window is left out.

    Returns:
        One row per window: `input_ids`, `attention_mask`, `length`, `text`, the index of the document, and `cut`, how
        many tokens of it were left out.

    Raises:
        InputError: If windows have no room for a document, or this tokenizer cannot make them.
    """
    options: dict[str, Any] = {"return_special_tokens_mask": True, "verbose": False}
    repeats = bool(prefix) and stride is not None
    if repeats and not tokenizer.is_fast:
        raise InputError(f"windows with a prefix need a tokenizer of the library tokenizers, got {type(tokenizer)}")
    encoded = tokenizer([prefix + text for text in texts], **options, return_offsets_mapping=repeats)
    rows = []
    for number, (ids, special) in enumerate(zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)):
        front, own, behind = parts_of(ids, special)
        room = length - len(front) - len(behind)
        characters = encoded["offset_mapping"][number][len(front) : len(front) + len(own)] if repeats else []
        repeated = sum(start < len(prefix) for start, _ in characters)
        pieces = [own[:room]] if stride is None else _pieces(own, room, repeated, stride)
        for piece in pieces:
            window = [*front, *piece, *behind]
            rows.append(
                {
                    **{"input_ids": window, "attention_mask": [1] * len(window), "length": len(window)},
                    **{"text": number, CUT: max(0, len(own) - room) if stride is None else 0},
                }
            )
    return rows


def _pieces(ids: list[int], room: int, repeated: int, stride: int) -> list[list[int]]:
    """Windows of a document, each with the tokens of the prefix in front."""
    prefix, rest, size = ids[:repeated], ids[repeated:], room - repeated
    if not 0 <= stride < size:
        raise InputError(
            f"--stride must be 0 or more, and less than the {max(0, size)} tokens of a document that a window holds "
            f"beside its prefix, got {stride}"
        )
    starts = range(0, max(1, len(rest) - stride), size - stride)
    return [[*prefix, *rest[start : start + size]] for start in starts]


def cut_summaries(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int
) -> tuple[list[list[int]], list[int]]:
    """Summaries as labels, and how many tokens of each were left out.

    Args:
        tokenizer: Of the model.
        texts: The summaries.
        length: Tokens of the longest, special ones included.
    """
    encoded = tokenizer(text_target=texts, return_special_tokens_mask=True, verbose=False)
    labels, cut = [], []
    for ids, special in zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True):
        front, own, behind = parts_of(ids, special)
        room = length - len(front) - len(behind)
        labels.append([*front, *own[:room], *behind])
        cut.append(max(0, len(own) - room))
    return labels, cut


def parts_of(ids: list[int], special: list[int]) -> tuple[list[int], list[int], list[int]]:
    """The special tokens in front of a text, its own tokens, and the special tokens behind it.

    Args:
        ids: Of all tokens.
        special: 1 for those that the tokenizer has added.
    """
    own = [place for place, added in enumerate(special) if not added]
    first, behind = (own[0], own[-1] + 1) if own else (len(ids) - 1, len(ids) - 1)
    return ids[:first], ids[first:behind], ids[behind:]


def make_rows(
    table: Table,
    tokenizer: PreTrainedTokenizerBase,
    columns: tuple[str, str],
    *,
    length: int,
    target_length: int,
    prefix: str,
    workers: int | None = None,
) -> tuple[Dataset, dict[str, int]]:
    """Documents with their summaries for the model, the longest first.

    Args:
        table: The rows.
        tokenizer: Of the model.
        columns: With documents, and with summaries.
        length: Tokens of a document, special ones included.
        target_length: The same of a summary.
        prefix: What stands in front of every document.
        workers: Processes that tokenise.

    Returns:
        `input_ids`, `attention_mask`, `labels`, `length`, and `row` in the table's file; and how many documents and
        summaries were cut, by how many tokens in all.
    """
    rows, name = table.rows.select_columns([*columns, ROW]), table.name

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        documents = cut_documents(tokenizer, texts_of(batch, columns[0], name), length=length, prefix=prefix)
        labels, cut = cut_summaries(tokenizer, texts_of(batch, columns[1], name), target_length)
        made = {key: [one[key] for one in documents] for key in ("input_ids", "attention_mask", "length", CUT)}
        return {**made, "labels": labels, CUT_TARGET: cut, ROW: batch[ROW]}

    made = rows.map(encode, batched=True, batch_size=100, remove_columns=rows.column_names, num_proc=workers)
    documents, summaries = (np.asarray(made[column]) for column in (CUT, CUT_TARGET))
    counts = {
        **{"documents": int((documents > 0).sum()), "tokens": int(documents.sum())},
        **{"summaries": int((summaries > 0).sum()), "tokens_of_summaries": int(summaries.sum())},
    }
    counts = {key: number for key, number in counts.items() if number}
    return made.remove_columns([CUT, CUT_TARGET]).sort("length", reverse=True), counts


class SummarizationCollator:
    """Batches of documents and labels.

    Documents are padded where the tokenizer pads. Labels are padded with -100 on the right, whatever the tokenizer
    does: the decoder counts its positions from the first. With `decoder_input_ids`, so that the loss of label
    smoothing, for which `Trainer` takes the labels away, has them.

    Args:
        tokenizer: Pads the documents.
        shift: From labels to `decoder_input_ids`: the model's `prepare_decoder_input_ids_from_labels`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, shift: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.tokenizer, self.shift = tokenizer, shift

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors `input_ids` and `attention_mask`, `(batch, S)`, `labels` and `decoder_input_ids`, `(batch, T)`."""
        named = [{name: row[name] for name in ("input_ids", "attention_mask")} for row in rows]
        batch = dict(self.tokenizer.pad(named, return_tensors="pt"))
        labels = [torch.tensor(row["labels"]) for row in rows]
        batch["labels"] = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        batch["decoder_input_ids"] = self.shift(batch["labels"])
        return batch
