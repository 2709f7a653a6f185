# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Tags of words in documents of any length: words as tokens, windows, one prediction for every word, scores."""

from collections.abc import Iterable, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from datasets import Dataset, Features, Value
from transformers import DataCollatorForTokenClassification, PreTrainedTokenizerBase
from transformers.utils import logging

from hf_longformer.conversion import InputError

from ..data import ROW, Table
from ..metrics import FOREIGN, Entities, scheme_of
from ..words import cut_texts, owners_of, with_special_tokens

TOKENS, TAGS = "tokens", "tags"  # columns of the tables that `read_words` makes; tags lie in layers
OUTSIDE = "O"
logger = logging.get_logger(__name__)
IGNORED = -100  # the label of a token that is not predicted


def tag_names(table: Table, columns: Sequence[str]) -> list[str]:
    """The tags that can be predicted, `O` first: those that the data set lists, or those that stand in the table.

    Args:
        table: The rows to train on.
        columns: Those with lists of tags, one per layer.

    Raises:
        InputError: If there is no such column, or there are fewer than two tags.
    """
    table.check_columns(columns)
    found: dict[str, None] = {}
    for column in columns:
        listed = _listed_names(table, column)
        rows = [tags for tags in table.rows[column] if isinstance(tags, list)]
        if not listed and any(isinstance(tag, int) for tags in rows for tag in tags):
            raise InputError(
                f"the column {column} of {table.name} holds numbers for tags, which only a data set with names for "
                "them can have (a ClassLabel of `datasets`), got no names: write the tags as texts, such as B-PER"
            )
        found |= dict.fromkeys(listed or sorted({tag for tags in rows for tag in tags if isinstance(tag, str)}))
    names = [OUTSIDE] * (OUTSIDE in found) + [tag for tag in found if tag != OUTSIDE]
    if len(names) < 2:
        raise InputError(
            f"the column {' and '.join(columns)} of {table.name} must hold lists of at least two different tags, as "
            f"texts or as numbers that the data set names, got {', '.join(names) or 'none'}"
        )
    return names


def say_what_is_scored(names: Iterable[str]) -> None:
    """Warns where tags look like those of a scheme and are of none that entities are read in."""
    names = list(names)
    scheme, kinds = scheme_of(names), {name[2:] for name in names if name[:2] in ("B-", "I-")}
    others = sorted(one for one in names if one[:2] in FOREIGN and one[2:] in kinds and one[0] not in scheme)
    if others:
        some = ", ".join(others[:5]) + ", …" * (len(others) > 5)
        logger.warning(
            f"entities are read in BIO, BIOES, BILOU, BMES and BMEWO, got {some} beside B- and I-, which count as "
            "kinds of entities of their own: write all tags in one of these"
        )


def read_words(table: Table, tokens_column: str, tags_columns: Sequence[str], names: list[str]) -> Table:
    """The table with the columns `tokens`, lists of words, and `tags`, lists of layers, which are lists of tags, alone;
    without its empty rows.

    Args:
        table: As it was read.
        tokens_column: The column with lists of words.
        tags_columns: Those with lists of tags, one per layer: names, or numbers where the data set names them.
        names: The tags that training knows.

    Raises:
        InputError: If a column is missing, or a row has no words and tags, as many of one as of the other, or a tag
            that training does not know.
    """
    table.check_columns([tokens_column, *tags_columns])
    listed, known = {column: _listed_names(table, column) for column in tags_columns}, set(names)

    def check_row(row: dict[str, Any]) -> dict[str, list[Any]]:
        """Words, and their tags in layers."""
        where = table.where([row[ROW]])
        tokens = _as_list(row[tokens_column], tokens_column, where)
        layers = {column: _as_list(row[column], column, where) for column in tags_columns}
        for column, tags in layers.items():
            if len(tokens) != len(tags):
                raise InputError(
                    f"{where} must have as many entries in {column} as in {tokens_column}, "
                    f"got {len(tags)} and {len(tokens)}"
                )
        if not all(isinstance(token, str) for token in tokens):
            other = next(token for token in tokens if not isinstance(token, str))
            raise InputError(f"{where} must have words in {tokens_column}, got {other}")
        named = [[_name(tag, listed[column], known, names, where) for tag in tags] for column, tags in layers.items()]
        return {TOKENS: tokens, TAGS: named}

    texts = datasets.Sequence(Value("string"))
    kinds = {TOKENS: texts, TAGS: datasets.Sequence(texts), ROW: Value("int64")}
    others = [column for column in table.rows.column_names if column != ROW]
    rows = table.rows.map(check_row, remove_columns=others, features=Features(kinds))
    found = Table(rows, table.name).without(lambda row: not row[TOKENS], "no words")
    if not len(found.rows):
        raise InputError(f"{table.name} must have rows with words, got none")
    return found


def _listed_names(table: Table, column: str) -> list[str] | None:
    """Names that a data set from the Hub has for the numbers in a column of lists."""
    return getattr(getattr(table.rows.features[column], "feature", None), "names", None)


