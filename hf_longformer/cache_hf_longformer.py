# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a causal model keeps of the text before: as much as its windows can still reach, however long the text was."""

import copy
from typing import Any

import torch
from transformers import Cache

from .configuration_hf_longformer import HfLongformerConfig
from .transformers_internals import DynamicSlidingWindowLayer
from .window_pattern import WindowPattern


def _attention_of(config: HfLongformerConfig) -> dict[str, Any]:
    return {
        "attention_window": config.attention_windows,
        "attention_dilation": config.attention_dilations,
        "num_attention_heads": config.num_attention_heads,
    } | ({} if config.retrieval is None else {"retrieval": config.retrieval_settings})


class RollingCache(Cache):
    """Keys and values of the last `one_sided_window · dilation` tokens, for every layer and run of heads with one
    dilation, and of the global tokens of the first segment; with `config.retrieval` also the states of the chunk that
    has not ended, and what was found for the one before: constant memory, whatever was read before.

    Args:
        config: Of the model.
    """

    def __init__(self, config: HfLongformerConfig) -> None:
        self.made_for = copy.deepcopy(_attention_of(config))
        patterns = zip(config.attention_windows, config.attention_dilations, strict=True)
        self.patterns = [WindowPattern(window, dilation, is_causal=True) for window, dilation in patterns]
        self.runs = [pattern.head_runs(config.num_attention_heads) for pattern in self.patterns]
        reaches = [
            [pattern.one_sided_window * dilation for dilation, _ in runs]
            for pattern, runs in zip(self.patterns, self.runs, strict=True)
        ]
        self.first_slot = [sum(map(len, reaches[:layer])) for layer in range(len(reaches))]
        self.reach = max(map(max, reaches))
        super().__init__(layers=[DynamicSlidingWindowLayer(reach + 1) for of_layer in reaches for reach in of_layer])
        # Keys, values and which of them count, of the global tokens.
        self.global_keys: list[tuple[torch.Tensor, ...] | None] = [None] * len(reaches)
        self.not_in_windows: torch.Tensor | None = (
            None  # (batch, at most reach), the last tokens that windows do not show
        )
        self.counted_tokens: torch.Tensor | None = None  # (batch, 1), of all that was read, those with a position
        self.of_chunks: dict[str, torch.Tensor] = {}  # of retrieval, `(batch, …)` each

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read yet."""
        return self.counted_tokens is None

    def check(self, config: HfLongformerConfig, batch_size: int) -> None:
        """Raises `ValueError` if the model attends otherwise than the one that began, or the batch is another."""
        if self.made_for != _attention_of(config):
            raise ValueError(
                "the cache was made for other windows, dilations, heads or chunks than the model has now: begin anew, "
                f"got a cache of {self.made_for} for a model of {_attention_of(config)}"
            )
        if self.counted_tokens is not None and self.counted_tokens.shape[0] != batch_size:
            raise ValueError(
                f"the cache holds a batch of {self.counted_tokens.shape[0]} texts, got {batch_size} that go on: pass "
                "rows in the same order and number, or call batch_select_indices, batch_repeat_interleave or reset"
            )

    def extend(self, layer: int, run: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds new keys and values of one layer and run of heads `(batch, heads, S, head_dim)`.

        Returns:
            Those that the new tokens can reach, and their own.
        """
        return self.update(key, value, self.first_slot[layer] + run)

    def remember(self, not_in_windows: torch.Tensor | None, counted: torch.Tensor) -> None:
        """Notes, at the end of a pass, which of the new tokens windows do not show and which took a position,
        both `(batch, S)` bool.
        """
        number = counted.long().sum(dim=1, keepdim=True)
        self.not_in_windows = self.seen_not_in_windows(
            not_in_windows, counted.shape[1], min(self.get_seq_length(), self.reach)
        )
        self.counted_tokens = number if self.counted_tokens is None else self.counted_tokens + number

    def seen_not_in_windows(self, not_in_windows: torch.Tensor | None, new: int, length: int) -> torch.Tensor | None:
        """Which of the last `length` tokens windows do not show: `(batch, length)`; None if all are shown.

        Args:
            not_in_windows: `(batch, new)`, of the new tokens; None if all are shown.
            new: How many they are.
            length: New tokens and those before.
        """
        if not_in_windows is None and self.not_in_windows is None:
            return None
        if not_in_windows is None:
            not_in_windows = self.not_in_windows.new_zeros(self.not_in_windows.shape[0], new)
        if self.not_in_windows is not None:
            not_in_windows = torch.cat([self.not_in_windows, not_in_windows], dim=1)
        return torch.nn.functional.pad(not_in_windows, (max(0, length - not_in_windows.shape[1]), 0), value=False)[
            :, -length:
        ]

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Takes rows of the batch in another order, as beam search does."""
        super().reorder_cache(beam_idx)
        self._of_rows(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeats every row of the batch."""
        super().batch_repeat_interleave(repeats)
        self._of_rows(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps some rows of the batch."""
        super().batch_select_indices(indices)
        self._of_rows(lambda tensor: tensor[indices])

    def reset(self) -> None:
        """Forgets everything."""
        super().reset()
        self.global_keys = [None] * len(self.global_keys)
        self.not_in_windows = self.counted_tokens = None
        self.of_chunks = {}

    def _of_rows(self, take: Any) -> None:
        self.global_keys = [of_layer and tuple(map(take, of_layer)) for of_layer in self.global_keys]
        for name in ("not_in_windows", "counted_tokens"):
            if getattr(self, name) is not None:
                setattr(self, name, take(getattr(self, name)))
        self.of_chunks = {name: take(tensor) for name, tensor in self.of_chunks.items()}


__all__ = ["RollingCache"]
