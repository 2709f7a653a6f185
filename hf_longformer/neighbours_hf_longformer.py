# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""RETRO's memory (arXiv 2112.04426, section 2): a text is cut into chunks of `m` tokens, for each of which neighbours
were found in an index. An encoder reads these beside the chunk they were found for, and the tokens that follow attend
to them: chunked cross-attention, from the last token of a chunk to the last but one of the next.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN

from .attention_decoder_hf_longformer import rotated
from .cache_hf_longformer import RollingCache
from .configuration_hf_longformer import HfLongformerConfig
from .dropout_cpu import Dropout
from .token_roles import TokenRoles
from .transformers_internals import is_tracing


class HfLongformerZeroLinear(nn.Linear):
    """A linear layer that begins with nothing but 0."""


class HfLongformerNeighbourAttention(nn.Module):
    """Attention with rotary positions, behind a layer norm: what is added to the states."""

    projection: type[nn.Linear] = nn.Linear  # behind the attention

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.config, self.heads = config, config.num_attention_heads
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.dense = self.projection(size, size)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        states: torch.Tensor,
        positions: torch.Tensor,
        context: torch.Tensor | None = None,
        context_positions: torch.Tensor | None = None,
        context_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What `(rows, R, hidden_size)` states read of a context `(rows, K, hidden_size)`.

        Args:
            states: Normalised here.
            positions: `(R,)`.
            context: Normalised already; the states themselves if left out.
            context_positions: `(K,)`.
            context_mask: `(rows, K)`, bool, what can be seen of it; a row in which that is nothing has no meaning.
        """
        states, theta = self.LayerNorm(states), self.config.rope_theta
        if context is None:
            context, context_positions = states, positions
        query, key, value = (
            projection(given).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, given in ((self.query, states), (self.key, context), (self.value, context))
        )
        query, key = rotated(query, positions[None], theta), rotated(key, context_positions[None], theta)
        if context_mask is not None:  # no softmax is empty
            context_mask = (context_mask | ~context_mask.any(dim=1, keepdim=True))[:, None, None]
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        attended = nn.functional.scaled_dot_product_attention(query, key, value, context_mask, dropout)
        return self.dropout(self.dense(attended.transpose(1, 2).flatten(2)))


class HfLongformerNeighbourLayer(nn.Module):
    """A layer of the encoder: neighbours attend to themselves, in both directions, and to the chunk."""

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__()
        self.attention = HfLongformerNeighbourAttention(config)
        self.crossattention = HfLongformerNeighbourAttention(config)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.intermediate = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, states: torch.Tensor, mask: torch.Tensor, chunk: torch.Tensor) -> torch.Tensor:
        """Neighbours `(rows, r, hidden_size)` with a mask `(rows, r)`, beside chunks `(rows, m, hidden_size)`."""
        own, of_chunk = (torch.arange(x.shape[1], device=states.device) for x in (states, chunk))
        states = states + self.attention(states, own, context_mask=mask)
        states = states + self.crossattention(states, own, chunk, of_chunk)
        widened = self.activation(self.intermediate(self.LayerNorm(states)))
        return states + self.dropout(self.output(widened))


class HfLongformerNeighbourEncoder(nn.Module):
    """Encodes what was found for chunks, conditioned on their states below the first layer that reads it."""

    def __init__(self, config: HfLongformerConfig, number: int) -> None:
        super().__init__()
        self.chunk_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layer = nn.ModuleList(HfLongformerNeighbourLayer(config) for _ in range(number))
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, embedded: torch.Tensor, mask: torch.Tensor, chunks: torch.Tensor) -> torch.Tensor:
        """`(batch, chunks, k, r, hidden_size)` with a mask of all but the last, and the chunks' own states
        `(batch, chunks, m, hidden_size)`, to `(batch, chunks, k, r, hidden_size)`.
        """
        states, number = embedded.flatten(0, 2), embedded.shape[2]
        beside = self.chunk_norm(chunks).flatten(0, 1).repeat_interleave(number, dim=0)
        for layer in self.layer:
            states = layer(states, mask.flatten(0, 2), beside)
        return self.LayerNorm(states).view(embedded.shape)


@dataclass
class NeighbourPlaces:
    """What is known of encoded neighbours `(batch, 1 + U, k · r, hidden_size)`, of the chunk that ended before a pass
    and of the U that end in it, and who reads them.

    Args:
        mask: `(batch, 1 + U, k · r)`, bool, which of them are there.
        slot: `(batch, S)`, where tokens stand among `(1 + U) · m` tokens that read it, in order; one more for the rest.
        neighbour_length: r.
        chunk_size: m.
    """

    mask: torch.Tensor
    slot: torch.Tensor
    neighbour_length: int
    chunk_size: int


class HfLongformerChunkedCrossAttention(HfLongformerNeighbourAttention):
    """From the last token of a chunk to the last but one of the next: each attends to all that was found for the chunk.

    A neighbour lies beside the chunk and its continuation beside the next, so that distances are counted from there.
    What is added to the states is 0 until it is trained.
    """

    projection = HfLongformerZeroLinear

    def read(self, hidden_states: torch.Tensor, states: torch.Tensor, found: NeighbourPlaces) -> torch.Tensor:
        """Adds what tokens `(batch, S, hidden_size)` read of encoded neighbours; who sees none stays as it is."""
        (batch, groups, total), size = found.mask.shape, found.chunk_size
        offsets = torch.arange(size, device=hidden_states.device)
        rows = by_slot(hidden_states, found.slot, groups * size).reshape(batch * groups, size, -1)
        positions = torch.arange(found.neighbour_length, device=hidden_states.device)
        of_context = positions.repeat(total // found.neighbour_length)
        added = self(rows, size - 1 + offsets, states.flatten(0, 1), of_context, found.mask.flatten(0, 1)).masked_fill(
            ~found.mask.any(dim=2).flatten()[:, None, None], 0.0
        )
        flat = torch.cat([added.view(batch, groups * size, -1), added.new_zeros(batch, 1, added.shape[-1])], dim=1)
        return hidden_states + flat.gather(1, found.slot[..., None].expand_as(hidden_states))


def by_slot(states: torch.Tensor, slot: torch.Tensor, number: int) -> torch.Tensor:
    """Tokens `(batch, S, n)` in their slots `(batch, S)` of `number`, `(batch, number, n)`; those beyond are left out,
    and slots that nobody takes are 0.
    """
    index = slot[..., None].expand_as(states)
    return states.new_zeros(states.shape[0], number + 1, states.shape[2]).scatter(1, index, states)[:, :number]


class ChunkedPass:
    """The tokens of one pass by chunks, and what was found for those that end in it.

    Chunks are counted over real tokens, so that padding anywhere changes nothing. A cache keeps the states of the chunk
    that has not ended, and what was found for the one before.

    Args:
        config: Of the model, with `retrieval`.
        roles: Of the tokens.
        shape: `(batch, S)`.
        device: Where they are.
        past: The cache, if there is one.
        neighbour_ids: `(batch, U, k, r)`, for the U chunks that end in this pass; None if nothing was looked for.
        neighbour_mask: The same shape, what of it is real; all if left out.

    Raises:
        ValueError: If that is not their shape.
    """

    def __init__(
        self,
        config: HfLongformerConfig,
        roles: TokenRoles,
        shape: tuple[int, int],
        device: torch.device,
        past: RollingCache | None,
        neighbour_ids: torch.Tensor | None,
        neighbour_mask: torch.Tensor | None,
    ) -> None:
        self.settings, self.vocab_size, self.past = config.retrieval_settings, config.vocab_size, past
        self.size: int = self.settings["chunk_size"]
        real = roles.key_padding_mask
        real = torch.ones(shape, dtype=torch.bool, device=device) if real is None else real
        self.kept: dict[str, torch.Tensor] = {} if past is None else past.of_chunks
        pending = self.kept["read"] % self.size if self.kept else 0
        number = real.long().cumsum(dim=1) + pending  # 1 for the first token behind the last chunk that ended
        self.real, self.number, self.total = real, number, number[:, -1:]
        self.ids, self.mask = neighbour_ids, neighbour_mask
        if neighbour_ids is None:
            self.ended = 0 if past is None else int(self.total.max()) // self.size
        else:
            self.ended = neighbour_ids.shape[1] if neighbour_ids.dim() == 4 else -1
            self._check(shape[0])

    def _check(self, batch: int) -> None:
        ids: Any = self.ids
        mask = self.mask
        found, length = self.settings["neighbours"], self.settings["neighbour_length"]
        wanted = (batch, self.ended if is_tracing(self.total) else int(self.total.max()) // self.size, found, length)
        if tuple(ids.shape) != wanted:
            raise ValueError(
                f"neighbour_ids must have the shape (batch, chunks, k, r) = {wanted}, of the chunks of {self.size} "
                f"tokens that end in this text, got {tuple(ids.shape)}"
            )
        if mask is not None and mask.shape != ids.shape:
            raise ValueError(f"neighbour_mask must have the shape of neighbour_ids, {wanted}, got {tuple(mask.shape)}")
        if not is_tracing(ids) and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocab_size:
            raise ValueError(
                f"neighbour_ids must be from 0 to {self.vocab_size - 1:,}, got {int(ids.min())} to {int(ids.max())}"
            )
        self.mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask != 0

    @property
    def is_needed(self) -> bool:
        """Whether anybody reads what was found, or may, later."""
        return self.ids is not None or self.past is not None

    def encode(
        self, encoder: Any, hidden_states: torch.Tensor, embed: Any
    ) -> tuple[torch.Tensor, NeighbourPlaces] | None:
        """What layers from here on attend to, `(batch, 1 + U, k · r, hidden_size)`; None if nothing was found.

        Args:
            encoder: The `HfLongformerNeighbourEncoder`.
            hidden_states: `(batch, S, hidden_size)`, what the first layer that reads it begins with.
            embed: A function that embeds ids.
        """
        batch, size = hidden_states.shape[0], self.size
        slots = (self.ended + 1) * size
        slot = torch.where(self.real, self.number - 1, slots)
        states = by_slot(hidden_states, slot, slots)
        if "pending" in self.kept:
            states = torch.cat([states[:, :size] + self.kept["pending"], states[:, size:]], dim=1)
        chunks = states.reshape(batch, self.ended + 1, size, -1)
        length = self.settings["neighbours"] * self.settings["neighbour_length"]
        if self.ids is not None:
            found = encoder(embed(self.ids), self.mask, chunks[:, :-1]).flatten(2, 3)
            mask = self.mask.flatten(2)
        else:
            found = states.new_zeros(batch, self.ended, length, states.shape[-1])
            mask = torch.zeros(batch, self.ended, length, dtype=torch.bool, device=states.device)
        before = self.kept.get("states", found.new_zeros(batch, 1, *found.shape[2:]))
        mask_before = self.kept.get("mask", mask.new_zeros(batch, 1, length))
        found, mask = torch.cat([before, found], dim=1), torch.cat([mask_before, mask], dim=1)
        self._keep(chunks, found, mask)
        if self.ids is None and "states" not in self.kept:
            return None
        reads = torch.where(self.real, self.number, slots)
        return found, NeighbourPlaces(mask, reads, self.settings["neighbour_length"], size)

    def _keep(self, chunks: torch.Tensor, found: torch.Tensor, mask: torch.Tensor) -> None:
        """Puts into the cache what the next pass needs, which may stand in another chunk of every text."""
        if self.past is None:
            return
        last = (self.total // self.size)[..., None]  # (batch, 1, 1), chunks that ended
        read = self.real.sum(dim=1, keepdim=True) + self.kept.get("read", 0)
        kept = {"read": read, "pending": _of_each(chunks, last)}
        if self.ids is not None or "states" in self.kept:
            kept |= {"states": found.gather(1, last[..., None].expand(-1, 1, *found.shape[2:]))}
            kept |= {"mask": mask.gather(1, last.expand(-1, 1, mask.shape[2]))}
        self.next = kept

    def remember(self) -> None:
        """Writes it into the cache, when nothing can be refused any more."""
        if self.past is not None:
            self.past.of_chunks = self.next


def _of_each(chunks: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """`(batch, U, m, n)` to `(batch, m, n)`: of every text the chunk `last` `(batch, 1, 1)`."""
    return chunks.gather(1, last[..., None].expand(-1, 1, *chunks.shape[2:]))[:, 0]


__all__ = [
    "ChunkedPass",
    "HfLongformerChunkedCrossAttention",
    "HfLongformerNeighbourEncoder",
    "HfLongformerZeroLinear",
    "NeighbourPlaces",
]
