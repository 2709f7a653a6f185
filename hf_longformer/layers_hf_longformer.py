# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Embeddings and layers, under the names of stock checkpoints."""

import math
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN, gelu
from transformers.modeling_outputs import BaseModelOutput

from .attention_decoder_hf_longformer import HfLongformerCausalSelfAttention
from .attention_hf_longformer import HfLongformerSelfAttention
from .configuration_hf_longformer import HfLongformerConfig
from .dropout_cpu import Dropout
from .feed_forward import can_go_in_parts, feed_forward, feed_forward_in_parts
from .inputs_hf_longformer import count_positions, counted_tokens
from .neighbours_hf_longformer import (
    ChunkedPass,
    HfLongformerChunkedCrossAttention,
    HfLongformerNeighbourEncoder,
    NeighbourPlaces,
)
from .plain_modules import is_plain
from .token_roles import SeparateTexts, SlicedTexts, TokenRoles
from .transformers_internals import GradientCheckpointingLayer
from .workspace import Workspace


class HfLongformerScaledEmbedding(nn.Embedding):
    """Embeddings that are multiplied by the square root of their width."""

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids) * math.sqrt(self.embedding_dim)


class HfLongformerEmbeddings(nn.Module):
    """Word, position and token type embeddings, summed and normalised, and widened if they are narrower than layers."""

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__()
        self.config = config
        size, padding = config.embedding_size or config.hidden_size, config.pad_token_id
        words = HfLongformerScaledEmbedding if config.scale_embedding else nn.Embedding
        self.word_embeddings = words(config.vocab_size, size, padding_idx=padding)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size) if config.type_vocab_size else None
        norm_first = config.norm_style == "pre"
        # What is not there is None: tools that look for layer norms by name take no nn.Identity for one.
        self.LayerNorm = None if norm_first else nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.position_embeddings: nn.Embedding | None = None  # if the layers know positions
        if config.position_embedding_type == "absolute":
            below = config.first_position - 1 if config.first_position else None
            self.position_embeddings = nn.Embedding(config.max_position_embeddings, size, padding_idx=below)
        self.projection = None if size == config.hidden_size else nn.Linear(size, config.hidden_size)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embeds `(batch, S)` tokens, or adds to embeddings `(batch, S, embedding_size)`: `(batch, S, hidden_size)`.

        Positions that are left out are counted as the model counts them without an attention mask.
        """
        if position_ids is None:
            position_ids = count_positions(
                counted_tokens(input_ids, None, inputs_embeds, self.config), None, self.config
            )
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        states = inputs_embeds
        if self.position_embeddings is not None:
            states = states + self.position_embeddings(self._rows(position_ids))
        if self.token_type_embeddings is not None:
            states = states + self._of_types(token_type_ids, states)
        states = self.dropout(states if self.LayerNorm is None else self.LayerNorm(states))
        return states if self.projection is None else self.projection(states)

    def of_neighbours(self, neighbour_ids: torch.Tensor) -> torch.Tensor:
        """The words of what was found, `(…)` to `(…, hidden_size)`; their encoder knows positions."""
        states = self.dropout(self.word_embeddings(neighbour_ids))
        return states if self.projection is None else self.projection(states)

    def _rows(self, position_ids: torch.Tensor) -> torch.Tensor:
        """Of the position table."""
        first, number = self.config.first_position, self.config.learned_positions
        if not self.config.repeat_positions:
            return position_ids
        return torch.where(position_ids < first, position_ids, first + (position_ids - first) % number)

    def _of_types(self, token_type_ids: torch.Tensor | None, states: torch.Tensor) -> torch.Tensor:
        table: Any = self.token_type_embeddings
        if token_type_ids is None and is_plain(table):
            return table.weight[0]
        if token_type_ids is None:
            token_type_ids = torch.zeros(states.shape[:2], dtype=torch.long, device=states.device)
        return table(token_type_ids)


class HfLongformerSelfOutput(nn.Module):
    """Projection, dropout, residual connection and layer norm: behind the attention and behind the feed-forward.

    With `norm_style="pre"` the layer norm is applied to what the attention, or the feed-forward, reads.
    """

    def __init__(self, config: HfLongformerConfig, input_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(input_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.norm_first = config.norm_style == "pre"

    def read(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(hidden_states) if self.norm_first else hidden_states

    def forward(self, hidden_states: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        hidden_states = self.dropout(self.dense(hidden_states)) + residual
        return hidden_states if self.norm_first else self.LayerNorm(hidden_states)


class HfLongformerAttention(nn.Module):
    """Self-attention and what follows it, under the names of stock checkpoints."""

    def __init__(self, config: HfLongformerConfig, layer_index: int) -> None:
        super().__init__()
        attention = HfLongformerCausalSelfAttention if config.is_decoder else HfLongformerSelfAttention
        self.self = attention(config, layer_index)
        self.output = HfLongformerSelfOutput(config, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        roles: TokenRoles | SeparateTexts | SlicedTexts,
        output_attentions: bool,
        **kept: Any,
    ) -> torch.Tensor:
        attended = self.self(self.output.read(hidden_states), roles, output_attentions, **kept)
        return self.output(attended[0], hidden_states)


class HfLongformerIntermediate(nn.Module):
    """The widening half of the feed-forward."""

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.dropout = Dropout(config.activation_dropout) if config.activation_dropout else None

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        activated = self.activation(self.dense(hidden_states))
        return activated if self.dropout is None else self.dropout(activated)


class HfLongformerLayer(GradientCheckpointingLayer):
    """One layer: `(batch, S, hidden_size)` to the same."""

    def __init__(self, config: HfLongformerConfig, layer_index: int) -> None:
        super().__init__()
        self.attention = HfLongformerAttention(config, layer_index)
        self.intermediate = HfLongformerIntermediate(config)
        self.output = HfLongformerSelfOutput(config, config.intermediate_size)
        self.chunk_size_feed_forward = config.chunk_size_feed_forward
        reads = config.retrieval is not None and layer_index in config.retrieval_settings["layers"]
        self.chunked_crossattention = HfLongformerChunkedCrossAttention(config) if reads else None

    def forward(
        self,
        hidden_states: torch.Tensor,
        roles: TokenRoles | SeparateTexts | SlicedTexts,
        neighbours: torch.Tensor | None = None,  # in order, for checkpoints that look for gradients of these alone
        places: NeighbourPlaces | None = None,
        output_attentions: bool = False,
        **kept: Any,
    ) -> torch.Tensor:
        hidden_states = self.attention(hidden_states, roles, output_attentions, **kept)
        if neighbours is not None and places is not None and self.chunked_crossattention is not None:
            hidden_states = self.chunked_crossattention.read(hidden_states, neighbours, places)
        return self.feed_forward(hidden_states, roles)

    def feed_forward(
        self, hidden_states: torch.Tensor, roles: TokenRoles | SeparateTexts | SlicedTexts
    ) -> torch.Tensor:
        """The half of the layer behind the attention; `roles` hold the memory that all layers share."""
        if self.chunk_size_feed_forward:
            parts = hidden_states.split(self.chunk_size_feed_forward, dim=1)
            return torch.cat([feed_forward(self.intermediate, self.output, part) for part in parts], dim=1)
        if can_go_in_parts(self.intermediate, self.output, hidden_states):
            workspace = roles.derived("feed-forward", Workspace)
            return feed_forward_in_parts(self.intermediate, self.output, hidden_states, workspace)
        return feed_forward(self.intermediate, self.output, hidden_states)


class HfLongformerEncoder(nn.Module):
    """The stack of layers, under the name of stock checkpoints."""

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(HfLongformerLayer(config, index) for index in range(config.num_hidden_layers))
        norm_first, size = config.norm_style == "pre", config.hidden_size
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps) if norm_first else None
        self.layerdrop = config.layerdrop
        self.neighbour_encoder: HfLongformerNeighbourEncoder | None = None
        if config.retrieval is not None:
            self.neighbour_encoder = HfLongformerNeighbourEncoder(config, config.retrieval_settings["encoder_layers"])
            self.first_reader = config.retrieval_settings["layers"][0]

    def forward(
        self,
        hidden_states: torch.Tensor,
        roles: TokenRoles | SeparateTexts | SlicedTexts | None = None,
        chunked: ChunkedPass | None = None,
        embed: Any = None,
        **settings: Any,
    ) -> BaseModelOutput:
        """All layers, `(batch, S, hidden_size)` to the same, as `last_hidden_state`.

        Args:
            hidden_states: What the embeddings give.
            roles: Real and global tokens; if left out, all tokens are real and none is global.
            chunked: The text by chunks, and what was found for them; None without.
            embed: The function that embeds that.
            **settings: What the layers take besides.
        """
        roles, found = TokenRoles() if roles is None else roles, None
        for index, layer in enumerate(self.layer):
            if chunked is not None and index == self.first_reader:
                found = chunked.encode(self.neighbour_encoder, hidden_states, embed)
            if self.training and self.layerdrop and torch.rand([]) < self.layerdrop:
                continue
            hidden_states = layer(hidden_states, roles, *(found or ()), **settings)
        return BaseModelOutput(hidden_states if self.LayerNorm is None else self.LayerNorm(hidden_states))


class HfLongformerLMHead(nn.Module):
    """Predicts tokens: `(batch, S, hidden_size)` to `(batch, S, vocab_size)`."""

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__()
        size = config.embedding_size or config.hidden_size
        self.dense = nn.Linear(config.hidden_size, size)
        self.layer_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.layer_norm(gelu(self.dense(hidden_states))))


__all__ = ["HfLongformerEmbeddings", "HfLongformerEncoder", "HfLongformerLMHead", "HfLongformerLayer"]
