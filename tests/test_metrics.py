# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/metrics.py`: the official scorers written down again, scikit-learn, and cases worked out by hand."""

import re
import socket
import string
from collections import Counter
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn import metrics as sklearn_metrics

from hf_longformer.finetune.metrics import (
    SCHEMES,
    Classification,
    Entities,
    QuestionAnswering,
    Regression,
    answer_scores,
    entities,
    normalise_squad,
    normalise_triviaqa,
    scheme_of,
)

# ---- the official scorers, from their algorithms ----


def official_squad_normalise(text: str) -> str:
    def remove_articles(text: str) -> str:
        return re.compile(r"\b(a|an|the)\b", re.UNICODE).sub(" ", text)

    def remove_punctuation(text: str) -> str:
        exclude = set(string.punctuation)
        return "".join(character for character in text if character not in exclude)

    return " ".join(remove_articles(remove_punctuation(text.lower())).split())


def official_squad_2_scores(predicted: str, answers: list[str]) -> tuple[float, float]:
    """`get_raw_scores` of evaluate-v2.0.py, of one question."""
    golds = [answer for answer in answers if official_squad_normalise(answer)]
    if not golds:
        golds = [""]

    def tokens(text: str) -> list[str]:
        return official_squad_normalise(text).split() if text else []

    def f1(gold: str) -> float:
        gold_tokens, predicted_tokens = tokens(gold), tokens(predicted)
        if not gold_tokens or not predicted_tokens:
            return int(gold_tokens == predicted_tokens)
        same = sum((Counter(gold_tokens) & Counter(predicted_tokens)).values())
        if same == 0:
            return 0
        precision, recall = same / len(predicted_tokens), same / len(gold_tokens)
        return 2 * precision * recall / (precision + recall)

    exact = max(int(official_squad_normalise(gold) == official_squad_normalise(predicted)) for gold in golds)
    return exact, max(map(f1, golds))


def official_overlap_scores(predicted: str, answers: list[str], normalise: Any) -> tuple[float, float]:
    """Of evaluate-v1.1.py and of TriviaQA's evaluation, which are alike but for the normalisation."""

    def f1(gold: str) -> float:
        predicted_tokens, gold_tokens = normalise(predicted).split(), normalise(gold).split()
        same = sum((Counter(predicted_tokens) & Counter(gold_tokens)).values())
        if same == 0:
            return 0
        precision, recall = same / len(predicted_tokens), same / len(gold_tokens)
        return 2 * precision * recall / (precision + recall)

    return max(int(normalise(predicted) == normalise(gold)) for gold in answers), max(map(f1, answers))


def official_triviaqa_normalise(text: str) -> str:
    def handle_punctuation(text: str) -> str:
        exclude = set(string.punctuation + "".join(["‘", "’", "´", "`"]))
        return "".join(character if character not in exclude else " " for character in text)

    text = handle_punctuation(text.replace("_", " ").lower())
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split()).strip()


PIECES = [
    "the",
    "a",
    "an",
    "The",
    "A",
    "THE",
    "1976",
    "Beyoncé",
    "Beyonce",
    "U.S.",
    "the-end",
    "rock_n_roll",
    "’s",
    "'s",
]
PIECES += [
    "‘",
    "´",
    "`",
    "-",
    ".",
    "…",
    "_",
    " ",
    "  ",
    "\t",
    "\n",
    "\u00a0",
    "İ",
    "ß",
    "ﬁ",
    "日本",
    "theatre",
    "",
    "$1,000",
]
answer_texts = st.one_of(st.text(max_size=12), st.lists(st.sampled_from(PIECES), max_size=5).map(" ".join))


@settings(max_examples=300, deadline=None)
@given(answer_texts, st.lists(answer_texts, max_size=3))
def test_answer_scores_of_squad_2(predicted: str, answers: list[str]) -> None:
    assert normalise_squad(predicted) == official_squad_normalise(predicted)
    assert answer_scores(predicted, answers) == pytest.approx(official_squad_2_scores(predicted, answers))


@settings(max_examples=300, deadline=None)
@given(answer_texts, st.lists(answer_texts.filter(official_squad_normalise), min_size=1, max_size=3))
def test_answer_scores_of_squad_1(predicted: str, answers: list[str]) -> None:
    """Where something is left of every right answer, as in all that was published."""
    expected = official_overlap_scores(predicted, answers, official_squad_normalise)
    assert answer_scores(predicted, answers) == pytest.approx(expected)