def _as_list(value: Any, column: str, where: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise InputError(f"{where} must have a list in {column}, got {str(value)[:60]!r}")
    return value or []


def _name(tag: Any, listed: list[str] | None, known: set[str], names: list[str], where: str) -> str:
    if listed is not None and isinstance(tag, int) and 0 <= tag < len(listed):
        tag = listed[tag]
    if tag not in known:
        some = ", ".join(names[:10]) + ", …" * (len(names) > 10)
        raise InputError(f"{where} must have tags that training knows ({some}), got {tag}")
    return tag


def make_windows(
    table: Table,
    names: list[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int,
    stride: int,
    workers: int | None = None,
) -> Dataset:
    """Words as rows of tokens, with a label at the first token of every word, sorted by length.

    Args:
        table: As `read_words` gives it.
        names: The tags in the order of the model's outputs.
        tokenizer: Of the model.
        length: Tokens at once, special ones included.
        stride: Tokens that the windows of a text share, or a few more: windows begin with whole words. Less than
            `length - 2`.
        workers: Processes that tokenise.

    Returns:
        One row per window: `input_ids`; `labels`, -100 where nothing is predicted, with several layers as many labels
        per token; `words`, for every label in order
        the number of its word, or -1 where another window has more of the text around that word; `length`, and `row`
        in the table's file. Every word stands in `words` of one window.
    """
    number_of = {name: number for number, name in enumerate(names)}

    def cut_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Texts as windows with a label for every word."""
        columns: dict[str, list[Any]] = {name: [] for name in ("input_ids", "labels", "words", "length", ROW)}
        cut = cut_texts(tokenizer, batch[TOKENS], length=length, stride=stride)
        for ((ids, starts, *_), windows), layers, row in zip(cut, batch[TAGS], batch[ROW], strict=True):
            owners = owners_of(windows, starts)
            numbers: list[Any] = [[number_of[tag] for tag in tags] for tags in zip(*layers, strict=True)]
            nothing: Any = [IGNORED] * len(layers)
            if len(layers) == 1:
                numbers, nothing = [one for (one,) in numbers], IGNORED
            for index, (begin, end) in enumerate(windows):
                labels = [nothing] * (end - begin)
                inside = range(*np.searchsorted(starts, (begin, end)))
                for word in inside:
                    labels[starts[word] - begin] = numbers[word]
                columns["input_ids"].append(with_special_tokens(tokenizer, ids[begin:end]))
                columns["labels"].append([nothing, *labels, nothing])
                columns["words"].append([word if owners[word] == index else -1 for word in inside])
                columns["length"].append(end - begin + 2)
                columns[ROW].append(row)
        return columns

    cut = table.rows.map(cut_batch, batched=True, remove_columns=table.rows.column_names, num_proc=workers)
    return cut.sort("length", reverse=True)


class LayersCollator:
    """Makes a batch of windows with several labels per token, `(batch, S, layers)`.

    Args:
        tokenizer: Of the model.
        layers: How many labels a token has.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, layers: int) -> None:
        self.collate, self.layers = DataCollatorForTokenClassification(tokenizer), layers

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        batches = [
            self.collate([{**one, "labels": [labels[layer] for labels in one["labels"]]} for one in features])
            for layer in range(self.layers)
        ]
        return {**batches[0], "labels": torch.stack([batch["labels"] for batch in batches], dim=-1)}


def join_windows(
    windows: Dataset, found: np.ndarray, labels: np.ndarray, names: list[str]
) -> dict[int, list[list[str]]]:
    """The predicted tags of every text, in layers, by the number of its row.

    Args:
        windows: As `make_windows` gives them.
        found: The number of the likeliest tag of every token, `(windows, S)` or `(windows, S, layers)`.
        labels: What was to be predicted, padded as `found`, in its shape; -100 where nothing was.
        names: The tags in the order of the model's outputs.
    """
    found, labels = (one.reshape(*one.shape[:2], -1) for one in (found, labels))
    tags: dict[int, dict[int, list[str]]] = {}
    for row, words, numbers, gold in zip(windows[ROW], windows["words"], found, labels, strict=True):
        here = tags.setdefault(row, {})
        for word, of_layers in zip(words, numbers[gold[:, 0] != IGNORED].tolist(), strict=True):
            if word >= 0:
                here[word] = [names[number] for number in of_layers]
    return {
        row: [list(layer) for layer in zip(*(here[word] for word in range(len(here))), strict=True)]
        for row, here in sorted(tags.items())
    }


def measure(
    found: dict[int, list[list[str]]], table: Table, names: list[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What `Entities` measures, and what is written of every text: its row, the predicted tags, and the gold ones.

    Args:
        found: The predicted tags of every text, by the number of its row.
        table: The gold ones, as `read_words` gives them.
        names: All tags, which say how entities are tagged.
    """
    rows = zip(table.rows[ROW], table.rows[TAGS], strict=True)
    lines = [{ROW: row, TAGS: found[row], "gold": gold} for row, gold in rows]
    pairs = {
        "predictions": [layer for line in lines for layer in line[TAGS]],
        "references": [layer for line in lines for layer in line["gold"]],
    }
    layers = len(lines[0]["gold"])
    scores = Entities(keep_in_memory=True).compute(**pairs, names=names, layers=layers)
    if layers == 1:
        lines = [{**line, TAGS: line[TAGS][0], "gold": line["gold"][0]} for line in lines]
    return scores, lines
