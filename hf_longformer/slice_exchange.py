# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What the slices of divided texts tell each other in every layer: the states that windows reach and those of global
tokens, and then each its part of the rows of global tokens, to the process that holds them.

Both depend on the window and on the number of global tokens, and not on the length of the texts.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import distributed

from .collectives import start_all_to_all
from .text_slices import PartialRows, merge_partial_rows, reached
from .token_roles import TokenRoles
from .window_pattern import WindowPattern


class SliceExchange:
    """The exchange of one forward pass.

    Args:
        group: The processes, in the order of their slices.
        bounds: Where the slices begin, and where the last one ends.
        roles: Of the whole texts.
    """

    def __init__(self, group: Any, bounds: list[int], roles: TokenRoles) -> None:
        self.group, self.bounds, self.rank = group, bounds, distributed.get_rank(group)
        self.slices = list(pairwise(bounds))
        self.owned = [0] * len(self.slices)
        self.tokens = roles.global_tokens
        if self.tokens is not None:
            self._find_owners()

    def _find_owners(self) -> None:
        """Sorts all global tokens of the batch by the process that holds them, then by text and position."""
        tokens: Any = self.tokens
        place = torch.arange(tokens.index.numel(), device=tokens.index.device)[tokens.valid.flatten()]
        position = tokens.index.flatten()[place]
        owner = torch.bucketize(position, torch.tensor(self.bounds[1:], device=place.device), right=True)
        order = torch.argsort(owner, stable=True)
        self.places = place[order]  # among all batch * G
        self.owned = torch.bincount(owner, minlength=len(self.slices)).tolist()
        mine = slice(sum(self.owned[: self.rank]), sum(self.owned[: self.rank + 1]))
        start, stop = self.slices[self.rank]
        text = self.places[mine] // tokens.number
        self.own_index = text * (stop - start) + position[order][mine] - start  # among all batch * slice

    def start(
        self, hidden_states: torch.Tensor, pattern: WindowPattern
    ) -> Callable[[], tuple[torch.Tensor, torch.Tensor | None]]:
        """Begins to send what other slices need of `(batch, slice, hidden_size)`; what is returned waits for what this
        one needs: the states before and after it, `(batch, before + after, hidden_size)`, and those of all global
        tokens, `(batch * G, hidden_size)`, 0 where there are fewer, None if there is none.
        """
        batch, _, size = hidden_states.shape
        start, _ = self.slices[self.rank]
        rows, sent, received = [], [], []
        for other in range(len(self.slices)):
            first, last = self._overlap(self.rank, other, pattern)
            rows.append(hidden_states[:, first - start : last - start].reshape(-1, size))
            if self.owned[self.rank]:
                rows.append(hidden_states.flatten(0, 1)[self.own_index])
            sent.append(batch * (last - first) + self.owned[self.rank])
            first, last = self._overlap(other, self.rank, pattern)
            received.append(batch * (last - first) + self.owned[other])
        wait = start_all_to_all(torch.cat(rows), sent, received, self.group)

        def states() -> tuple[torch.Tensor, torch.Tensor | None]:
            around, of_global = [], []
            for part, owned in zip(wait().split(received), self.owned, strict=True):
                number = len(part) - owned
                around.append(part[:number].unflatten(0, (batch, number // batch)))
                of_global.append(part[number:])
            found = torch.cat(around, dim=1)
            if self.tokens is None:
                return found, None
            filled = found.new_zeros(self.tokens.index.numel(), size)
            return found, filled.index_copy(0, self.places, torch.cat(of_global))

        return states

    def _overlap(self, holder: int, asker: int, pattern: WindowPattern) -> tuple[int, int]:
        """Which tokens of one slice windows of another reach: the first, and what follows the last one."""
        start, stop = self.slices[holder]
        if holder == asker:
            return start, start
        first, last = reached(pattern, *self.slices[asker], self.bounds[-1])
        first = min(max(first, start), stop)
        return first, max(first, min(last, stop))

    def start_merge(self, parts: PartialRows) -> Callable[[], torch.Tensor]:
        """Begins to send the parts `(batch, heads, G, …)` of the rows of global tokens to the processes that hold them;
        what is returned waits for those of its own, `(number, heads, head_dim)`, merged.
        """
        message = torch.cat([parts.weighted, parts.total, parts.largest], dim=-1)
        message = message.transpose(1, 2).flatten(0, 1)[self.places]
        own, processes = self.owned[self.rank], len(self.slices)
        wait = start_all_to_all(message, self.owned, [own] * processes, self.group)

        def merged() -> torch.Tensor:
            weighted, total, largest = wait().unflatten(0, (processes, own)).tensor_split((-2, -1), dim=-1)
            return merge_partial_rows(PartialRows(weighted, total, largest.detach()))

        return merged

    def put(self, output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Adds such rows at their places of `(batch, heads, slice, head_dim)`, which are 0 there."""
        by_token = output.transpose(1, 2)
        put = by_token.flatten(0, 1).index_add(0, self.own_index, rows.to(output.dtype))
        return put.view(by_token.shape).transpose(1, 2)


__all__ = ["SliceExchange"]
