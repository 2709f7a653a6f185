# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Predictors that read documents as words, which are given or are found in a text."""

from collections.abc import Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from hf_longformer.conversion import InputError

from .data import is_nothing, text_of
from .prediction import Predictor
from .words import for_words, places_of, words_of

TEXT, TOKENS = "text", "tokens"  # entries of a row
PLACE = dict.fromkeys(("start", "end", "start_word", "end_word"), pa.int64())  # columns of what has been found


class WordsPredictor(Predictor):
    """Reads rows with `text`, or with `tokens`, a list of words.

    Places count characters of the text, after paragraphs were joined; of words, characters of the words with one space
    between them, and, as `start_word` and `end_word`, words.
    """

    columns = (TEXT, TOKENS)
    one_of = True

    def __init__(self, model: Any, tokenizer: Any, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        self.tokenizer = for_words(deepcopy(tokenizer))

    def complaint(self, row: dict[str, Any], names: Mapping[str, str] = MappingProxyType({})) -> str | None:
        """What is wrong with a row; None if nothing is.

        Args:
            row: The row.
            names: What its entries are called elsewhere.
        """
        text, tokens = (names.get(name, name) for name in self.columns)
        present = [name for name in self.columns if not is_nothing(row.get(name))]
        if len(present) != 1:
            return f"an entry {text} or {tokens} is needed, got {'both' if present else 'none'}"
        if present == [TOKENS]:
            words = row[TOKENS]
            if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
                return None
            return f"{tokens} must be a list of words, got {str(words)[:60]!r}"
        try:
            is_empty = not text_of(row[TEXT]).strip()
        except InputError as error:
            return f"{text}: {error}"
        return f"{text} must not be empty" if is_empty else None

    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        """The words of a row, their places, and the text that these are counted in."""
        if not is_nothing(row.get(TOKENS)):
            words = row[TOKENS]
            return {"words": words, "places": places_of(words), TEXT: " ".join(words), "are_given": True}
        text = text_of(row[TEXT])
        words, places = words_of(text)
        return {"words": words, "places": places, TEXT: text, "are_given": False}

    @staticmethod
    def word_places(row: dict[str, Any], first: int, behind: int) -> dict[str, int]:
        """Which words something is, if words were given."""
        return {"start_word": first, "end_word": behind} if row["are_given"] else {}
