# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Pairs made of documents that nobody has asked about: what stands in a document is the query, it is the answer."""

import re
import zlib
from collections.abc import Callable

import numpy as np
from transformers.utils import logging

from hf_longformer.conversion import InputError

from .pairs import DOCUMENT, QUERY, TITLE, Row, Texts

logger = logging.get_logger(__name__)
# Where sentences end: behind a full stop, an exclamation or a question mark and what closes behind it, and before an
# empty line. What stands in "3.5" or ends a line of a paragraph is no end.
END = re.compile(r"[.!?][\"'”’»)\]]*(?=\s)|[。！？]|(?=\n\s*\n)|\Z")
BLANK_LINE = re.compile(r"\n\s*\n")
LEAST_CHARACTERS = 20  # of a sentence that is asked with
SECTION_CHARACTERS = 1000  # paragraphs are joined to sections of at least so many


def sentences_of(text: str) -> list[tuple[int, int]]:
    """First character of every sentence, and the one behind its last; sentences too short to tell anything are none."""
    found, start = [], 0
    for match in END.finditer(text):
        end = match.end()
        begin = end - len(text[start:end].lstrip())
        if end - begin >= LEAST_CHARACTERS:
            found.append((begin, end))
        start = end
    return found


def sections_of(text: str) -> list[str]:
    """What empty lines separate, joined until a section has 1,000 characters."""
    sections: list[str] = []
    for paragraph in filter(str.strip, BLANK_LINE.split(text)):
        if sections and len(sections[-1]) < SECTION_CHARACTERS:
            sections[-1] += f"\n\n{paragraph}"
        else:
            sections.append(paragraph)
    return sections


def make_pairs(texts: Texts, how: str, seed: int, keep_passage: float = 0.1, queries: int = 1) -> Texts:
    """Pairs of documents without queries.

    What is drawn depends on the seed and on the document itself, not on its place.

    Args:
        texts: Documents, with titles where those are the queries.
        how: `"titles"`: the title asks for the text. `"inverse-cloze"`: a sentence asks for the text around it
            (Lee et al. 2019, arXiv 1906.00300). `"neighbouring-sections"`: a section asks for the one behind it.
        seed: Of what is drawn.
        keep_passage: The share of sentences that stay in their document with `"inverse-cloze"`.
        queries: Of every document, fewer if it has no more sentences or sections.

    Raises:
        InputError: If no document can be used.
    """
    ways: dict[str, Callable[[Row, np.random.Generator], list[Row]]] = {
        "titles": lambda row, random: _with_title(row),
        "inverse-cloze": lambda row, random: _inverse_cloze(row[DOCUMENT], random, keep_passage, queries),
        "neighbouring-sections": lambda row, random: _neighbours(row[DOCUMENT], random, queries),
    }
    made = Texts([], True, skipped=texts.skipped)
    useless = 0
    for row in texts.rows:
        found = ways[how](row, np.random.default_rng((seed, zlib.crc32(row[DOCUMENT].encode(errors="replace")))))
        made.rows += found
        useless += not found
    if not made.rows:
        raise InputError(f"--pairs {how} needs documents with {NEEDED[how]}, got {len(texts.rows)} without")
    if useless:
        logger.warning(f"skipped {useless} of {len(texts.rows)} documents without {NEEDED[how]}")
    made.skipped += useless
    return made


NEEDED = {
    "titles": "a title",
    "inverse-cloze": "two sentences",
    "neighbouring-sections": f"two sections of {SECTION_CHARACTERS:,} characters",
}


def _with_title(row: Row) -> list[Row]:
    return [{QUERY: row[TITLE], DOCUMENT: row[DOCUMENT]}] if row.get(TITLE, "").strip() else []


def _inverse_cloze(text: str, random: np.random.Generator, keep: float, number: int) -> list[Row]:
    sentences = sentences_of(text)
    if len(sentences) < 2:
        return []
    drawn = random.permutation(len(sentences))[:number]
    stays = random.random(len(drawn)) < keep
    return [
        {QUERY: text[start:end], DOCUMENT: text if stay else (text[:start] + text[end:]).strip()}
        for (start, end), stay in zip((sentences[one] for one in drawn), stays, strict=True)
    ]


def _neighbours(text: str, random: np.random.Generator, number: int) -> list[Row]:
    sections = sections_of(text)
    drawn = random.permutation(max(0, len(sections) - 1))[:number]
    return [{QUERY: sections[one], DOCUMENT: sections[one + 1]} for one in drawn]
