# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Embeddings and layers, under the names of stock checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from transformers.activations import ACT2FN, GELUActivation
from transformers.modeling_outputs import BaseModelOutput

from .attention_decoder_hf_longformer import HfLongformerCausalSelfAttention
from .attention_hf_longformer import HfLongformerSelfAttention
from .configuration_hf_longformer import HfLongformerConfig
from .dropout_cpu import Dropout
from .inputs_hf_longformer import count_positions, counted_tokens
from .operator_forms import is_transformed
from .plain_modules import is_plain, is_untouched
from .transformers_internals import GradientCheckpointingLayer, is_tracing
from .window_pattern import TokenRoles

PART = 12 * 2**20  # bytes that a feed-forward widens tokens to at a time, where nothing is kept for a backward pass
WIDE = "wide states"  # in the cache of a forward pass


class HfLongformerEmbeddings(nn.Module):
    """Word, position and token type embeddings, summed and normalised, and widened if they are narrower than layers."""

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__()
        self.config = config
        size, padding = config.embedding_size or config.hidden_size, config.pad_token_id
        self.word_embeddings = nn.Embedding(config.vocab_size, size, padding_idx=padding)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
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
        if token_type_ids is None and is_plain(self.token_type_embeddings):
            token_type_embeddings = self.token_type_embeddings.weight[0]
        else:
            if token_type_ids is None:
                token_type_ids = torch.zeros(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
            token_type_embeddings = self.token_type_embeddings(token_type_ids)
        if self.position_embeddings is not None:
            inputs_embeds = inputs_embeds + self.position_embeddings(position_ids)
        states = inputs_embeds + token_type_embeddings
        states = self.dropout(states if self.LayerNorm is None else self.LayerNorm(states))
        return states if self.projection is None else self.projection(states)


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
        self, hidden_states: torch.Tensor, roles: TokenRoles, output_attentions: bool, **kept: Any
    ) -> torch.Tensor:
        attended = self.self(self.output.read(hidden_states), roles, output_attentions, **kept)
        return self.output(attended[0], hidden_states)


class HfLongformerIntermediate(nn.Module):
    """The widening half of the feed-forward."""

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.activation(self.dense(hidden_states))


