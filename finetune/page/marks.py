# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What was predicted of a document, as marks in its text, and the text in pieces that begin and end where marks do.

Places count characters as Python does. A browser counts some of them twice (emoji, rare Chinese characters), and so
gets pieces of text and no places.
"""

from collections import defaultdict
from itertools import pairwise
from typing import Any, NamedTuple

from hf_longformer.conversion.errors import InputError

PART = 1_500  # characters after which the next paragraph begins a part of the page that is laid out by itself
AROUND, LONGEST = 24, 160  # characters shown beside a mark, and of one, in a list


class Mark(NamedTuple):
    """A place in the text.

    Args:
        start, end: Characters, the first and the one behind the last.
        chain: Number of the chain that it belongs to.
        note: What is said of it besides, such as its probability.
    """

    start: int
    end: int
    chain: int
    note: str = ""


class Chain(NamedTuple):
    """Marks that belong together: a cluster, the entities of one kind, the answers to a question.

    Args:
        kind: `"cluster"`, `"entity"` or `"answer"`.
        name: What it is called.
        size: How many marks it has.
    """

    kind: str
    name: str
    size: int


def marks_of(text: str, result: dict[str, Any]) -> tuple[list[Chain], list[Mark]]:
    """The chains of a result, the largest first of every kind, and their marks, in the order in which they are read.

    Args:
        text: The document.
        result: A line of `hf-longformer predict`.

    Raises:
        InputError: If a mark is not in the text, or the text there is not what was predicted.
    """
    found = [*_answers(text, result), *_clusters(text, result), *_entities(text, result)]
    chains = [Chain(kind, name, len(places)) for kind, name, places in found]
    marks = [Mark(*place[:2], chain, place[2]) for chain, (_, _, places) in enumerate(found) for place in places]
    return chains, marks


def _answers(text: str, result: dict[str, Any]) -> list[tuple[str, str, list[tuple[int, int, str]]]]:
    """The answer, or the best ones, the likeliest first."""
    if not isinstance(result.get("answer"), str):
        return []
    best = result.get("n_best")
    candidates = _objects(best, "n_best") if best is not None else [{**result, "text": result["answer"]}]
    places = [
        (*_place(one, text, "text"), per_cent(one.get("probability")))
        for one in candidates
        if one.get("text") or one.get("start") is not None
    ]
    return [("answer", "answer" if len(places) == 1 else "answers", places)] if places else []


def _clusters(text: str, result: dict[str, Any]) -> list[tuple[str, str, list[tuple[int, int, str]]]]:
    if result.get("clusters") is None:
        return []
    if not isinstance(result["clusters"], list):
        raise InputError(f"clusters must be a list of lists, got {type(result['clusters']).__name__}")
    places = [
        sorted((*_place(one, text, "text"), "") for one in _objects(cluster, "a cluster"))
        for cluster in result["clusters"]
    ]
    clusters = sorted((cluster for cluster in places if cluster), key=lambda one: (-len(one), one))
    return [("cluster", shown(text[one[0][0] : one[0][1]]), one) for one in clusters]


def _entities(text: str, result: dict[str, Any]) -> list[tuple[str, str, list[tuple[int, int, str]]]]:
    if result.get("entities") is None:
        return []
    kinds: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for one in _objects(result["entities"], "entities"):
        kind = one.get("entity_group", one.get("entity"))
        if not isinstance(kind, str):
            raise InputError(f"an entity must have an entity_group or an entity, got {sorted(one)}")
        if not _is_empty(one):
            kinds[kind].append((*_place(one, text, "word"), per_cent(one.get("score"))))
    return [("entity", kind, sorted(kinds[kind])) for kind in sorted(kinds, key=lambda kind: (-len(kinds[kind]), kind))]


def number_of_empty(result: dict[str, Any]) -> int:
    """How many entities have no characters: tokens that stand for none, and empty words."""
    entities = result.get("entities")
    return sum(isinstance(one, dict) and _is_empty(one) for one in entities) if isinstance(entities, list) else 0


def _is_empty(entity: dict[str, Any]) -> bool:
    return entity.get("word") == "" and entity.get("start") == entity.get("end")


def _objects(value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise InputError(f"{what} must be a list of objects, got {str(value)[:60]}")
    return value


def _place(found: dict[str, Any], text: str, said: str) -> tuple[int, int]:
    """Where something stands, and whether it does.

    Args:
        found: With `start` and `end`.
        text: The document.
        said: Which entry, where it has one, must be what stands there.
    """
    start, end = found.get("start"), found.get("end")
    if type(start) is not int or type(end) is not int:
        raise InputError(f"start and end must be whole numbers, got {start!r} and {end!r}")
    if not 0 <= start < end <= len(text):
        raise InputError(f"start and end must lie in the text of {len(text):,} characters, got {start} and {end}")
    if isinstance(found.get(said), str) and found[said] != text[start:end]:
        raise InputError(
            f"the characters {start} to {end} must be {shown(found[said])!r} in the document, got "
            f"{shown(text[start:end])!r}: the results are of another file"
        )
    return start, end


def per_cent(share: Any) -> str:
    """A probability as people read it; empty for what is no number."""
    return f"{share:.1%}".replace("%", "\u202f%") if isinstance(share, float | int) else ""


def shown(text: str) -> str:
    """A text in one line, with its middle left out if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"


def surroundings(text: str, mark: Mark) -> tuple[str, str]:
    """What stands before and behind a mark, in one line, without the parts of words that would stand at its ends."""
    begin, end = max(0, mark.start - AROUND), min(len(text), mark.end + AROUND)
    before, after = text[begin : mark.start], text[mark.end : end]
    if begin and " " in before:
        before = before.partition(" ")[2]
    if end < len(text) and " " in after:
        after = after.rpartition(" ")[0]
    return " ".join(f"{before}|".split())[:-1], " ".join(f"|{after}".split())[1:]


def parts_of(text: str, marks: list[Mark]) -> list[list[tuple[str, list[int]]]]:
    """The text in parts, each of which ends with a line, and these in pieces.

    Args:
        text: The document.
        marks: Which may stand in one another, and cross.

    Returns:
        Per part its pieces, which make the text, each with the numbers of the marks that it belongs to, the longest
        mark first.
    """
    breaks = _breaks(text)
    opened, closed = defaultdict(list), defaultdict(list)
    for number, mark in enumerate(marks):
        opened[mark.start].append(number)
        closed[mark.end].append(number)
    cuts = sorted({0, len(text), *breaks, *opened, *closed})
    parts: list[list[tuple[str, list[int]]]] = [[]]
    active: list[int] = []
    for first, behind in pairwise(cuts):
        if first in breaks:
            parts.append([])
        active = [number for number in active if number not in closed[first]] if first in closed else active
        if first in opened:
            active = sorted([*active, *opened[first]], key=lambda one: marks[one].start - marks[one].end)
        parts[-1].append((text[first:behind], list(active)))
    return parts


def _breaks(text: str) -> set[int]:
    found: set[int] = set()
    last = 0
    while (line_end := text.find("\n", last + PART)) >= 0:
        last = line_end + 1
        found.add(last)
    return found - {len(text)}
