# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""ROUGE by the package rouge-score, and how long summaries are and how much of them is copied."""

import unicodedata
from typing import Any

import numpy as np

from ..words import words_of

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
COPIED = (2, 4)  # words in a row
# Of the letters of a reference: beyond it, rouge-score's own words, of a to z and digits alone, say too little.
MOST_OTHER_LETTERS = 0.1


class UnicodeWords:
    """Words of any script in lower case, for `RougeScorer(tokenizer=…)`; as everywhere in this package, characters of
    scripts without spaces are words.
    """

    @staticmethod
    def tokenize(text: str) -> list[str]:
        """The words of a text: what has a letter or a digit in it."""
        words, _ = words_of(unicodedata.normalize("NFC", text).lower())
        return [word for word in words if any(map(str.isalnum, word))]


def scorers() -> tuple[Any, Any]:
    """What scores English and its like, with Porter's stems as in the original ROUGE, and what scores the rest.

    Raises:
        ImportError: If rouge-score is not installed.
    """
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(ROUGE, use_stemmer=True), RougeScorer(ROUGE, tokenizer=UnicodeWords())


def needs_unicode(reference: str) -> bool:
    """Whether more than a tenth of the letters of a reference are others than a to z."""
    letters = [character for character in reference if character.isalpha()]
    return sum(not letter.isascii() for letter in letters) > MOST_OTHER_LETTERS * len(letters)


def rouge(predicted: list[str], gold: list[str]) -> dict[str, float]:
    """ROUGE-1, -2, -L and -Lsum, F-measures in per cent, means over the summaries; and how many were scored by words
    of Unicode, `unicode_words`.

    Equal to rouge-score with `use_stemmer=True` but for summaries whose references are of another script
    (`needs_unicode`): rouge-score would leave out their letters, and give equal texts 0. Sentences are told apart by
    line breaks, for rougeLsum: without any it is rougeL.

    Args:
        predicted: The summaries.
        gold: The references.
    """
    latin, unicode = scorers()
    is_other = [needs_unicode(reference) for reference in gold]
    found = [
        (unicode if other else latin).score(reference, summary)
        for summary, reference, other in zip(predicted, gold, is_other, strict=True)
    ]
    means = {name: 100 * float(np.mean([one[name].fmeasure for one in found])) for name in ROUGE}
    return {**means, "unicode_words": sum(is_other)}


def copied(summaries: list[str], documents: list[str]) -> dict[str, float]:
    """Which share of the n-grams of words of summaries stands in their documents, in per cent, means over the summaries
    that have any: what is not novel in See et al. 2017. Absent where none has any.

    Args:
        summaries: The summaries.
        documents: What they are of.
    """
    shares: dict[int, list[float]] = {size: [] for size in COPIED}
    for summary, document in zip(summaries, documents, strict=True):
        words, others = UnicodeWords.tokenize(summary), UnicodeWords.tokenize(document)
        for size in COPIED:
            if grams := _grams(words, size):
                shares[size].append(len(grams & _grams(others, size)) / len(grams))
    return {f"copied_{size}grams": 100 * float(np.mean(some)) for size, some in shares.items() if some}


def _grams(words: list[str], size: int) -> set[tuple[str, ...]]:
    return set(zip(*(words[start:] for start in range(size)), strict=False))


def lengths(generated: list[int], gold: list[int], most: int) -> dict[str, float]:
    """How long summaries are, in tokens.

    Args:
        generated: Tokens of every summary, its end included.
        gold: The same of the references.
        most: The longest that could be generated.

    Returns:
        Means, `generated_tokens` and `gold_tokens`, their ratio, and `at_limit`, how many are as long as they could be,
        so that they may lack their end.
    """
    means = {"generated_tokens": float(np.mean(generated)), "gold_tokens": float(np.mean(gold))}
    ratio = means["generated_tokens"] / means["gold_tokens"]
    return {**means, "length_ratio": ratio, "at_limit": sum(length >= most for length in generated)}
