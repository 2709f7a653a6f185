# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""How many bits a model could gain by copying from what an index finds, whatever it has learned:

    python tests/measure_retrieval_bound.py PLACE [--neighbours 2]

PLACE is that of `make retrieval-memory`. The longest run of characters in front of each one is looked for in what was
found for the chunk before; what follows it there is mixed with what the model without an index expects. The share of
the mixture, one for every length of the run, is chosen on one half of the text and used in the other. Printed is a line
of JSON per index: bits gained per character, in all, without line breaks, and by the length of the run.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure_retrieval_memory import ARMS, CHUNK, NONE, PREDICTED, _as_file, index_of

from hf_longformer import HfLongformerForCausalLM, byte_tokenizer
from hf_longformer.retrieval import open_index

CONTEXT, STRIDE = 1024, 512  # characters that the model reads at once, and from one reading to the next
LONGEST = 20  # characters of a run
BLOCK = 4096  # characters that are of one half
SHARES = np.concatenate([[0.0], np.geomspace(1e-4, 0.9, 60)])
BREAK = ord("\n")


@torch.no_grad()
def expected(model: Any, ids: np.ndarray) -> np.ndarray:
    """What the model gives every character but the first, `(characters,)`; 0 where it was not asked."""
    found = np.zeros(len(ids))
    for start in range(0, len(ids) - STRIDE, STRIDE):
        part = torch.from_numpy(ids[start : start + CONTEXT])
        chances = model(part[None]).logits[0, :-1].softmax(-1).gather(1, part[1:, None])[:, 0].numpy()
        known = 0 if start == 0 else STRIDE
        found[start + known + 1 : start + len(part)] = chances[known:]
    return found


def follows(context: bytes, neighbours: list[bytes]) -> tuple[int, Counter[int]]:
    """How long the longest end of a context is that stands in neighbours, and what follows it there."""
    for length in range(min(LONGEST, len(context)), 0, -1):
        run, found = context[-length:], Counter[int]()
        for text in neighbours:
            place = text.find(run)
            while place >= 0:
                found.update(text[place + length : place + length + 1])
                place = text.find(run, place + 1)
        if found:
            return length, found
    return 0, Counter()


def characters(place: Path, index: Any, model: Any, neighbours: int) -> Iterator[tuple[int, float, float, int]]:
    """Of every character the length of the run, what the model and what the neighbours give it, and itself."""
    for name in PREDICTED:
        text = (place / "predicted" / f"{name}.txt").read_text(encoding="utf-8")
        ids = np.array(byte_tokenizer()(text).input_ids)
        chances, chunks = expected(model, ids), ids[: len(ids) // CHUNK * CHUNK].reshape(-1, CHUNK)
        found, _ = index.search(index.embed(list(chunks)), neighbours)
        tokens, are_there = index.neighbours(found, 2 * CHUNK)
        raw = bytes(ids.astype(np.uint8))
        for chunk in range(len(chunks) - 1):
            pairs = zip(tokens[chunk], are_there[chunk], strict=True)
            texts = [bytes(one[is_there].astype(np.uint8)) for one, is_there in pairs]
            for at in range((chunk + 1) * CHUNK, (chunk + 2) * CHUNK):
                length, counts = follows(raw[max(0, at - LONGEST) : at], texts)
                if chances[at]:
                    yield length, chances[at], counts[raw[at]] / max(1, counts.total()), raw[at]


def gains(rows: np.ndarray) -> np.ndarray:
    """Bits that every character gains by the mixture."""
    half, found = np.arange(len(rows)) // BLOCK % 2, np.zeros(len(rows))
    ratio = rows[:, 2] / rows[:, 1]
    for length in range(LONGEST + 1):
        for side in (0, 1):
            chosen, used = ((rows[:, 0] == length) & (half == one) for one in (side, 1 - side))
            if chosen.any():
                share = max(SHARES, key=lambda one: np.log2(1 - one + one * ratio[chosen]).sum())
                found[used] = np.log2(1 - share + share * ratio[used])
    return found


def main() -> None:
    """Prints them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("place", type=Path, help="where `make retrieval-memory` keeps its runs")
    parser.add_argument("--neighbours", type=int, default=2)
    given = parser.parse_args()
    model = HfLongformerForCausalLM.from_pretrained(given.place / f"{_as_file(NONE)}-0").eval()
    for arm in (arm for arm, names in ARMS.items() if names is not None):
        rows = np.array([*characters(given.place, open_index(index_of(given.place, arm)), model, given.neighbours)])
        found = gains(rows)
        by_run = {length: round(float(found[rows[:, 0] == length].sum() / len(rows)), 5) for length in range(LONGEST)}
        facts = {
            "index": arm,
            "neighbours": given.neighbours,
            "characters": len(rows),
            "bits_per_character": round(float(-np.log2(rows[:, 1]).mean()), 4),
            "gained": round(float(found.mean()), 5),
            "gained_without_line_breaks": round(float(found[rows[:, 3] != BREAK].sum() / len(rows)), 5),
            "gained_by_run": {length: gain for length, gain in by_run.items() if gain},
        }
        sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
