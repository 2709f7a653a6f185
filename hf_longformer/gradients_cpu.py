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
        separate = [zeros(tensor) for tensor in walk.separate_of(key, value)]
        self.separate_keys: torch.Tensor | None = None
        self.separate_values: torch.Tensor | None = None
        if separate:
            self.separate_keys, self.separate_values = separate

    def total(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Those of query, key and value, all tokens together, in the dtype of the query."""
        for grad, separate in ((self.key, self.separate_keys), (self.value, self.separate_values)):
            if separate is not None:
                grad.scatter_add_(2, self.walk.separate.index[:, None, :, None].expand_as(separate), separate)
        dtype = self.query.dtype
        return self.query, self.key.to(dtype), self.value.to(dtype)
