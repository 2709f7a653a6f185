# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers that begin and end where words do."""

import re
import unicodedata

# Thai, Lao, Burmese, Khmer, Japanese and Chinese
WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def whole_words(start: int, end: int, context: str) -> tuple[int, int]:
    """A span that begins and ends where words do: one that does not is lengthened.

    Args:
        start, end: Characters of the context, the first and the one behind the last.
        context: The document.
    """
    while 0 < start < len(context) and _is_inside_word(context, start):
        start -= 1
    while 0 < end < len(context) and _is_inside_word(context, end):
        end += 1
    return start, end


def _is_inside_word(text: str, place: int) -> bool:
    return _is_of_word(text[place - 1]) and _is_of_word(text[place])


def _is_of_word(character: str) -> bool:
    """Whether it is a letter, a mark or a digit, of a script that has spaces between words."""
    return unicodedata.category(character)[0] in "LMN" and WITHOUT_SPACES.match(character) is None
