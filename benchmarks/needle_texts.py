# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Real text of any length that somewhere says how somebody was called, and asks for it at its end."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_longformer.conversion import InputError

from .demo_names import name_words, story_paragraphs

NAMES = 100  # that are asked for, and that no training tells: chance is 1 %
SAID = " The {who} was called{name}."
WHO = "lighthouse keeper"
OTHERS = ("baker", "old doctor", "captain", "gardener", "innkeeper", "schoolmaster", "miller", "ferryman", "lawyer")
OTHERS_PER_TEXT = 3  # whose names the text says in the same words
AROUND = 0.02  # of the text: exact depths of round lengths are all at the same few position rows
SHORTEST = 128  # tokens, in which all of that has room


@dataclass(frozen=True)
class NeedleText:
    """A text and what is asked of it.

    Args:
        ids: `(S,)`, tokens, special ones included.
        name: The token that the mask stands for.
        name_at: Where it is said, the only place.
        mask_at: Where it is asked for.
        replaced: How often it stood in the text by itself, which has another of the names there.
    """

    ids: torch.Tensor
    name: int
    name_at: int
    mask_at: int
    replaced: int

    def row(self, *, is_global: bool, last: int | None = None) -> dict[str, torch.Tensor]:
        """What a model reads, and what it is to say: `input_ids`, `attention_mask`, `global_attention_mask` and
        `labels`, `(S,)` or, of the first token and those at the end, `(last,)` each.
        """
        kept = torch.ones_like(self.ids, dtype=torch.bool)
        if last is not None:
            kept[1 : max(1, len(kept) - last + 1)] = False
        is_mask = torch.arange(len(self.ids)) == self.mask_at
        labels = torch.where(is_mask, self.name, -100)
        row = {"input_ids": self.ids, "attention_mask": torch.ones_like(self.ids), "labels": labels}
        row["global_attention_mask"] = (is_mask & is_global).long()
        return {key: tensor[kept] for key, tensor in row.items()}


@dataclass(frozen=True)
class Filler:
    """Tokens of real text, without special ones, in the order of their books.

    Args:
        ids: `(n,)`.
        repeats: Whether the text may begin again where it ends; otherwise it is refused for longer texts.
        books: Their names.
    """

    ids: np.ndarray
    repeats: bool
    books: tuple[str, ...]

    def take(self, tokens: int, generator: random.Random) -> np.ndarray:
        """`(tokens,)`, successive, from anywhere."""
        spare = len(self.ids) - tokens
        start = generator.randrange(spare + 1) if spare >= 0 else generator.randrange(len(self.ids))
        return self.ids.take(range(start, start + tokens), mode="wrap")


def read_fillers(tokenizer: Any, books: Path | None) -> tuple[Filler, Filler]:
    """Text to train with, and other text to measure with: of the books of a folder, in the order of their names, the
    first, third, … and the second, fourth, …; or of a story that comes with the package, which begins again and again.

    Args:
        tokenizer: Of the model.
        books: A folder with two or more `.txt` files in UTF-8, or None.

    Raises:
        InputError: If there are fewer books, or if one is empty or not UTF-8.
    """
    if books is None:
        middle = story_paragraphs()[1:-1]
        halves = ("\n\n".join(middle[half::2]) for half in (0, 1))
        first, second = (Filler(_ids(tokenizer, text), True, ("lighthouse",)) for text in halves)
        return first, second
    files = sorted(books.glob("*.txt")) if books.is_dir() else []
    if len(files) < 2:
        raise InputError(f"--books must be a folder with two or more .txt files, got {len(files)} in {books}")
    parts = {file.stem: _ids(tokenizer, read_text(file)) for file in files}
    names = list(parts)
    if empty := [name for name, ids in parts.items() if not len(ids)]:
        raise InputError(f"--books must hold text, got nothing in {empty[0]}.txt")
    first, second = (
        Filler(np.concatenate([parts[name] for name in half]), False, tuple(half)) for half in (names[::2], names[1::2])
    )
    return first, second