class HfLongformerLayer(GradientCheckpointingLayer):
    """One layer: `(batch, S, hidden_size)` to the same."""

    def __init__(self, config: HfLongformerConfig, layer_index: int) -> None:
        super().__init__()
        self.attention = HfLongformerAttention(config, layer_index)
        self.intermediate = HfLongformerIntermediate(config)
        self.output = HfLongformerSelfOutput(config, config.intermediate_size)
        self.chunk_size_feed_forward = config.chunk_size_feed_forward
        self.intermediate_size = config.intermediate_size

    def forward(
        self, hidden_states: torch.Tensor, roles: TokenRoles, output_attentions: bool = False, **kept: Any
    ) -> torch.Tensor:
        hidden_states = self.attention(hidden_states, roles, output_attentions, **kept)
        if self.chunk_size_feed_forward:
            parts = hidden_states.split(self.chunk_size_feed_forward, dim=1)
            return torch.cat([self.feed_forward(part) for part in parts], dim=1)
        if self._can_go_in_parts(hidden_states):
            return self._feed_forward_in_parts(hidden_states, roles.cache)
        return self.feed_forward(hidden_states)

    def _can_go_in_parts(self, hidden_states: torch.Tensor) -> bool:
        """Whether this is inference on a CPU, and nothing sits on the feed-forward's modules."""
        if self.training or torch.is_grad_enabled() or hidden_states.device.type != "cpu" or is_tracing(hidden_states):
            return False
        if is_transformed() or not is_plain(self.intermediate.dense, self.output.dense):
            return False
        return is_untouched(*self.intermediate.modules(), *self.output.modules())

    def _feed_forward_in_parts(self, hidden_states: torch.Tensor, cache: dict) -> torch.Tensor:
        """The same, for some tokens at a time, in room that all layers of a forward pass share: to widen states into
        fresh memory takes longer than the activation.
        """
        tokens = hidden_states.flatten(0, 1)
        at_once = max(1, PART // (self.intermediate_size * tokens.element_size()))
        widen, narrow = self.intermediate.dense, self.output.dense
        if self.output.dropout.training or torch.is_autocast_enabled("cpu"):
            return torch.cat([self.feed_forward(part) for part in tokens.split(at_once)]).view_as(hidden_states)
        if WIDE not in cache:
            cache[WIDE] = tokens.new_empty(self.intermediate_size * min(len(tokens), at_once))
        room, output = cache[WIDE], torch.empty_like(tokens)
        for part, of_part in zip(tokens.split(at_once), output.split(at_once), strict=True):
            wide = widen_into(room[: self.intermediate_size * len(part)], widen, self.output.read(part))
            activated = activate_in_place(self.intermediate.activation, wide)
            torch.addmm(narrow.bias, activated, narrow.weight.T, out=of_part)
            of_part += part
        output = output.view_as(hidden_states)
        return output if self.output.norm_first else self.output.LayerNorm(output)

    def feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        read = self.output.read(hidden_states)
        if not self.training or is_tracing(read) or not can_activate_again(self.intermediate):
            return self.output(self.intermediate(read), hidden_states)
        wide = self.intermediate.dense(read)
        with activated_again(wide, self.intermediate.activation) as activated:
            return self.output(activated, hidden_states)


def widen_into(room: torch.Tensor, linear: nn.Linear, tokens: torch.Tensor) -> torch.Tensor:
    """`linear(tokens)` in `room`. In float32 tokens stand beside each other in memory, not below: a product of few of
    them takes up to a sixth less time to write.
    """
    if tokens.dtype == torch.float32:
        wide = room.view(linear.out_features, len(tokens))
        return torch.addmm(linear.bias[:, None], linear.weight, tokens.T, out=wide).T
    return torch.addmm(linear.bias, tokens, linear.weight.T, out=room.view(len(tokens), linear.out_features))


def activate_in_place(activation: nn.Module, wide: torch.Tensor) -> torch.Tensor:
    """`activation(wide)`, in the place of `wide` if the activation is known to allow that."""
    if type(activation) is GELUActivation and activation.act is nn.functional.gelu:
        return torch.ops.aten.gelu.out(wide, out=wide)
    return activation(wide)


def can_activate_again(module: HfLongformerIntermediate) -> bool:
    """Whether there is a backward pass, nobody waits for the module to be called, and nobody else, such as a
    checkpoint, looks after what is kept.
    """
    hooks: Any = torch._C._autograd
    top_hooks = getattr(hooks, "_top_saved_tensors_default_hooks", None)  # from PyTorch 2.8 on
    return (
        torch.is_grad_enabled()
        and not is_transformed()
        and is_untouched(module, *module.activation.modules())
        and hooks._saved_tensors_hooks_is_enabled()
        and top_hooks is not None
        and top_hooks(True) is None
    )


@contextmanager
def activated_again(wide: torch.Tensor, activation: nn.Module) -> Iterator[torch.Tensor]:
    """Inside, what the backward pass needs of `activation(wide)` is not kept but worked out again when it comes: the
    widest tensor of a layer is kept once and not twice.
    """
    activated, origin = activation(wide), wide.detach()
    identity = activated.data_ptr(), activated.numel()

    def pack(saved: torch.Tensor) -> Any:
        is_activated = (saved.data_ptr(), saved.numel()) == identity
        return (saved.shape, saved.stride()) if is_activated else saved

    def unpack(saved: Any) -> torch.Tensor:
        return saved if isinstance(saved, torch.Tensor) else activation(origin).as_strided(*saved)

    with saved_tensors_hooks(pack, unpack):
        yield activated


class HfLongformerEncoder(nn.Module):
    """The stack of layers, under the name of stock checkpoints."""

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(HfLongformerLayer(config, index) for index in range(config.num_hidden_layers))
        norm_first, size = config.norm_style == "pre", config.hidden_size
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps) if norm_first else None

    def forward(self, hidden_states: torch.Tensor, roles: TokenRoles | None = None, **settings: Any) -> BaseModelOutput:
        """All layers, `(batch, S, hidden_size)` to the same, as `last_hidden_state`.

        Args:
            hidden_states: What the embeddings give.
            roles: Real and global tokens; if left out, all tokens are real and none is global.
            **settings: What the layers take besides.
        """
        roles = TokenRoles() if roles is None else roles
        for layer in self.layer:
            hidden_states = layer(hidden_states, roles, **settings)
        return BaseModelOutput(hidden_states if self.LayerNorm is None else self.LayerNorm(hidden_states))


__all__ = ["HfLongformerEmbeddings", "HfLongformerEncoder", "HfLongformerLayer"]
