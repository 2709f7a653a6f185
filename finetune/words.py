# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents as words: what is a word, its tokens, windows that begin with whole words, and answers of whole words."""

import re
import unicodedata
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Regex, pre_tokenizers
from transformers import PreTrainedTokenizerBase

from hf_longformer.conversion import InputError

from .windows import with_prefix_space

# Words as corpora of tagged words have them: runs of letters, digits and marks; numbers with their points; "'s", "n't"
# and their like; dashes and dots in a row; every other character alone. So are the characters of scripts without
# spaces between words, each with its marks.
_SINGLE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
# The same scripts, as Python's regular expressions have to be told them.
WITHOUT_SPACES = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_LETTER = rf"(?:(?!{_SINGLE})[\p{{L}}\p{{N}}\p{{M}}\u200c\u200d])"
_BEHIND = r"(?![\p{L}\p{N}\p{M}])"
_WORD = "|".join(
    (
        rf"['’](?:s|m|d|re|ve|ll){_BEHIND}",
        rf"n['’]t{_BEHIND}",
        rf"{_SINGLE}[\p{{M}}\u200c\u200d]*",
        r"\p{N}+(?:[.,:]\p{N}+)+" + _BEHIND,
        rf"{_LETTER}+?(?=n['’]t{_BEHIND})",
        rf"{_LETTER}+",
        r"-{2,}",
        r"\.{2,}",
        r"\S",
    )
)
_SPLIT = pre_tokenizers.Split(Regex(_WORD), "removed", invert=True)


def words_of(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """The words of a text, and the first character of each and the one behind its last.

    Args:
        text: Any; what stands in no word is white space.
    """
    places = [place for _, place in _SPLIT.pre_tokenize_str(text)]
    return [text[begin:end] for begin, end in places], places


def places_of(words: list[str]) -> list[tuple[int, int]]:
    """First character, and the one behind the last, of every word of a text of words with one space between them."""
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    return [(int(end) - len(word), int(end)) for word, end in zip(words, ends, strict=True)]


class Encoded(NamedTuple):
    """A text as tokens.

    Args:
        ids: Of all tokens, without special ones.
        starts: The position of every word's first token.
        words: Of every token, the number of its word.
        characters: Of every token, its first character and the one behind its last, in its word.
    """

    ids: list[int]
    starts: list[int]
    words: list[int]
    characters: list[tuple[int, int]]


def for_words(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, changed to read words as within a text, if it cares at all.

    Raises:
        InputError: If it cannot say which tokens are of which word.
    """
    if not tokenizer.is_fast:
        raise InputError(f"words need a tokenizer of the library tokenizers, got {type(tokenizer).__name__}")
    return with_prefix_space(tokenizer)


def with_special_tokens(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """A window as the model reads it: one token in front, one behind."""
    return [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]


def encode_words(tokenizer: PreTrainedTokenizerBase, texts: list[list[str]]) -> list[Encoded]:
    """Texts, given as words, as tokens.

    A word that the tokenizer makes nothing of, such as an empty one, becomes an unknown token.
    """
    options: dict[str, Any] = {"is_split_into_words": True, "add_special_tokens": False, "verbose": False}
    options["return_offsets_mapping"] = True
    encoded = tokenizer(texts, **options)
    found = []
    for number, words in enumerate(texts):
        ids, of_token = encoded["input_ids"][number], encoded.word_ids(number)
        characters = encoded["offset_mapping"][number]
        if len(set(of_token)) < len(words):
            present = set(of_token)
            named = [word if index in present else str(tokenizer.unk_token) for index, word in enumerate(words)]
            again = tokenizer([named], **options)
            ids, of_token = again["input_ids"][0], again.word_ids(0)
            characters = [
                pair if word in present else (0, len(words[word]))
                for word, pair in zip(of_token, again["offset_mapping"][0], strict=True)
            ]
        changes = [one != other for one, other in pairwise([None, *of_token])]
        starts = [position for position, new in enumerate(changes) if new]
        found.append(Encoded(ids, starts, of_token, characters))
    return found


def cut_texts(
    tokenizer: PreTrainedTokenizerBase, texts: list[list[str]], *, length: int, stride: int
) -> list[tuple[Encoded, list[tuple[int, int]]]]:
    """Texts, given as words, as tokens, and their windows, as `cut_words` gives them.

    Args:
        tokenizer: As `for_words` gives it.
        texts: Words of every text.
        length: Tokens at once, special ones included.
        stride: Tokens that neighbouring windows share at least; less than `length - 2`.
    """
    encoded = encode_words(tokenizer, texts)
    return [(one, cut_words(len(one.ids), one.starts, length - 2, stride)) for one in encoded]


def cut_words(tokens: int, starts: list[int], room: int, stride: int) -> list[tuple[int, int]]:
    """First token and token behind the last of overlapping windows that hold a text.

    Args:
        tokens: Of the text.
        starts: Where words begin, in order.
        room: Tokens of a window.
        stride: Tokens that neighbouring windows share at least; less than `room`.
    """
    windows = [(0, min(room, tokens))]
    while windows[-1][1] < tokens:
        begin, end = windows[-1]
        at = end - stride
        word = starts[int(np.searchsorted(starts, at, side="right")) - 1]
        begin = word if word > begin else at  # in the middle of a word only if that word fills a window
        windows.append((begin, min(begin + room, tokens)))
    return windows


def owners_of(windows: list[tuple[int, int]], starts: list[int]) -> list[int]:
    """For every word the index of the window in which its first token stands farthest from an edge.

    Args:
        windows: As `cut_words` gives them.
        starts: Where words begin.
    """
    best, owners = [-1] * len(starts), [0] * len(starts)
    for index, (begin, end) in enumerate(windows):
        for word in range(*np.searchsorted(starts, (begin, end))):
            distance = min(starts[word] - begin, end - 1 - starts[word])
            if distance > best[word]:
                best[word], owners[word] = distance, index
    return owners


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
    return unicodedata.category(character)[0] in "LMN" and re.match(WITHOUT_SPACES, character) is None
