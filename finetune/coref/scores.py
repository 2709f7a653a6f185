# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""MUC, B³, CEAFφ4 and their mean, CoNLL F1, pooled over documents: the definitions of Pradhan et al. 2014."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

Mention = tuple[int, int]
Cluster = frozenset[Mention]


def coreference_scores(predicted: list[list[list[Any]]], gold: list[list[list[Any]]]) -> dict[str, float]:
    """Precision, recall and F1 in per cent: `muc_…`, `b_cubed_…`, `ceafe_…` and `mention_…`, and `conll_f1`; and with
    `_without_singletons` behind the name the same where clusters of one mention are left out on both sides.

    Args:
        predicted: For every document its clusters, lists of mentions (first and last word).
        gold: The same.

    Raises:
        ValueError: If a document has a mention in two clusters, or twice in one.
    """
    pairs = [(_clusters(one), _clusters(other)) for one, other in zip(predicted, gold, strict=True)]
    found = _scores(pairs)
    several = [tuple([one for one in side if len(one) > 1] for side in pair) for pair in pairs]
    return {**found, **{f"{name}_without_singletons": score for name, score in _scores(several).items()}}


def _clusters(clusters: Iterable[Iterable[Any]]) -> list[Cluster]:
    found = [[tuple(mention) for mention in cluster] for cluster in clusters]
    counts = Counter(mention for cluster in found for mention in cluster)
    if counts and (most := counts.most_common(1)[0])[1] > 1:
        raise ValueError(f"every mention must be in one cluster, once, got {most[0]} {most[1]} times")
    return [frozenset(cluster) for cluster in found]


def _scores(pairs: list[Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, counts in COUNTS.items():
        totals = np.sum([counts(*pair) for pair in pairs], axis=0) if pairs else np.zeros(4)
        common, of_predicted, common_gold, of_gold = (float(total) for total in totals)
        precision, recall = (a / b if b else 0.0 for a, b in ((common, of_predicted), (common_gold, of_gold)))
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        found |= {f"{name}_precision": 100 * precision, f"{name}_recall": 100 * recall, f"{name}_f1": 100 * f1}
    return {**found, "conll_f1": (found["muc_f1"] + found["b_cubed_f1"] + found["ceafe_f1"]) / 3}


def _muc(predicted: list[Cluster], gold: list[Cluster]) -> list[float]:
    """Links that are kept, of all, on both sides (Vilain et al. 1995)."""

    def links(clusters: list[Cluster], others: list[Cluster]) -> tuple[int, int]:
        of = {mention: index for index, cluster in enumerate(others) for mention in cluster}
        kept = sum(len(one) - len({of.get(mention, mention) for mention in one}) for one in clusters)
        return kept, sum(len(one) - 1 for one in clusters)

    return [*links(predicted, gold), *links(gold, predicted)]


def _b_cubed(predicted: list[Cluster], gold: list[Cluster]) -> list[float]:
    """For every mention the share of its cluster that the other side's has too (Bagga and Baldwin 1998)."""

    def overlaps(clusters: list[Cluster], others: list[Cluster]) -> tuple[float, int]:
        of = {mention: index for index, cluster in enumerate(others) for mention in cluster}
        common = [Counter(of[mention] for mention in one if mention in of) for one in clusters]
        total = sum(
            sum(n * n for n in counts.values()) / len(one) for counts, one in zip(common, clusters, strict=True)
        )
        return total, sum(map(len, clusters))

    return [*overlaps(predicted, gold), *overlaps(gold, predicted)]


def _ceafe(predicted: list[Cluster], gold: list[Cluster]) -> list[float]:
    """The best one-to-one assignment of clusters by the Dice coefficient, φ4 (Luo 2005)."""
    if not predicted or not gold:
        return [0.0, len(predicted), 0.0, len(gold)]
    of = {mention: index for index, cluster in enumerate(gold) for mention in cluster}
    similarity = np.zeros((len(predicted), len(gold)))
    for row, cluster in enumerate(predicted):
        for column, common in Counter(of[mention] for mention in cluster if mention in of).items():
            similarity[row, column] = 2 * common / (len(cluster) + len(gold[column]))
    best = float(similarity[linear_sum_assignment(similarity, maximize=True)].sum())
    return [best, len(predicted), best, len(gold)]


def _mentions(predicted: list[Cluster], gold: list[Cluster]) -> list[float]:
    one, other = ({mention for cluster in side for mention in cluster} for side in (predicted, gold))
    return [len(one & other), len(one), len(one & other), len(other)]


COUNTS: dict[str, Callable[[list[Cluster], list[Cluster]], list[float]]] = {
    "muc": _muc,
    "b_cubed": _b_cubed,
    "ceafe": _ceafe,
    "mention": _mentions,
}
