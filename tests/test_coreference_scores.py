# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune.coref.scores`: MUC, B³ and CEAFφ4 by hand, by other definitions, and pooled over documents."""

import contextlib
import itertools
import random

import numpy as np
import pytest

from hf_longformer.finetune.coref.scores import coreference_scores

A, B, C, D, E, X = ([number, number] for number in range(6))
# Gold, prediction; precision, recall and F1 of MUC, B³ and CEAFφ4: worked out by hand.
WORKED = {
    "D1": ([[A, B, C, D]], [[A, B], [C, D]], (1, 2 / 3, 0.8), (1, 0.5, 2 / 3), (1 / 3, 2 / 3, 4 / 9)),
    "D2": ([[A, B], [C], [D]], [[A, B], [C, D]], (0.5, 1, 2 / 3), (0.75, 1, 6 / 7), (5 / 6, 5 / 9, 2 / 3)),
    "D3": ([[A, B, C], [D, E]], [[A, B], [D, E]], (1, 2 / 3, 0.8), (1, 2 / 3, 0.8), (0.9, 0.9, 0.9)),
    "D4": ([[A, B], [C, D]], [[A, B, X], [C, D]], (2 / 3, 1, 0.8), (2 / 3, 1, 0.8), (0.9, 0.9, 0.9)),
    "D5": ([[A, B, C]], [], (0, 0, 0), (0, 0, 0), (0, 0, 0)),
}


@pytest.mark.parametrize("name", WORKED)
def test_scores_are_those_worked_out_by_hand(name: str) -> None:
    gold, predicted, *wanted = WORKED[name]
    found = coreference_scores([predicted], [gold])
    for measure, values in zip(("muc", "b_cubed", "ceafe"), wanted, strict=True):
        got = [found[f"{measure}_{part}"] for part in ("precision", "recall", "f1")]
        assert got == pytest.approx([100 * value for value in values], abs=1e-9), measure
    assert found["conll_f1"] == pytest.approx(100 * np.mean([values[2] for values in wanted]))


def test_documents_are_pooled() -> None:
    found = coreference_scores([one[1] for one in WORKED.values()], [one[0] for one in WORKED.values()])
    assert [found[f"muc_{part}"] for part in ("precision", "recall")] == pytest.approx([700 / 9, 700 / 11])
    names = ("b_cubed_precision", "b_cubed_recall", "ceafe_precision", "ceafe_recall", "conll_f1")
    assert [found[name] for name in names] == pytest.approx([84.31, 66.67, 74.17, 65.93, 71.42], abs=0.005)


def test_a_perfect_prediction_with_singletons_is_perfect() -> None:
    gold = [[[A, B], [C], [D], [E, X]]]
    found = coreference_scores(gold, gold)
    assert all(value == 100 for value in found.values())


def test_without_singletons_both_sides_lose_them() -> None:
    found = coreference_scores([[[A, B], [C], [D]]], [[[A, B], [C, X], [E]]])
    alone = coreference_scores([[[A, B]]], [[[A, B], [C, X]]])
    assert {name: found[f"{name}_without_singletons"] for name in ("muc_f1", "b_cubed_f1", "ceafe_f1", "conll_f1")} == {
        name: alone[name] for name in ("muc_f1", "b_cubed_f1", "ceafe_f1", "conll_f1")
    }
    assert found["conll_f1"] != alone["conll_f1"]


def test_the_assignment_is_the_best_of_all() -> None:
    """Against all permutations, and B³ against its definition mention by mention."""
    draw = random.Random(0)
    for _ in range(60):
        sides = []
        for _ in range(2):
            mentions = draw.sample(range(9), draw.randint(1, 9))
            clusters: dict[int, list[list[int]]] = {}
            for mention in mentions:
                clusters.setdefault(draw.randint(0, 3), []).append([mention, mention + 1])
            sides.append(list(clusters.values()))
        predicted, gold = sides
        found = coreference_scores([predicted], [gold])
        as_sets = [[{tuple(mention) for mention in cluster} for cluster in side] for side in sides]
        few, many = sorted(as_sets, key=len)
        best = max(
            sum(2 * len(one & other) / (len(one) + len(other)) for one, other in zip(few, order, strict=False))
            for order in itertools.permutations(many)
        )
        assert found["ceafe_precision"] == pytest.approx(100 * best / len(predicted))
        assert found["ceafe_recall"] == pytest.approx(100 * best / len(gold))
        shares = [
            max((len(one & other) / len(other) for one in as_sets[0] if mention in one), default=0.0)
            for other in as_sets[1]
            for mention in other
        ]
        assert found["b_cubed_recall"] == pytest.approx(100 * np.mean(shares))


@pytest.mark.parametrize("clusters", [[[A, B], [B, C]], [[A, A]]])
def test_a_mention_in_two_clusters_is_refused(clusters: list) -> None:
    with pytest.raises(ValueError, match="every mention must be in one cluster, once, got"):
        coreference_scores([clusters], [[[A, B]]])


def test_scores_are_those_of_scorch() -> None:
    """On random documents; scorch has no score where no mention is common."""
    scorch = pytest.importorskip("scorch.scores", reason="scorch, another scorer, is not installed")
    draw = random.Random(0)

    def clusters(mentions: int) -> list[list[tuple[int, int]]]:
        found: dict[int, list[tuple[int, int]]] = {}
        for number in range(mentions):
            if draw.random() < 0.8:
                found.setdefault(draw.randint(0, 3), []).append((number, number))
        return list(found.values())

    compared = 0
    for _ in range(500):
        size = draw.randint(2, 14)
        gold, predicted = clusters(size), clusters(size)
        if not {one for cluster in gold for one in cluster} & {one for cluster in predicted for one in cluster}:
            continue
        ours = coreference_scores([predicted], [gold])
        for name, theirs in (("muc", scorch.muc), ("b_cubed", scorch.b_cubed), ("ceafe", scorch.ceaf_e)):
            with contextlib.suppress(ZeroDivisionError):  # of MUC without a link
                expected = theirs([set(one) for one in gold], [set(one) for one in predicted])
                found = [ours[f"{name}_{part}"] for part in ("recall", "precision", "f1")]
                assert found == pytest.approx([100 * one for one in expected], abs=1e-9)
                compared += 1
    assert compared > 1000