@settings(max_examples=300, deadline=None)
@given(answer_texts, st.lists(answer_texts, min_size=1, max_size=3))
def test_answer_scores_of_triviaqa(predicted: str, answers: list[str]) -> None:
    assert normalise_triviaqa(predicted) == official_triviaqa_normalise(predicted)
    expected = official_overlap_scores(predicted, answers, official_triviaqa_normalise)
    assert answer_scores(predicted, answers, normalise_triviaqa) == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(answer_texts, st.lists(answer_texts, max_size=3)), min_size=1, max_size=6))
def test_question_answering_averages_as_squad_2(questions: list[tuple[str, list[str]]]) -> None:
    found = QuestionAnswering().compute(
        predictions=[predicted for predicted, _ in questions], references=[answers for _, answers in questions]
    )
    scores = np.asarray([official_squad_2_scores(*question) for question in questions])
    answerable = np.asarray([bool(answers) for _, answers in questions])
    expected: dict[str, Any] = {"total": len(questions)}
    parts = {"": np.ones(len(questions), dtype=bool), "has_answer_": answerable, "no_answer_": ~answerable}
    for prefix, chosen in parts.items():
        if chosen.any() and (not prefix or not answerable.all()):
            expected |= {f"{prefix}exact_match": 100 * scores[chosen, 0].mean(), f"{prefix}total": chosen.sum()}
            expected |= {f"{prefix}f1": 100 * scores[chosen, 1].mean()}
    assert found == pytest.approx(expected)


# What the cards of the metrics squad and squad_v2 show.
PUBLISHED = [
    (["1976"], [["1976"]], 100.0, 100.0),
    (["1999"], [["1976"]], 0.0, 0.0),
    (
        ["1976", "Beyonce", "climate change"],
        [["1976"], ["Beyoncé and Bruno Mars"], ["climate change"]],
        200 / 3,
        200 / 3,
    ),
]


@pytest.mark.parametrize("form", [None, "triviaqa"])
@pytest.mark.parametrize(("predictions", "references", "exact", "f1"), PUBLISHED)
def test_question_answering_as_published(
    predictions: list[str], references: list[list[str]], exact: float, f1: float, form: str | None
) -> None:
    found = QuestionAnswering(form).compute(predictions=predictions, references=references)
    assert found == pytest.approx({"exact_match": exact, "f1": f1, "total": len(predictions)})


@pytest.mark.parametrize(
    ("predicted", "answers", "exact", "f1"),
    [
        ("", [], 1, 1),  # rightly nothing
        ("1976", [], 0, 0),
        ("", ["1976"], 0, 0),
        ("The", [], 1, 1),  # nothing is left of it
        ("in the year 1976!", ["1976"], 0, 2 * (1 / 3) / (1 / 3 + 1)),
        ("Denver Broncos", ["Denver Broncos", "The Broncos"], 1, 1),
        ("Broncos of Denver", ["Denver Broncos", "The Broncos"], 0, 0.8),
        ("cat cat", ["cat dog"], 0, 0.5),  # a word counts as often as it is there
    ],
)
def test_answer_scores_by_hand(predicted: str, answers: list[str], exact: float, f1: float) -> None:
    assert answer_scores(predicted, answers) == pytest.approx((exact, f1))


def test_triviaqa_differs_from_squad() -> None:
    assert answer_scores("rock-n-roll", ["rock n roll"]) == (0, 0)
    assert answer_scores("rock-n-roll", ["rock n roll"], normalise_triviaqa) == (1, 1)
    assert answer_scores("The A", ["A", "letter A"]) == (0, 0)  # with nothing left, it is no answer
    assert answer_scores("The A", ["A", "letter A"], normalise_triviaqa) == (1, 0)  # but an exact match there


# ---- classification and regression ----


def test_classification_by_hand() -> None:
    """Five texts, three labels; the last one is taken for label 2 instead of 0."""
    scores = [[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.2, 0.2, 0.6], [0.1, 0.3, 0.6], [0.3, 0.2, 0.5]]
    found = Classification().compute(predictions=scores, references=[0, 1, 2, 2, 0], names=["a", "b", "c"])
    assert found["confusion"] == [[1, 0, 1], [0, 1, 0], [0, 0, 2]]
    assert found["f1_per_class"] == pytest.approx({"a": 2 / 3, "b": 1.0, "c": 4 / 5})
    assert found["f1_macro"] == pytest.approx((2 / 3 + 1 + 4 / 5) / 3)
    assert found["accuracy"] == found["f1_micro"] == pytest.approx(4 / 5)
    # Of label c, (0.6, 0.6) stand against (0.1, 0.2, 0.5); of a, (0.8, 0.3) against (0.1, 0.2, 0.1): all in order.
    assert found["roc_auc"] == 1.0


