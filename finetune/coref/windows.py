# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents as windows of whole words, and the clusters of windows joined to those of documents."""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from hf_longformer.conversion import InputError

from ..windows import CUT
from ..words import cut_texts, with_special_tokens
from .scores import coreference_scores

FIRST, DOCUMENT = "first_word", "text"  # entries of windows; the latter as all predictors have it
OUTPUTS = ("spans", "mention_logits", "antecedents", "antecedent_logits")  # of the model, that clusters are made of
THRESHOLDS = tuple(number / 4 for number in range(-16, 17))
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
        the first of them; `text`, the number of the document; and `cut`, how many tokens this has in words that no
        window holds as a whole. Windows that hold none are left out.

    Raises:
        InputError: If no window of a document holds a word.
    """
    rows = []
    encoded = cut_texts(tokenizer, texts, length=length, stride=stride)
    for number, (words, (one, windows)) in enumerate(zip(texts, encoded, strict=True)):
        bounds = np.asarray([*one.starts, len(one.ids)])
        keys = [zlib.crc32(word.casefold().encode("utf-8", "surrogatepass")) for word in words]
        begins, ends = np.asarray(windows).T
        inside = np.stack(
            [np.searchsorted(bounds[:-1], begins), np.searchsorted(bounds[1:], ends, side="right")], axis=1
        )
        held = {word for low, high in inside for word in range(low, high)}
        if not held:
            raise InputError(f"words must fit into windows of {length} tokens, got none that does in {words[0]!r:.60}")
        cut = len(one.ids) - sum(int(bounds[word + 1] - bounds[word]) for word in held)
        for (begin, end), (low, high) in zip(windows, inside.tolist(), strict=True):
            if low >= high:
                continue
            places = [[int(bounds[word]) - begin + 1, int(bounds[word + 1]) - begin] for word in range(low, high)]
            rows.append(
                {
                    "input_ids": with_special_tokens(tokenizer, one.ids[begin:end]),
                    "word_tokens": places,
                    "word_keys": keys[low:high],
                    FIRST: low,
                    DOCUMENT: number,
                    CUT: cut,
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


def packed(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """The `OUTPUTS` of windows as one array `(windows, K, 5)`: a span's first and last word, its logit, its antecedent
    and the logit of these two.
    """
    return np.concatenate([one if one.ndim > 2 else one[..., None] for one in outputs], axis=2)


def join_windows(
    windows: list[tuple[int, int]], outputs: list[np.ndarray], singletons: bool, threshold: float = 0.0
) -> dict[int, list[list[list[int]]]]:
    """The clusters of documents, by the order of their first mentions.

    A mention that two windows found is one, and joins their clusters.

    Args:
        windows: Of every window the document and its first word.
        outputs: Of every window `(K, 5)`, as `packed` gives them.
        singletons: Whether mentions count of which nothing else speaks.
        threshold: Two spans speak of the same if their logit is above it.
    """
    parents: dict[int, dict[tuple[int, int], tuple[int, int]]] = defaultdict(dict)

    def root(parent: dict[tuple[int, int], tuple[int, int]], mention: tuple[int, int]) -> tuple[int, int]:
        while parent.setdefault(mention, mention) != mention:
            parent[mention] = parent[parent[mention]]
            mention = parent[mention]
        return mention

    for (text, first), output in zip(windows, outputs, strict=True):
        parent = parents[text]
        real = output[output[:, 0] >= 0]
        spans = [(begin + first, end + first) for begin, end in real[:, :2].astype(int).tolist()]
        antecedents = np.where(real[:, 4] > threshold, real[:, 3], -1).astype(int)
        for span, logit, antecedent in zip(spans, real[:, 2], antecedents, strict=True):
            if antecedent >= 0:
                parent[root(parent, span)] = root(parent, spans[antecedent])
            elif singletons and logit > 0:
                root(parent, span)
    found = {}
    for text, parent in parents.items():
        clusters = defaultdict(list)
        for mention in sorted(parent):
            clusters[root(parent, mention)].append(list(mention))
        found[text] = sorted(clusters.values())
    return found


def choose_threshold(
    windows: list[tuple[int, int]], outputs: list[np.ndarray], singletons: bool, gold: list[list[list[list[int]]]]
) -> float:
    """The threshold of `join_windows` with which documents have the best CoNLL F1; of several, the one nearest to 0.

    Args:
        windows, outputs, singletons: As for `join_windows`.
        gold: The clusters of every document.
    """

    def score(threshold: float) -> float:
        found = join_windows(windows, outputs, singletons, threshold)
        return float(coreference_scores([found.get(number, []) for number in range(len(gold))], gold)["conll_f1"])

    return max(sorted(THRESHOLDS, key=abs), key=score)
