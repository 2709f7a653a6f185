# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The order of the texts of a training: by length, by tokens, the same in all processes and in a run that goes on."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_longformer.conversion.errors import InputError
from hf_longformer.transformers_internals import trainer_samplers

POOL = 8  # batches between which texts are mixed anew in every epoch
BatchRebalanceSampler: Any = trainer_samplers()[0]
LengthGroupedSampler: Any = trainer_samplers()[1]


class SetEpoch(TrainerCallback):
    """Tells a sampler which epoch begins; nobody else does in a run of several processes that goes on inside an epoch.

    Args:
        sampler: With a method `set_epoch`.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Passes the number on, from 0."""
        self.sampler.set_epoch(int(state.epoch or 0))


class LengthSampler(LengthGroupedSampler):
    """Texts in an order in which neighbours have about the same length, by seed and epoch alone.

    `Trainer`'s own draws from the generator that dropout draws from: a run that goes on inside an epoch would see other
    texts than those that are left of it, and so would every process of a run of several.

    Args:
        lengths: Tokens of every text.
        texts: How many make a step.
        seed: Of the order.
    """

    def __init__(self, lengths: list[int], texts: int, seed: int = 0) -> None:
        super().__init__(texts, lengths=lengths, generator=torch.Generator())
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """The indices of all texts."""
        self.generator.manual_seed(int(np.random.SeedSequence((self.seed, self.epoch)).generate_state(1)[0]))
        return super().__iter__()


class TokenBatchSampler(BatchRebalanceSampler):  # which `Trainer` leaves as it is
    """Batches of texts of about the same length, of at most so many tokens, padding included, or of one text.

    Every text is drawn once per epoch, in an order that depends on seed and epoch. There are as many batches in every
    epoch, and as many for every process.

    Args:
        lengths: Tokens of every text.
        budget: Tokens of a batch.
        processes: How many share the batches.
        rank: Which of them this is.
        seed: Of the order.
    """

    def __init__(self, lengths: list[int], budget: int, processes: int = 1, rank: int = 0, seed: int = 0) -> None:
        self.processes, self.rank, self.seed, self.epoch = processes, rank, seed, 0
        self.tokens = np.asarray(lengths)
        falling = sorted(lengths, reverse=True)
        self.pools: list[tuple[slice, int]] = []  # of texts by falling length, and how many of them make a batch
        start = 0
        while start < len(falling):
            size = max(1, budget // max(1, falling[start]))
            self.pools.append((slice(start, min(start + size * POOL, len(falling))), size))
            start += size * POOL
        if len(lengths) < processes:
            raise InputError(f"{processes} processes need at least as many texts to train on, got {len(lengths)}")
        self.batches_per_process = math.ceil(
            sum(math.ceil((pool.stop - pool.start) / size) for pool, size in self.pools) / processes
        )

    def __len__(self) -> int:
        return self.batches_per_process

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of this process."""
        generator = np.random.default_rng((self.seed, self.epoch))
        batches: list[list[int]] = []
        # Texts of one length, such as truncated ones, in random order: in a file, all of a label may be neighbours.
        texts = generator.permutation(len(self.tokens))
        by_length = texts[np.argsort(-self.tokens[texts], kind="stable")]
        for pool, size in self.pools:
            mixed = generator.permutation(by_length[pool]).tolist()
            batches += [mixed[start : start + size] for start in range(0, len(mixed), size)]
        while len(batches) < self.batches_per_process * self.processes:  # drawn twice only if there is no other way
            largest = max(range(len(batches)), key=lambda index: len(batches[index]))
            split = batches[largest]
            batches[largest : largest + 1] = [split[::2], split[1::2] or split]
        order = generator.permutation(len(batches))
        return iter([batches[index] for index in order[self.rank :: self.processes]])