def read_text(file: Path) -> str:
    """The paragraphs of a text file, each in a line.

    Raises:
        InputError: If it is not UTF-8, or cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"--books must hold files of text in UTF-8, got {file.name}: {error}") from error
    paragraphs = text.replace("\r\n", "\n").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())


def _ids(tokenizer: Any, text: str) -> np.ndarray:
    return np.array(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int64)


class NeedleTexts:
    """Makes texts.

    Args:
        tokenizer: Of the model; it must have a mask.
        filler: What stands around what is asked for.
        asked: Whether the names are those that are asked for; otherwise they are other words.

    Raises:
        InputError: If the tokenizer has no mask, or too few words that can be names.
    """

    def __init__(self, tokenizer: Any, filler: Filler, *, asked: bool) -> None:
        names = name_words(tokenizer)
        random.Random(1).shuffle(names)  # noqa: S311 - names are no secrets
        if tokenizer.mask_token is None or len(names) < NAMES:
            raise InputError(
                f"the tokenizer must have a mask, and {NAMES} capitalised words of one token in the manner of "
                f"RoBERTa's, got {len(names)} and the mask {tokenizer.mask_token!r}"
            )
        self.tokenizer, self.filler = tokenizer, filler
        self.names = [tokenizer.convert_tokens_to_ids(f"Ġ{name}") for name in names[:NAMES]]
        if not asked:
            self.names = _other_words(tokenizer, set(self.names))

    def make(self, length: int, depth: float | None, generator: random.Random) -> NeedleText:
        """A text.

        Args:
            length: Tokens, special ones included.
            depth: Where the name is said, or up to `AROUND` before or behind it: 0 at the beginning, 1 right before the
                question; None for anywhere.
            generator: Of everything that is left to chance.

        Raises:
            InputError: If there is no room, or not so much text.
        """
        self.check(length)
        name, *others = generator.sample(self.names, 1 + OTHERS_PER_TEXT)
        needle, question = self._said(WHO, name), self._said(WHO, self.tokenizer.mask_token_id)
        said = [
            self._said(who, other) for who, other in zip(generator.sample(OTHERS, len(others)), others, strict=True)
        ]
        room = length - 2 - sum(map(len, [needle, question, *said]))
        filler = self.filler.take(room, generator)
        itself = np.flatnonzero(filler == name)
        filler[itself] = [generator.choice(others) for _ in itself]
        if depth is None:
            place = generator.randrange(room + 1)
        else:
            place = round(min(max(depth + generator.uniform(-AROUND, AROUND), 0.0), 1.0) * room)
        places = [*sorted((generator.randrange(room + 1), one) for one in said), (place, needle)]
        ids: list[int] = [self.tokenizer.cls_token_id]
        begin = name_at = 0
        for end, sentence in sorted(places, key=lambda one: one[0]):
            ids += [*filler[begin:end].tolist(), *sentence]
            begin = end
            name_at = len(ids) - len(needle) + needle.index(name) if sentence is needle else name_at
        ids += filler[begin:].tolist()
        mask_at = len(ids) + question.index(self.tokenizer.mask_token_id)
        ids += [*question, self.tokenizer.sep_token_id]
        return NeedleText(torch.tensor(ids), name, name_at, mask_at, len(itself))

    def check(self, length: int) -> None:
        """Raises `InputError` if a text of so many tokens cannot be made."""
        if length < SHORTEST:
            raise InputError(f"--lengths must be at least {SHORTEST} tokens, got {length}")
        held = len(self.filler.ids)
        if length > held and not self.filler.repeats:
            books = ", ".join(self.filler.books)
            raise InputError(
                f"--lengths must be at most what the books hold ({books}: {held:,} tokens), got {length:,}"
            )

    def _said(self, who: str, token: int) -> list[int]:
        """The sentence with a token for the name."""
        mask = self.tokenizer.mask_token_id
        ids = _ids(self.tokenizer, SAID.format(who=who, name=self.tokenizer.mask_token))
        return [token if one == mask else one for one in ids.tolist()]


def _other_words(tokenizer: Any, without: set[int]) -> list[int]:
    """Whole words of one token, three letters or more, capitalised or not: of many a model learns to copy any."""
    words = sorted((word, token) for word, token in tokenizer.get_vocab().items() if word[0] == "Ġ")
    return [token for word, token in words if word[1:].isalpha() and len(word) > 3 and token not in without]
