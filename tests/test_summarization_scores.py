# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/summarization/scores.py`: ROUGE as rouge-score has it, and other scripts, which it leaves out."""

import random

import pytest

from hf_longformer.finetune.summarization.scores import ROUGE, UnicodeWords, copied, lengths, needs_unicode, rouge

RougeScorer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge-score is not installed").RougeScorer
ENGLISH = [
    ("The cats were running.\nDogs slept in 3.14 beds!", "Cats run.\nA dog sleeps in snake_case beds, naïvely"),
    ("one sentence without a line break", "another sentence\nwith one line break"),
    ("", "Nothing was written."),
    ("A café in Zürich opened in 2024 -- its owner is happy", "The café in Zürich has opened; α and β decay were not"),
    ("...", "the same the same the same"),
]
OTHERS = {
    "Greek": "Η γρήγορη καφέ αλεπού πηδά πάνω από το τεμπέλικο σκυλί",
    "Chinese": "2024年今天天气很好，我们去公园散步",
    "Russian": "Быстрая коричневая лиса прыгает через ленивую собаку",
    "Hindi": "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है",
    "Vietnamese": "Con cáo nâu nhanh nhẹn nhảy qua con chó lười biếng",
}


def test_rouge_of_english_is_that_of_rouge_score() -> None:
    """Means of F-measures in per cent, with stems; also random words, sentences and lengths."""
    draw = random.Random(0)
    words = ["the", "runs", "running", "ran", "cat's", "cats.", "studies", "study", "U.S.A.", "3,000", "re-elected"]
    texts = [
        ("\n".join(" ".join(draw.choices(words, k=draw.randrange(9))) for _ in range(draw.randrange(1, 5))))
        for _ in range(80)
    ]
    pairs = [*ENGLISH, *((one, other or "cats") for one, other in zip(texts[::2], texts[1::2], strict=True))]
    scorer = RougeScorer(ROUGE, use_stemmer=True)
    found = [scorer.score(gold, predicted) for predicted, gold in pairs]
    expected = {name: 100 * sum(one[name].fmeasure for one in found) / len(pairs) for name in ROUGE}
    scores = rouge(*map(list, zip(*pairs, strict=True)))
    assert scores.pop("unicode_words") == 0
    assert scores == pytest.approx(expected, abs=1e-12)
    assert 0 < scores["rouge2"] < scores["rougeL"] < scores["rougeLsum"] < scores["rouge1"] < 100


def test_rouge_tells_sentences_apart_by_line_breaks() -> None:
    one, other = "the fox runs. the dog sleeps.", "the dog sleeps. the fox runs."
    joined = rouge([one], [other])
    assert joined["rougeLsum"] == joined["rougeL"] < 100
    lines = rouge([one.replace(". ", ".\n")], [other.replace(". ", ".\n")])
    assert lines["rougeLsum"] == pytest.approx(100)
    assert lines["rougeL"] == joined["rougeL"]


@pytest.mark.parametrize("language", OTHERS)
def test_rouge_of_other_scripts(language: str) -> None:
    """Equal texts score 100, halves about two thirds, and others nothing: rouge-score itself gives most of them 0."""
    text = OTHERS[language]
    assert needs_unicode(text)
    scores = rouge([text], [text])
    assert [scores[name] for name in ROUGE] == pytest.approx([100] * 4)
    assert scores["unicode_words"] == 1
    half = rouge([text[: len(text) // 2]], [text])
    assert 50 < half["rouge1"] < 80
    assert rouge(["fox"], [text])["rouge1"] == 0


def test_rouge_of_several_scripts_is_the_mean_of_both() -> None:
    scores = rouge(["the fox", OTHERS["Greek"]], ["the dog", OTHERS["Greek"]])
    assert scores["rouge1"] == pytest.approx(75)
    assert scores["unicode_words"] == 1


def test_words_do_not_depend_on_how_accents_are_written() -> None:
    assert UnicodeWords.tokenize("Cafe\u0301, ΚΑΛΗΜΈΡΑ — 2024年!") == ["café", "καλημέρα", "2024", "年"]


def test_copied_words() -> None:
    documents = ["the quick brown fox jumps over the dog", "a b c d e"]
    found = copied(["The quick brown fox, jumps too", "x"], documents)
    assert found == {"copied_2grams": pytest.approx(100 * 4 / 5), "copied_4grams": pytest.approx(100 * 2 / 3)}
    assert copied(["x", "y"], documents) == {}


def test_lengths() -> None:
    assert lengths([2, 4], [4, 8], 4) == {
        **{"generated_tokens": 3.0, "gold_tokens": 6.0, "length_ratio": 0.5},
        "at_limit": 1,
    }
