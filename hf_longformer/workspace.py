# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Memory that is used again: on a CPU, to write into fresh memory takes as long as the product that is written."""

import torch


class Workspace:
    """Buffers by name, each as large as the largest tensor that it ever held."""

    def __init__(self) -> None:
        self.buffers: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: torch.Size | tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """A tensor of `shape`, of the type and device of `like`, in the place of the last one of that name."""
        size, buffer = torch.Size(shape).numel(), self.buffers.get(name)
        if buffer is None or buffer.numel() < size or buffer.dtype != like.dtype or buffer.device != like.device:
            buffer = self.buffers[name] = like.new_empty(size)
        return buffer[:size].view(shape)


__all__ = ["Workspace"]
