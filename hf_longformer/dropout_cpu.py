# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Dropout on a CPU that keeps a seed for the backward pass, and no mask, where there is enough to drop."""

from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import Any

import torch
from torch import nn

from .operators import is_transformed
from .transformers_internals import is_tracing

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
PIECE = 2**19  # numbers at a time: what is worked out for them stays in the cache
SMALL = 2**15  # numbers, up to which PyTorch's own dropout takes less time, and its mask little memory; measured
ROUNDS = ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32))  # the hash function lowbias32 of Chris Wellons' hash-prospector


def draw_seed() -> torch.Tensor:
    """From PyTorch's own generator: it follows `torch.manual_seed`, and checkpoints repeat it."""
    return torch.randint(2**62, (), device="cpu")


class Draw:
    """Sets numbers to 0, the same ones for the same seed and order of calls. What is kept is yet to be scaled.

    15 random bits per number, to which the probability is rounded; the scale is exact for what is drawn. The bits of a
    number are erased by those of an integer, 0 or -1: ten times as fast as a mask of bool.

    Args:
        seed: A whole number.
        probability: That of 0, below 1.
    """

    def __init__(self, seed: int, probability: float) -> None:
        self.kept = max(1, round((1 - probability) * 2**15))
        self.scale = 2**15 / self.kept
        self.keys = Random(seed)  # noqa: S311 (nothing is secret)
        self.room = torch.empty(2, 0, dtype=torch.int32, device="cpu")

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Changes the tensor itself, of any floating-point type and shape."""
        if self.kept == 2**15:
            return tensor
        if not tensor.is_contiguous():
            return tensor.copy_(self(tensor.contiguous()))
        for piece in tensor.view(INTEGERS[tensor.element_size()]).view(-1).split(PIECE):
            drawn = self.draw(-(-len(piece) // 2)).bitwise_and_(0x7FFF_7FFF).view(torch.int16)[: len(piece)]
            piece.bitwise_and_(drawn.sub_(self.kept).bitwise_right_shift_(15))
        return tensor

    def draw(self, count: int) -> torch.Tensor:
        """`(count,)`, int32: random bits, until the next ones are drawn. A hash of numbers in sequence, of a random
        step and beginning: PyTorch's own generator takes five times as long, since it works on one core.
        """
        if self.room.shape[1] < count:
            self.room = self.room.new_empty(2, count)
        bits, shifted = self.room[0, :count], self.room[1, :count]
        step, first = self.keys.getrandbits(31) | 1, torch.tensor(self.keys.getrandbits(31), dtype=torch.int32)
        torch.add(first, _numbers(count), alpha=step, out=bits)
        for shift, factor in ROUNDS:
            bits.bitwise_xor_(torch.bitwise_right_shift(bits, shift, out=shifted)).mul_(factor)
        return bits.bitwise_xor_(torch.bitwise_right_shift(bits, 16, out=shifted))


@lru_cache(maxsize=4)
def _numbers(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.int32, device="cpu")


class Dropout(nn.Dropout):
    """`nn.Dropout`; of more than `SMALL` numbers faster in training on a CPU, and without a mask to keep."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return hidden_states
        is_seeded = 0.0 < self.p < 1.0 and hidden_states.device.type == "cpu"
        if not is_seeded or is_tracing(hidden_states) or is_transformed() or hidden_states.numel() <= SMALL:
            return super().forward(hidden_states)
        return _Dropped.apply(hidden_states, draw_seed(), self.p)

    def once(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """What a call would do, to be done as often as one likes, the same every time; None if a call would keep a mask
        instead of a seed.
        """
        if not self.training or self.p == 0.0:
            return nn.Identity()
        if device.type != "cpu" or self.p == 1.0 or is_transformed():
            return None
        seed = draw_seed()
        return lambda hidden_states: _Dropped.apply(hidden_states, seed, self.p)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, seed: torch.Tensor, probability: float) -> torch.Tensor:
        ctx.seed, ctx.probability = seed, probability
        draw = Draw(int(seed), probability)
        return draw(tensor * draw.scale)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _Dropped.apply(grad_output, ctx.seed, ctx.probability), None, None
