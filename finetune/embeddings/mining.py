# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Hard negatives: documents of other queries that the model itself, before it is trained, takes for near."""

from typing import Any

from sentence_transformers.util import mine_hard_negatives

from hf_longformer.conversion import InputError

from .pairs import DOCUMENT, NEGATIVE, QUERY, Row, Texts

KEPT = "hard-negatives.json"
BATCH = 4  # texts at once


def mine(texts: Texts, model: Any, number: int, margin: float, prompts: tuple[str, str]) -> list[list[int]]:
    """For pairs of which as many negatives were found, the number of the pair, and of those whose documents they are.

    Args:
        texts: Pairs without negatives.
        model: A `SentenceTransformer`.
        number: Of negatives.
        margin: Negatives are less like the query than its document, by this share of that at least.
        prompts: What stands in front of queries, and of documents.

    Raises:
        InputError: If no pair has as many.
    """
    place = {row[DOCUMENT]: index for index, row in enumerate(texts.rows)}
    found = _mined(texts, model, number, margin, prompts) if number < len(place) else []
    if not found:
        raise InputError(
            f"--hard_negatives {number} needs so many documents that are like a query, and by --hard_negatives_margin "
            f"{margin} less than its own, got none for any of {len(texts.rows)} pairs: ask for fewer, or for less"
        )
    return [[index, *(place[text] for text in negatives)] for index, negatives in found]


def with_negatives(texts: Texts, found: list[list[int]]) -> list[Row]:
    """Pairs with their negatives.

    Args:
        texts: Pairs without.
        found: As `mine` gives them.
    """
    return [
        {
            **texts.rows[index],
            **{f"{NEGATIVE}_{n}": texts.rows[other][DOCUMENT] for n, other in enumerate(negatives, 1)},
        }
        for index, *negatives in found
    ]


def _mined(
    texts: Texts, model: Any, number: int, margin: float, prompts: tuple[str, str]
) -> list[tuple[int, list[str]]]:
    """Rows by their numbers, and their negatives."""
    first = {(row[QUERY], row[DOCUMENT]): index for index, row in enumerate(texts.rows)}
    mined = mine_hard_negatives(
        texts.dataset().select_columns([QUERY, DOCUMENT]),
        model,
        num_negatives=number,
        relative_margin=margin,
        query_prompt=prompts[0],
        corpus_prompt=prompts[1],
        output_format="n-tuple",
        batch_size=BATCH,
        verbose=False,
    )
    names = [f"{NEGATIVE}_{n}" for n in range(1, number + 1)]
    return [(first[row[QUERY], row[DOCUMENT]], [row[name] for name in names]) for row in mined]
