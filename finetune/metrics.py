# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores, as classes of `evaluate` that need no network: their own code, checked against the official scorers."""

import re
import string
from collections import Counter
from collections.abc import Iterable
from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn import metrics as sklearn_metrics

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = set(string.punctuation)
HOTPOTQA_WORDS = ("yes", "no", "noanswer")
# Prefixes of tags, and what each means in the words of BIOES. A scheme that another one holds stands before it.
SCHEMES = {"BIO": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW"}
MEANING = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
FOREIGN = tuple(f"{letter}-" for letter in MEANING if letter not in SCHEMES["BIO"])
TRIVIAQA_PUNCTUATION = PUNCTUATION | set("‘’´`")


class MemoryMetric(evaluate.Metric):
    """A metric that writes nothing to disk, unless it is told `keep_in_memory=False`.

    Args:
        config_name: Which form of the metric.
        keep_in_memory: Whether predictions and references stay in memory; they cannot with several processes.
        **options: Of `evaluate.Metric`.
    """

    def __init__(self, config_name: str | None = None, keep_in_memory: bool = True, **options: Any) -> None:
        super().__init__(config_name, keep_in_memory, **options)

    def _build_data_dir(self) -> str:
        return "" if self.keep_in_memory else super()._build_data_dir()  # which makes the folder


class Classification(MemoryMetric):
    """Accuracy, F1 (macro, micro and of every class), confusion matrix and ROC-AUC.

    `compute(predictions=…, references=…)` with scores `(labels,)` per text, higher for likelier labels, and the number
    of the gold label; or, for configuration `"multi_label"`, with probabilities and 0 or 1 for every label, where what
    is above a half counts as predicted. ROC-AUC is the mean over labels of one against the rest; None where a label has
    no texts, or all. Micro F1 of single labels is the accuracy. A label that no text has counts in macro
    F1, with 0.
    """

    def _info(self) -> evaluate.MetricInfo:
        multi = self.config_name == "multi_label"
        reference = datasets.Sequence(datasets.Value("int64")) if multi else datasets.Value("int64")
        return _info(str(type(self).__doc__), datasets.Sequence(datasets.Value("float64")), reference)

    def _compute(self, predictions: Any, references: Any, names: list[str] | None = None) -> dict[str, Any]:
        scores, gold = np.asarray(predictions, dtype=np.float64), np.asarray(references)
        labels = list(range(scores.shape[1]))
        names = names or [str(label) for label in labels]
        multi = self.config_name == "multi_label"
        chosen = (scores > 0.5).astype(int) if multi else scores.argmax(axis=1)
        f1 = {"labels": labels, "zero_division": 0.0}
        per_class = sklearn_metrics.f1_score(gold, chosen, average=None, **f1)
        found = {
            "accuracy": float(sklearn_metrics.accuracy_score(gold, chosen)),
            "f1_macro": float(per_class.mean()),
            "f1_micro": float(sklearn_metrics.f1_score(gold, chosen, average="micro", **f1)),
            "f1_per_class": dict(zip(names, map(float, per_class), strict=True)),
        }
        if multi:
            return {**found, "roc_auc": _roc_auc(scores, gold)}
        one_hot = np.eye(len(labels), dtype=int)[gold]
        confusion = sklearn_metrics.confusion_matrix(gold, chosen, labels=labels)
        return {**found, "roc_auc": _roc_auc(scores, one_hot), "confusion": confusion.tolist()}


def _roc_auc(scores: np.ndarray, gold: np.ndarray) -> float | None:
    """The mean over labels of scores and 0 or 1, both `(texts, labels)`."""
    if (gold.min(axis=0) == gold.max(axis=0)).any():
        return None
    areas = [sklearn_metrics.roc_auc_score(*columns) for columns in zip(gold.T, scores.T, strict=True)]
    return float(np.mean(areas))


class Regression(MemoryMetric):
    """Mean squared and mean absolute error, Pearson's and Spearman's correlation (None if one side is constant)."""

    def _info(self) -> evaluate.MetricInfo:
        return _info(str(type(self).__doc__), datasets.Value("float64"), datasets.Value("float64"))

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        from scipy import stats

        found, gold = np.asarray(predictions), np.asarray(references)
        varies = len(found) > 1 and np.ptp(found) > 0 and np.ptp(gold) > 0
        return {
            "mse": float(np.mean((found - gold) ** 2)),
            "mae": float(np.mean(np.abs(found - gold))),
            "pearson": float(stats.pearsonr(found, gold).statistic) if varies else None,
            "spearman": float(stats.spearmanr(found, gold).statistic) if varies else None,
        }


class QuestionAnswering(MemoryMetric):
    """Exact match and F1 in per cent, as the official scorers of SQuAD 2.0 (default) and TriviaQA have them.

    `compute(predictions=[…], references=[[…], …])`: one text per question, and all gold answers to it. An empty text
    says that there is no answer, and a question without gold answers has none: it is right if and only if nothing is
    predicted. Where there are such questions, the scores of the others (`has_answer_`) and of these (`no_answer_`) are
    given too, as SQuAD 2.0 has them. SQuAD 1.1's scorer gives the same where something is left of every gold answer
    without articles and punctuation. Configuration `"triviaqa"` scores in TriviaQA's way.
    """

    def _info(self) -> evaluate.MetricInfo:
        texts = datasets.Sequence(datasets.Value("string"))
        return _info(str(type(self).__doc__), datasets.Value("string"), texts)

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        normalise = normalise_triviaqa if self.config_name == "triviaqa" else normalise_squad
        scores = np.asarray([answer_scores(*pair, normalise) for pair in zip(predictions, references, strict=True)])
        answerable = np.asarray([bool(len(answers)) for answers in references])
        found: dict[str, Any] = {**_means("", scores), "total": len(scores)}
        if not answerable.all():
            for prefix, chosen in (("has_answer_", answerable), ("no_answer_", ~answerable)):
                if chosen.any():
                    found |= {**_means(prefix, scores[chosen]), f"{prefix}total": int(chosen.sum())}
        return found


def answer_scores(predicted: str, answers: list[str], normalise: Any = None) -> tuple[float, float]:
    """Exact match and F1, each between 0 and 1: the best over all gold answers.

    Args:
        predicted: The text that was found; empty for none.
        answers: The gold ones; an empty list for a question without an answer.
        normalise: `normalise_squad`, which it is if left out, or `normalise_triviaqa`.
    """
    normalise = normalise or normalise_squad
    found, golds = normalise(predicted), [normalise(answer) for answer in answers]
    if normalise is normalise_triviaqa:  # whose scorer has neither a word for no answer nor a special case for it
        nothing = 0.0
    else:
        nothing, golds = 1.0, [gold for gold in golds if gold]
    golds = golds or [""]
    return max(float(found == gold) for gold in golds), max(_token_f1(found, gold, nothing) for gold in golds)


def normalise_squad(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces: as SQuAD's scorer does it."""
    bare = "".join(character for character in text.lower() if character not in PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", bare).split())


def normalise_triviaqa(text: str) -> str:
    """Lower case, punctuation and underscores as spaces, without articles: as TriviaQA's scorer does it."""
    spaced = "".join(
        " " if character in TRIVIAQA_PUNCTUATION else character for character in text.replace("_", " ").lower()
    )
    return " ".join(ARTICLES.sub(" ", spaced).split())


def _token_f1(found: str, gold: str, nothing: float) -> float:
    """F1 of the words; `nothing` where neither side has any."""
    words, wanted = found.split(), gold.split()
    if not words and not wanted:
        return nothing
    common = sum((Counter(words) & Counter(wanted)).values())
    return 2 * common / (len(words) + len(wanted))


def _means(prefix: str, scores: np.ndarray) -> dict[str, float]:
    exact, f1 = (float(one) for one in 100 * scores.mean(axis=0))
    return {f"{prefix}exact_match": exact, f"{prefix}f1": f1}


class HotpotQA(MemoryMetric):
    """Answers, supporting facts and both together, as shares of 1, under the names of HotpotQA's official scorer.

    `compute(predictions=[…], references=[…])`: of every question `{"answer": text, "supporting_facts": {"title": […],
    "sent_id": […]}}`; either may be None in a prediction, which counts as wrong. `em`, `f1`, `prec` and `recall` are
    those of the answer; a "yes", "no" or "noanswer" on either side is right as a whole or not at all. `sp_…` are those
    of the set of supporting facts. Of `joint_…` precision and recall are the products of both, and the exact match
    means both.
    """

    def _info(self) -> evaluate.MetricInfo:
        text, number = datasets.Value("string"), datasets.Value("int64")
        facts = {"title": datasets.Sequence(text), "sent_id": datasets.Sequence(number)}
        one = {"answer": text, "supporting_facts": facts}
        return _info(str(type(self).__doc__), one, one)

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        scores = [hotpotqa_scores(*pair) for pair in zip(predictions, references, strict=True)]
        return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}


def hotpotqa_scores(predicted: dict[str, Any], gold: dict[str, Any]) -> dict[str, float]:
    """The twelve scores of a question, each between 0 and 1; arguments as `HotpotQA.compute` takes them."""
    answer, facts = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
    if predicted["answer"] is not None:
        found, wanted = normalise_squad(predicted["answer"]), normalise_squad(gold["answer"])
        is_one_word = found in HOTPOTQA_WORDS or wanted in HOTPOTQA_WORDS
        words = (Counter(found.split()), Counter(wanted.split()))
        answer = (float(found == wanted), *((0.0, 0.0) if is_one_word and found != wanted else _overlap(*words)))
    supporting, right = _facts(predicted["supporting_facts"]), _facts(gold["supporting_facts"])
    if supporting is not None and right is not None:
        facts = (float(supporting == right), *_overlap(Counter(supporting), Counter(right)))
    both = tuple(one * other for one, other in zip(answer, facts, strict=True))
    return {
        f"{part}{name}": value
        for part, (exact, precision, recall) in {"": answer, "sp_": facts, "joint_": both}.items()
        for name, value in {
            "em": exact,
            "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
            "prec": precision,
            "recall": recall,
        }.items()
    }


def _facts(columns: dict[str, Any] | None) -> set[tuple[str, int]] | None:
    if columns is None or columns["title"] is None:
        return None
    return set(zip(columns["title"], columns["sent_id"], strict=True))


def _overlap(found: Counter, wanted: Counter) -> tuple[float, float]:
    """Precision and recall; 0 where there is nothing."""
    common = (found & wanted).total()
    return tuple(common / one.total() if common else 0.0 for one in (found, wanted))  # type: ignore[return-value]


class Entities(MemoryMetric):
    """Precision, recall and F1 of whole entities in BIO tags (`B-`, `I-`, `O`), BIOES, BILOU, BMES or BMEWO, and
    accuracy of tags.

    `compute(predictions=[[…]], references=[[…]], names=[…])`: the tags of every text, and all tags that there can be,
    which say the scheme; those that come up, if left out. With `layers=n`, as nested entities have, every n lists are
    of one text, and an entity counts once, in whichever layer it stands. An entity is right if its first token, its
    last token and its kind are. Ill-formed tags are read as seqeval's default mode and the scorer of CoNLL-2000 read
    them (`entities`). Tags without a prefix are entities of neighbouring tokens of one kind.
    """

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.Sequence(datasets.Value("string"))
        return _info(str(type(self).__doc__), tags, tags)

    def _compute(
        self, predictions: Any, references: Any, names: list[str] | None = None, layers: int = 1
    ) -> dict[str, Any]:
        pairs = list(zip(predictions, references, strict=True))
        scheme = scheme_of(names or {tag for texts in (predictions, references) for tags in texts for tag in tags})
        found, gold = (
            {(number // layers, *entity) for number, tags in enumerate(texts) for entity in entities(tags, scheme)}
            for texts in (predictions, references)
        )
        tags = [one == other for predicted, gold in pairs for one, other in zip(predicted, gold, strict=True)]
        kinds = sorted({entity[-1] for entity in found | gold})
        per_kind = {
            kind: _precision_recall_f1({one for one in found if one[-1] == kind}, {x for x in gold if x[-1] == kind})
            for kind in kinds
        }
        return {
            **_precision_recall_f1(found, gold),
            "accuracy": float(np.mean(tags)) if tags else 0.0,
            "f1_per_kind": {kind: scores["f1"] for kind, scores in per_kind.items()},
        }


def scheme_of(names: Iterable[str]) -> str:
    """The prefixes of a set of tags, one of the values of `SCHEMES`.

    `E-`, `S-` and their like are prefixes only where a kind has them beside `B-`, `I-` or `M-`: others, as in `E-mail`,
    are part of the name of a kind. Where no scheme has all prefixes, BIO is read.

    Args:
        names: All tags.
    """
    kinds: dict[str, set[str]] = {}
    for name in names:
        if name[:1] in MEANING and name[1:2] == "-":
            kinds.setdefault(name[0], set()).add(name[2:])
    begun = set().union(*(kinds.get(letter, set()) for letter in "BI"))
    letters = {letter for letter, of_letter in kinds.items() if letter in "BI" or of_letter & begun}
    return next((scheme for scheme in SCHEMES.values() if letters <= set(scheme)), SCHEMES["BIO"])


def entities(tags: list[str], scheme: str | None = None) -> list[tuple[int, int, str]]:
    """First position, position behind the last, and kind of all entities in a row of tags.

    An entity begins with `B-` or `S-`, behind `E-`, `S-` or `O`, and where the kind changes, whatever its first tag is;
    it goes on as long as nothing begins. So `I-` or `E-` without a beginning begins one, and one without its end ends
    where another begins, as in seqeval's default mode.

    Args:
        tags: In one of `SCHEMES`, or kinds alone.
        scheme: As `scheme_of` gives it; of these tags, if left out.
    """
    scheme = scheme_of(tags) if scheme is None else scheme
    spans: list[tuple[int, int, str]] = []
    begin, kind, before = 0, None, "O"
    for position, tag in enumerate([*tags, "O"]):
        has_prefix = tag[1:2] == "-" and tag[0] in scheme
        prefix, name = (MEANING[tag[0]], tag[2:]) if has_prefix else ("I", tag)
        here = None if tag == "O" else name
        if kind is not None and (here != kind or prefix in "BS" or before in "ES"):
            spans.append((begin, position, kind))
            kind = None
        if here is not None and kind is None:
            begin, kind = position, here
        before = prefix
    return spans


def _precision_recall_f1(found: set, gold: set) -> dict[str, float]:
    common = len(found & gold)
    precision, recall = (common / len(one) if one else 0.0 for one in (found, gold))
    both = len(found) + len(gold)
    return {"precision": precision, "recall": recall, "f1": 2 * common / both if both else 0.0}


def _info(description: str, prediction: Any, reference: Any) -> evaluate.MetricInfo:
    features = datasets.Features({"predictions": prediction, "references": reference})
    return evaluate.MetricInfo(description=description, citation="", features=features)
