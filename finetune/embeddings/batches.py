# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches for a loss in which the documents of others are the negatives of a query: no text stands twice in one."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import DataCollatorWithPadding
from transformers.utils import logging

logger = logging.get_logger(__name__)


class PairBatchSampler(BatchSampler):
    """Every pair once per epoch, in batches of about one size without a text that two pairs have, if that can be.

    sentence-transformers' own sampler has as many batches as it comes to in an epoch, and a training as many steps as
    the first epoch was said to have. Here that number is one, and the order depends on seed and epoch alone.

    Args:
        keys: For every pair, the numbers of its texts.
        size: Documents of a batch, and queries if each stands alone.
        seed: Of the order.
        together: So many queries of one document at most are in a batch with it, drawn anew in every epoch.
    """

    def __init__(self, keys: Sequence[Sequence[int]], size: int, seed: int = 0, together: int = 1) -> None:
        super().__init__(SequentialSampler(keys), size, False)
        self.keys, self.seed, self.together, self.epoch = keys, seed, together, 0
        self.number = math.ceil(len(self._groups(np.random.default_rng(0))) / size)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of an epoch."""
        generator = np.random.default_rng((self.seed, self.epoch))
        groups = self._groups(generator)
        room = math.ceil(len(groups) / self.number)
        batches: list[list[int]] = [[] for _ in range(self.number)]
        texts: list[set[int]] = [set() for _ in range(self.number)]
        turn = twice = 0
        for index in generator.permutation(len(groups)).tolist():
            wanted = {key for pair in groups[index] for key in self.keys[pair]}
            chosen = -1
            for one in ((turn + step) % self.number for step in range(self.number)):
                if len(batches[one]) < room and (chosen < 0 or not wanted & texts[one]):
                    chosen = one
                    if not wanted & texts[one]:
                        break
            twice += bool(wanted & texts[chosen])
            batches[chosen].append(index)
            texts[chosen] |= wanted
            turn = chosen + 1
        if twice:
            logger.warning(f"epoch {self.epoch + 1}: {twice} pairs share a text with another one of their batch")
        order = generator.permutation(self.number).tolist()
        return iter([[pair for one in batches[place] for pair in groups[one]] for place in order if batches[place]])

    def _groups(self, generator: np.random.Generator) -> list[list[int]]:
        """Pairs that stand in one batch: those of a document, so many at a time; the number is always one."""
        if self.together == 1:
            return [[index] for index in range(len(self.keys))]
        of_document: dict[int, list[int]] = {}
        for index in generator.permutation(len(self.keys)).tolist():
            of_document.setdefault(self.keys[index][1], []).append(index)
        return [
            pairs[start : start + self.together]
            for pairs in of_document.values()
            for start in range(0, len(pairs), self.together)
        ]


class PairCollator:
    """Pads the texts of a batch, column by column, as sentence-transformers' losses take them.

    Args:
        tokenizer: Of the model.
        columns: `anchor`, `positive` and negatives, in this order.
        prompt_lengths: For columns whose prompt is not pooled, its tokens.
        cutter: What draws segments of documents, if anything does: `(ids, key) → ids, positions`.
        teacher: With `scores`, if there is one.
        together: Whether queries of a batch may share a document, which is read once.
    """

    valid_label_columns: tuple[str, ...] = ()  # which sentence-transformers asks for

    def __init__(
        self,
        tokenizer: Any,
        columns: Sequence[str],
        prompt_lengths: dict[str, int] | None = None,
        cutter: Any = None,
        teacher: Any = None,
        together: bool = False,
    ) -> None:
        self.pad: Any = DataCollatorWithPadding(tokenizer)
        self.columns, self.prompt_lengths = list(columns), prompt_lengths or {}
        self.cutter, self.teacher, self.together = cutter, teacher, together

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """For every column `…_input_ids` and `…_attention_mask` `(batch, S)`, and `label` for `RankingLoss`."""
        batch: dict[str, Any] = {}
        once = {row["keys"][1]: row for row in rows} if self.together else {}
        for place, name in enumerate(self.columns):
            chosen = list(once.values()) if once and place else rows
            texts = [{"input_ids": row[name]} for row in chosen]
            if self.cutter is not None and place:
                texts = [self.cutter(row[name], row["keys"][place]) for row in chosen]
            padded = self._padded(texts)
            batch |= {f"{name}_{key}": value for key, value in padded.items()}
            if name in self.prompt_lengths:
                batch[f"{name}_prompt_length"] = self.prompt_lengths[name]
        if once or self.teacher is not None:
            keys = torch.tensor([row["keys"] for row in rows]).T.tolist()
            documents = list(once) or [key for column in keys[1:] for key in column]
            own = torch.tensor([[documents.index(key)] for key in keys[1]], dtype=torch.float32)
            scores = [] if self.teacher is None else [self.teacher.scores(keys[0], documents)]
            batch["label"] = torch.cat([own, *scores], dim=1)
        return batch

    def _padded(self, texts: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        positions = [text.pop("position_ids", None) for text in texts]
        padded = dict(self.pad(texts))
        if positions[0] is not None:
            rows = torch.zeros_like(padded["input_ids"])
            for row, real, places in zip(rows, padded["attention_mask"].bool(), positions, strict=True):
                row[real] = torch.tensor(places)
            padded["position_ids"] = rows
        return padded