@pytest.mark.parametrize("labels", [2, 5])
def test_classification_as_scikit_learn(labels: int) -> None:
    generator = np.random.default_rng(labels)
    scores = generator.dirichlet(np.ones(labels), 60)
    right = generator.integers(labels, size=60)
    found = Classification().compute(predictions=scores, references=right)
    chosen = scores.argmax(axis=1)
    assert found["accuracy"] == sklearn_metrics.accuracy_score(right, chosen)
    assert found["f1_macro"] == pytest.approx(sklearn_metrics.f1_score(right, chosen, average="macro"))
    assert found["f1_micro"] == pytest.approx(sklearn_metrics.f1_score(right, chosen, average="micro"))
    assert list(found["f1_per_class"].values()) == pytest.approx(sklearn_metrics.f1_score(right, chosen, average=None))
    assert found["confusion"] == sklearn_metrics.confusion_matrix(right, chosen).tolist()
    of_two = {"y_true": right, "y_score": scores[:, 1]}
    of_more = {"y_true": right, "y_score": scores, "multi_class": "ovr"}
    expected = sklearn_metrics.roc_auc_score(**(of_two if labels == 2 else of_more))
    assert found["roc_auc"] == pytest.approx(expected)


@pytest.mark.parametrize("labels", [1, 2, 4])
def test_multi_label_as_scikit_learn(labels: int) -> None:
    generator = np.random.default_rng(labels)
    scores, right = generator.random((50, labels)), generator.integers(2, size=(50, labels))
    found = Classification("multi_label").compute(predictions=scores, references=right)
    chosen = scores > 0.5
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(right, chosen))
    for average in ("macro", "micro"):
        expected = sklearn_metrics.f1_score(right, chosen, average=average, labels=range(labels))
        assert found[f"f1_{average}"] == pytest.approx(expected)
    assert found["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(right, scores))
    assert "confusion" not in found


def test_multi_label_with_two_labels_that_exclude_one_another() -> None:
    """Two columns are two labels, also where every text has exactly one: 1.0 of the first, 0.5 of the second."""
    scores = [[0.9, 0.2], [0.8, 0.6], [0.1, 0.4], [0.2, 0.4]]
    found = Classification("multi_label").compute(predictions=scores, references=[[1, 0], [1, 0], [0, 1], [0, 1]])
    assert found["roc_auc"] == pytest.approx((1.0 + 0.5) / 2)


def test_label_that_nobody_has() -> None:
    found = Classification().compute(predictions=[[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]], references=[0, 1])
    assert found["roc_auc"] is None
    assert found["f1_per_class"] == {"0": 1.0, "1": 1.0, "2": 0.0}
    assert found["f1_macro"] == pytest.approx(2 / 3)


def test_regression_by_hand() -> None:
    found = Regression().compute(predictions=[1.0, 2.0, 4.0], references=[1.0, 3.0, 5.0])
    assert found["mse"] == pytest.approx(2 / 3)
    assert found["mae"] == pytest.approx(2 / 3)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pearson"] == pytest.approx(np.corrcoef([1, 2, 4], [1, 3, 5])[0, 1])
    constant = Regression().compute(predictions=[1.0, 1.0], references=[0.0, 2.0])
    assert constant == {"mse": 1.0, "mae": 1.0, "pearson": None, "spearman": None}
    assert Regression().compute(predictions=[1.0], references=[2.0])["pearson"] is None


# ---- entities ----


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", []),
        ("", []),
        ("B-PER I-PER O", [(0, 2, "PER")]),
        ("B-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),  # side by side
        ("I-PER I-PER O I-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),  # without their beginnings
        ("B-PER I-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC")]),  # another kind
        ("O B-LOC", [(1, 2, "LOC")]),  # up to the end
        ("B-A-B I-A-B", [(0, 2, "A-B")]),  # a kind with a dash
        ("PER PER LOC O LOC", [(0, 2, "PER"), (2, 3, "LOC"), (4, 5, "LOC")]),  # kinds alone
    ],
)
def test_entities(tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert entities(tags.split()) == expected


# What seqeval 1.2.2 finds in its default mode, as positions of first tokens, those behind the last, and kinds.
BIOES = [
    ("B-PER E-PER O S-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),
    ("B-PER I-PER E-PER S-PER S-PER", [(0, 3, "PER"), (3, 4, "PER"), (4, 5, "PER")]),  # side by side
    ("B-PER I-PER O", [(0, 2, "PER")]),  # without its end
    ("B-PER B-PER E-PER", [(0, 1, "PER"), (1, 3, "PER")]),
    ("E-PER E-PER", [(0, 1, "PER"), (1, 2, "PER")]),  # ends without beginnings
    ("S-PER I-PER E-PER", [(0, 1, "PER"), (1, 3, "PER")]),
    ("E-PER I-PER", [(0, 1, "PER"), (1, 2, "PER")]),
    ("I-PER S-PER", [(0, 1, "PER"), (1, 2, "PER")]),
    ("B-PER E-LOC", [(0, 1, "PER"), (1, 2, "LOC")]),  # another kind
]


@pytest.mark.parametrize(("tags", "expected"), BIOES)
@pytest.mark.parametrize("scheme", [scheme for name, scheme in SCHEMES.items() if name != "BIO"])
def test_entities_with_marked_ends(tags: str, expected: list[tuple[int, int, str]], scheme: str) -> None:
    letters = dict(zip("BIES", scheme, strict=True))
    renamed = [tag if tag == "O" else letters[tag[0]] + tag[1:] for tag in tags.split()]
    assert entities(renamed, scheme) == expected


@pytest.mark.parametrize(
    ("names", "scheme"),
    [
        ("O B-A I-A", "BI"),
        ("O A B", "BI"),
        ("B-A I-A E-mail S-Bahn", "BI"),  # names of kinds
        ("B-A E-A S-LAW", "BIES"),  # of a kind that is never longer than a word
        ("B-A I-A S-A", "BIES"),
        ("B-A I-A L-A U-A", "BILU"),
        ("B-A M-A E-A S-A", "BMES"),
        ("B-A M-A E-A W-A", "BMEW"),
        ("B-A E-A U-A", "BI"),  # of two schemes
    ],
)
def test_scheme_of(names: str, scheme: str) -> None:
    assert scheme_of(names.split()) == scheme


def test_entities_metric_reads_the_scheme_from_all_names() -> None:
    pairs = {"predictions": [["S-A", "S-A"]], "references": [["S-A", "S-A"]]}
    assert Entities().compute(**pairs, names=["B-A", "E-A", "S-A", "O"])["f1_per_kind"] == {"A": 1.0}
    found, right = ["B-A", "E-A", "S-B", "O"], ["B-A", "E-A", "O", "S-B"]
    scores = Entities().compute(predictions=[found], references=[right], names=["B-A", "E-A", "S-B", "O"])
    assert (scores["precision"], scores["recall"], scores["f1"]) == (0.5, 0.5, 0.5)  # as seqeval


def test_entities_metric_by_hand() -> None:
    """Of three entities, one is found whole, one with a wrong end, one not at all; and one is found that is none."""
    right = [["B-PER", "I-PER", "O", "B-LOC", "O"], ["B-LOC", "O", "O"]]
    found = [["B-PER", "I-PER", "O", "B-LOC", "I-LOC"], ["O", "O", "B-PER"]]
    scores = Entities().compute(predictions=found, references=right)
    assert scores["precision"] == pytest.approx(1 / 3)
    assert scores["recall"] == pytest.approx(1 / 3)
    assert scores["f1"] == pytest.approx(1 / 3)
    assert scores["accuracy"] == pytest.approx(5 / 8)
    assert scores["f1_per_kind"] == pytest.approx({"LOC": 0.0, "PER": 2 / 3})


def test_entities_of_nothing() -> None:
    scores = Entities().compute(predictions=[["O"]], references=[["O"]])
    assert scores == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 1.0, "f1_per_kind": {}}


def test_entities_in_different_texts_are_different() -> None:
    scores = Entities().compute(predictions=[["B-A"], ["O"]], references=[["O"], ["B-A"]])
    assert scores["f1"] == 0.0


# ---- neither network nor disk ----

EXAMPLES: list[tuple[type[evaluate.Metric], list, list]] = [
    (Classification, [[0.2, 0.8], [0.6, 0.4]], [1, 0]),
    (Regression, [1.0, 2.0], [1.0, 3.0]),
    (QuestionAnswering, ["a dog"], [["dog"]]),
    (Entities, [["B-PER"]], [["B-PER"]]),
]


@pytest.mark.parametrize(
    ("metric", "predictions", "references"), EXAMPLES, ids=lambda one: getattr(one, "__name__", "")
)
def test_metrics_touch_neither_network_nor_disk(
    metric: type[evaluate.Metric],
    predictions: list,
    references: list,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "cache")
    found = metric().compute(predictions=predictions, references=references)
    assert all(isinstance(name, str) for name in found)
    assert not (tmp_path / "cache").exists()
    assert metric(keep_in_memory=False).compute(predictions=predictions, references=references) == found
    assert (tmp_path / "cache").exists()
