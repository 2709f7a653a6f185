# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Hard negatives: documents of other queries that the model itself, before it is trained, takes for near."""

from pathlib import Path
from typing import Any

from sentence_transformers.util import mine_hard_negatives

from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import read_json, write_json

from .pairs import DOCUMENT, NEGATIVE, QUERY, Row, Texts

KEPT = "hard-negatives.json"
MARGIN = 0.05  # as a share of the positive's similarity: what is nearer may be right, too (arXiv 2407.15831)


def mined_before_or_now(
    texts: Texts, model: Any, number: int, prompts: tuple[str, str], folder: Path, batch_size: int = 4
) -> list[Row]:
    """Pairs with `number` negatives each, without those of which fewer were found; kept in a folder for a run that
    goes on.

    Args:
        texts: Pairs without negatives.
        model: A `SentenceTransformer`.
        number: Of negatives.
        prompts: What stands in front of queries, and of documents.
        folder: Of the run.
        batch_size: Texts at once.

    Raises:
        InputError: If no pair has as many.
    """
    place = {row[DOCUMENT]: index for index, row in enumerate(texts.rows)}
    if not (folder / KEPT).is_file():
        found = _mined(texts, model, number, prompts, batch_size)
        write_json(folder / KEPT, [[index, *(place[text] for text in negatives)] for index, negatives in found])
    rows = []
    for index, *negatives in read_json(folder / KEPT, list):
        others = {f"{NEGATIVE}_{n}": texts.rows[other][DOCUMENT] for n, other in enumerate(negatives, 1)}
        rows.append({**texts.rows[index], **others})
    if not rows:
        raise InputError(
            f"--hard_negatives {number} needs so many documents that are like a query and not its own, got none for "
            f"any of {len(texts.rows)} pairs: ask for fewer"
        )
    return rows


def _mined(
    texts: Texts, model: Any, number: int, prompts: tuple[str, str], batch_size: int
) -> list[tuple[int, list[str]]]:
    """Rows by their numbers, and their negatives."""
    first = {(row[QUERY], row[DOCUMENT]): index for index, row in enumerate(texts.rows)}
    if number >= len({row[DOCUMENT] for row in texts.rows}):
        return []
    mined = mine_hard_negatives(
        texts.dataset().select_columns([QUERY, DOCUMENT]),
        model,
        num_negatives=number,
        relative_margin=MARGIN,
        query_prompt=prompts[0],
        corpus_prompt=prompts[1],
        output_format="n-tuple",
        batch_size=batch_size,
        verbose=False,
    )
    names = [f"{NEGATIVE}_{n}" for n in range(1, number + 1)]
    return [(first[row[QUERY], row[DOCUMENT]], [row[name] for name in names]) for row in mined]
