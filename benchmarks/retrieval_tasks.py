# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents and what is asked of them: passkeys and needles of any length, in the manner of LongEmbed (arXiv
2404.12096, § 4.1), and questions about articles in the form of SQuAD.
"""

import bisect
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from hf_longformer.conversion import InputError

from .demo_names import story_paragraphs
from .needle_texts import read_text

PASSKEY, NEEDLE, QUESTIONS = "passkey", "needle", "questions"
GENERATED = (PASSKEY, NEEDLE)
FIRST = [
    "Ada", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Henry", "Irene", "Jonas", "Karin", "Louis", "Marta",
    "Nolan", "Olga", "Peter", "Rosa", "Simon", "Tilda", "Victor",
]  # fmt: skip
LAST = [
    "Abbott", "Bergman", "Castle", "Dalton", "Ekholm", "Fischer", "Granger", "Holloway", "Ivanov", "Jensen", "Keller",
    "Lindqvist", "Marlowe", "Norwood", "Osborne", "Pritchard", "Quimby", "Rosenthal", "Sandoval", "Thornton",
]  # fmt: skip
HAYSTACK = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
KEY = "{name}'s pass key is {value}. Remember it. {value} is the pass key for {name}. "
KEY_QUESTION = "what is the pass key for {name}?"
PLACES = "Ashford Brindle Carrow Dunmere Elmstead Farleigh Grantham Hexley Inverly Jarrow".split()  # noqa: SIM905
FACTS = {  # what a needle says, and what is asked
    "{name} was born in the village of {place}. ": "Where was {name} born?",
    "{name} keeps bees on a farm near {place}. ": "What does {name} keep on the farm?",
    "{name} lost a silver watch on the road to {place}. ": "What did {name} lose on the road?",
    "{name} teaches the violin at the school in {place}. ": "What instrument does {name} teach?",
    "{name} bought the old mill at {place} for forty pounds. ": "What did {name} pay for the old mill?",
}
DOCUMENTS, FEWEST, TOKENS = 50, 16, 2**19  # of one length: fewer of longer ones, until so many are left


@dataclass(frozen=True)
class Retrieval:
    """Documents and queries, each of which one document answers.

    Args:
        documents: Their texts.
        queries: Theirs.
        answers: `(queries,)`, the index of the document for every query.
    """

    documents: list[str]
    queries: list[str]
    answers: np.ndarray


class Haystack:
    """Text around what is looked for, as pieces between sentences.

    Args:
        text: Real or made text; it begins again where it ends.
        tokenizer: What counts tokens.
    """

    def __init__(self, text: str, tokenizer: Any) -> None:
        encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        self.text, self.starts = text, [start for start, _ in encoding["offset_mapping"]]

    def take(self, tokens: int, generator: random.Random) -> str:
        """About so many successive tokens, from anywhere, words whole."""
        parts, missing = [], tokens
        begin = generator.randrange(max(1, len(self.starts) - tokens))
        while missing > 0:
            end = min(begin + missing, len(self.starts))
            stop = self.starts[end] if end < len(self.starts) else len(self.text)
            parts.append(self.text[self.starts[begin] : stop])
            missing, begin = missing - (end - begin), 0
        return "".join(parts)

    @staticmethod
    def put(text: str, said: str, depth: float) -> str:
        """The text with what is said behind the sentence that ends nearest to a depth of it, from 0 to 1."""
        ends = [
            0,
            *(place + 2 for place in range(len(text)) if text[place : place + 2] in (". ", "! ", "? ")),
            len(text),
        ]
        wanted = depth * len(text)
        place = bisect.bisect_left(ends, wanted)
        near = min(ends[max(0, place - 1) : place + 1], key=lambda end: abs(end - wanted))
        before = text[:near]
        return f"{before}{' ' if before and not before[-1].isspace() else ''}{said}{text[near:]}"


def number_of_documents(length: int) -> int:
    """Documents of one length."""
    return max(FEWEST, min(DOCUMENTS, TOKENS // length))


def make(task: str, length: int, seed: int, tokenizer: Any, haystack: Haystack) -> Retrieval:
    """Documents of one length, each with something about another person, and a question about each person.

    Args:
        task: `"passkey"` or `"needle"`.
        length: Tokens at most, special ones included; a few less.
        seed: Of names, depths and the text around.
        tokenizer: What counts tokens.
        haystack: What stands around; of a passkey it is not looked at.
    """
    generator = random.Random(f"{task} {length} {seed}")  # noqa: S311 - names are no secrets
    names = [f"{first} {last}" for first, last in product(FIRST, LAST)]
    chosen = generator.sample(names, number_of_documents(length))
    around = Haystack(HAYSTACK * 40, tokenizer) if task == PASSKEY else haystack
    documents, queries = [], []
    for number, name in enumerate(chosen):
        if task == PASSKEY:
            said, asked = KEY.format(name=name, value=generator.randrange(10_000, 100_000)), KEY_QUESTION
        else:
            said, asked = list(FACTS.items())[number % len(FACTS)]
            place = generator.choice(PLACES)
            said = said.format(name=name, place=place)
        own = len(tokenizer(said)["input_ids"])
        text = around.take(length - own, generator)
        documents.append(_fitting(around.put(text, said, generator.random()), said, length, tokenizer))
        queries.append(asked.format(name=name))
    return Retrieval(documents, queries, np.arange(len(chosen)))


def _fitting(document: str, said: str, length: int, tokenizer: Any) -> str:
    """The document without last words that are too many; what it says stays."""
    while (over := len(tokenizer(document, verbose=False)["input_ids"]) - length) > 0:
        words = document.split(" ")
        kept = " ".join(words[:-over]) if document.find(said) + len(said) < len(" ".join(words[:-over])) else None
        document = kept if kept is not None else " ".join(words[over:])
    return document


def read_questions(files: Sequence[Path], limit: int, distractors: Sequence[Path] = ()) -> Retrieval:
    """Contexts of files in SQuAD's form as documents, and questions about them, of many a sample.

    Args:
        files: JSON files.
        limit: Questions at most.
        distractors: Files whose contexts are documents, too, and whose questions are not asked.

    Raises:
        InputError: If a file has another form, or there are fewer than two documents.
    """
    documents: list[str] = []
    asked: list[tuple[str, int]] = []
    for file in (*files, *distractors):
        try:
            articles = json.loads(file.read_text(encoding="utf-8"))["data"]
            for paragraph in (one for article in articles for one in article["paragraphs"]):
                if file in files:
                    asked += [(str(one["question"]), len(documents)) for one in paragraph["qas"]]
                documents.append(str(paragraph["context"]))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
            name = "--questions" if file in files else "--distractors"
            raise InputError(f"{name} must be files in SQuAD's form, got {file}: {error!r}") from error
    if len(documents) < 2 or not asked:
        raise InputError(f"--questions must have two contexts and a question, got {len(documents)} and {len(asked)}")
    random.Random(0).shuffle(asked)  # noqa: S311 - a sample is no secret
    chosen = asked[:limit]
    return Retrieval(documents, [text for text, _ in chosen], np.array([index for _, index in chosen]))


def read_haystack(books: Path | None, tokenizer: Any) -> Haystack:
    """Text around needles: of the books of a folder, or of a story that comes with the package.

    Raises:
        InputError: If the folder holds no text.
    """
    if books is None:
        return Haystack(" ".join(story_paragraphs()[1:-1]), tokenizer)
    files = sorted(books.glob("*.txt")) if books.is_dir() else []
    text = " ".join(" ".join(read_text(file).split())[:2_000_000] for file in files)
    if not text:
        raise InputError(f"--books must be a folder with text in .txt files, got {len(files)} in {books}")
    return Haystack(text, tokenizer)
