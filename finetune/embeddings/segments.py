# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Training on parts of long documents that keep their places: memory of short texts, positions of long ones
(arXiv 2310.14633).
"""

from typing import Any

import numpy as np

SHARE = 8  # parts of a document that is cut


class SegmentCutter:
    """Draws segments of documents, anew in every epoch, by seed, epoch and document alone.

    A text of more than `tokens` is cut into segments of an eighth of that; as many as fit are drawn and put together in
    their order, between the special tokens that stand around the text. Every token keeps the position that it has in
    the whole document. What the window then holds is neighbours of what was put together: across a seam, tokens attend
    to tokens that are far from them in the document, which their positions say and the window does not.

    Args:
        tokens: At most so many are kept of a text, special ones included.
        around: How many special tokens stand before and behind a text.
        first_position: Of the model's position table.
        seed: Of what is drawn.
    """

    def __init__(self, tokens: int, around: tuple[int, int], first_position: int, seed: int) -> None:
        self.tokens, self.around, self.first_position, self.seed = tokens, around, first_position, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses what is drawn."""
        self.epoch = epoch

    def __call__(self, ids: list[int], key: int) -> dict[str, Any]:
        """What is kept of a text, `input_ids` and their `position_ids`.

        Args:
            ids: Of the whole text.
            key: Number of the text.
        """
        before, behind = self.around
        kept = list(range(len(ids)))
        if len(ids) > self.tokens:
            size = max(1, (self.tokens - before - behind) // SHARE)
            inside = np.arange(before, len(ids) - behind)
            starts = range(0, len(inside), size)
            random = np.random.default_rng((self.seed, self.epoch, key))
            number = (self.tokens - before - behind) // size
            drawn = sorted(random.permutation(len(starts))[:number].tolist())
            chosen = [one for start in drawn for one in inside[start * size : (start + 1) * size].tolist()]
            kept = [*range(before), *chosen, *range(len(ids) - behind, len(ids))]
        positions = [self.first_position + place for place in kept]
        return {"input_ids": [ids[place] for place in kept], "position_ids": positions}
