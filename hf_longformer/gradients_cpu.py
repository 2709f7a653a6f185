# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Gradients that are added up over blocks of rows."""

import torch

from .blocks import BlockWalk
from .operators import sum_dtype


class Gradients:
    """Zeros to begin with, for query, key and value, and for keys and values of the global tokens beside the windows.

    Keys and values get contributions of several blocks: they are added up in float32 at least.

    Args:
        query, key, value: `(batch, heads, S, head_dim)`.
        walk: The blocks.
    """

    def __init__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, walk: BlockWalk) -> None:
        def zeros(tensor: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(tensor, dtype=sum_dtype(query), memory_format=torch.preserve_format)

        self.walk = walk
        self.query, self.key, self.value = torch.zeros_like(query), zeros(key), zeros(value)
        beside = [zeros(tensor) for tensor in walk.beside_of(key, value)]
        self.keys_beside: torch.Tensor | None = None
        self.values_beside: torch.Tensor | None = None
        if beside:
            self.keys_beside, self.values_beside = beside

    def total(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Those of query, key and value, all tokens together, in the dtype of the query."""
        for grad, beside in ((self.key, self.keys_beside), (self.value, self.values_beside)):
            if beside is not None:
                grad.scatter_add_(2, self.walk.beside.index[:, None, :, None].expand_as(beside), beside)
        dtype = self.query.dtype
        return self.query, self.key.to(dtype), self.value.to(dtype)
