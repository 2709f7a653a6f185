# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents as windows of whole words, and the clusters of windows joined to those of documents."""

import zlib
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from ..words import cut_words, encode_words, with_special_tokens

FIRST, WORDS, TEXT = "first_word", "words", "text"
OUTPUTS = ("spans", "mention_logits", "antecedents")  # of the model, that clusters are made of
IGNORED = -100  # the label of what is padding


def cut_documents(
    texts: list[list[str]], tokenizer: PreTrainedTokenizerBase, *, length: int, stride: int
) -> list[dict[str, Any]]:
    """Windows of documents.

    Args:
        texts: Words of every document.
        tokenizer: Of the model.
        length: Tokens at once, special ones included.
        stride: Tokens that neighbouring windows share at least; less than `length - 2`.

    Returns:
        For every window `input_ids`; `word_tokens`, first and last token of every word that it holds as a whole;
        `word_keys`, a number for every word, the same for the same word in whatever case; `first_word`, the number of
        the first of them; `text`, the number of the document; and `cut`, words that no window holds as a whole, 0.
    """
    rows = []
    for number, (words, encoded) in enumerate(zip(texts, encode_words(tokenizer, texts), strict=True)):
        ids, starts = encoded.ids, encoded.starts
        bounds = np.asarray([*starts, len(ids)])
        keys = [zlib.crc32(word.casefold().encode("utf-8", "surrogatepass")) for word in words]
        for begin, end in cut_words(len(ids), starts, length - 2, stride):
            low = int(np.searchsorted(bounds[:-1], begin))
            high = int(np.searchsorted(bounds[1:], end, side="right"))
            places = [[int(bounds[word]) - begin + 1, int(bounds[word + 1]) - begin] for word in range(low, high)]
            rows.append(
                {
                    "input_ids": with_special_tokens(tokenizer, ids[begin:end]),
                    "word_tokens": places,
                    "word_keys": keys[low:high],
                    FIRST: low,
                    TEXT: number,
                    "cut": 0,
                }
            )
    return rows


def gold_of(window: dict[str, Any], clusters: list[list[list[int]]]) -> dict[str, list[Any]]:
    """The mentions that a window holds as a whole, `mentions`, and the numbers of their clusters, `labels`."""
    low, high = window[FIRST], window[FIRST] + len(window["word_keys"])
    inside = [
        ([mention[0] - low, mention[1] - low], number)
        for number, cluster in enumerate(clusters)
        for mention in cluster
        if low <= mention[0] and mention[1] < high
    ]
    return {"mentions": [mention for mention, _ in inside], "labels": [number for _, number in inside]}


class CoreferenceCollator:
    """Makes a batch of windows: what `HfLongformerForCoreference` takes.

    Args:
        tokenizer: Of the model.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer, self.pad = tokenizer, DataCollatorWithPadding(tokenizer)

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = dict(self.pad([{"input_ids": one["input_ids"]} for one in features]))
        length = batch["input_ids"].shape[1]
        is_left = self.tokenizer.padding_side == "left"
        shifts = [length - len(one["input_ids"]) if is_left else 0 for one in features]
        tokens = [
            torch.as_tensor(one["word_tokens"], dtype=torch.long).view(-1, 2) + shift
            for one, shift in zip(features, shifts, strict=True)
        ]
        columns = {"word_tokens": (tokens, -1), "word_keys": ([one["word_keys"] for one in features], 0)}
        if "labels" in features[0]:
            mentions = [torch.as_tensor(one["mentions"], dtype=torch.long).view(-1, 2) for one in features]
            columns |= {"mentions": (mentions, -1), "labels": ([one["labels"] for one in features], IGNORED)}
        for name, (values, padding) in columns.items():
            rows = [torch.as_tensor(value, dtype=torch.long) for value in values]
            batch[name] = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
        return batch


def join_windows(
    windows: list[tuple[int, int]], outputs: list[dict[str, np.ndarray]], singletons: bool
) -> dict[int, list[list[list[int]]]]:
    """The clusters of documents, by the order of their first mentions.

    A mention that two windows found is one, and joins their clusters.

    Args:
        windows: Of every window the document and its first word.
        outputs: Of every window what `HfLongformerCoreferenceOutput` has of one text.
        singletons: Whether mentions count of which nothing else speaks.
    """
    parents: dict[int, dict[tuple[int, int], tuple[int, int]]] = defaultdict(dict)

    def root(parent: dict[tuple[int, int], tuple[int, int]], mention: tuple[int, int]) -> tuple[int, int]:
        while parent.setdefault(mention, mention) != mention:
            parent[mention] = parent[parent[mention]]
            mention = parent[mention]
        return mention

    for (text, first), output in zip(windows, outputs, strict=True):
        parent = parents[text]
        spans = [(int(one) + first, int(other) + first) for one, other in output["spans"] if one >= 0]
        for index, span in enumerate(spans):
            antecedent = int(output["antecedents"][index])
            if antecedent >= 0:
                parent[root(parent, span)] = root(parent, spans[antecedent])
            elif singletons and output["mention_logits"][index] > 0:
                root(parent, span)
    found = {}
    for text, parent in parents.items():
        clusters = defaultdict(list)
        for mention in sorted(parent):
            clusters[root(parent, mention)].append(list(mention))
        found[text] = sorted(clusters.values())
    return found
