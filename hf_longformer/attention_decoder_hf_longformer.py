# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The attention of causal models: positions that are rotated or relative, and keys that are kept from before."""

from typing import Any

import torch
from torch import nn

from .attention_blocked import apply_local_weights, local_weights
from .attention_causal import causal_rows
from .attention_hf_longformer import HfLongformerSelfAttention
from .attention_reference import attention_reference
from .cache_hf_longformer import RollingCache
from .dispatch import local_rows, note
from .global_rows import add_global_rows
from .plain_modules import is_listened_to
from .token_roles import TokenRoles


class HfLongformerCausalSelfAttention(HfLongformerSelfAttention):
    """Causal self-attention of one layer.

    With `position_embedding_type="relative"` a score is `(q_i + u)·k_j + (q_i + v)·W r_(i-j)` over `√head_dim`, with
    sinusoids `r` of the distance and learned `u`, `v` and `W`: Transformer-XL's (arXiv 1901.02860, section 3.3), whose
    distances here are those of the window, dilation included. With `"rotary"`, queries and keys are rotated by their
    positions (arXiv 2104.09864).

    Args:
        config: An `HfLongformerConfig` with `is_decoder`.
        layer_index: Which layer, 0 the lowest.
    """

    def __init__(self, config: Any, layer_index: int) -> None:
        super().__init__(config, layer_index)
        self.position_type = config.position_embedding_type
        if self.position_type == "relative":
            heads = config.num_attention_heads
            self.relative = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
            self.content_bias = nn.Parameter(torch.zeros(heads, self.head_dim))
            self.position_bias = nn.Parameter(torch.zeros(heads, self.head_dim))

    def forward(
        self,
        hidden_states: torch.Tensor,
        roles: TokenRoles,
        output_attentions: bool = False,
        rolling_cache: RollingCache | None = None,
        position_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, ...]:
        """As in `HfLongformerSelfAttention`, and:

        Args:
            hidden_states: `(batch, S, hidden_size)`, the new tokens.
            roles: Their roles.
            output_attentions: Whether to return weights.
            rolling_cache: What is kept of the tokens before; the new ones are added. Layers of Transformers drop an
                argument of another name while they checkpoint.
            position_ids: `(batch, S)`, counted from anywhere, for rotary positions; without them nothing is rotated.

        Raises:
            NotImplementedError: If weights are asked for and cannot be had.
        """
        if self.position_type == "absolute" and rolling_cache is None:
            return super().forward(hidden_states, roles, output_attentions)
        if output_attentions and (self.position_type == "relative" or rolling_cache is not None):
            raise NotImplementedError(
                "attention weights are returned without a cache (use_cache=False), and not with relative positions, "
                f"got position_embedding_type={self.position_type!r} and "
                f"{'no ' if rolling_cache is None else 'a '}cache"
            )
        query, key, value = (self.split_heads(p(hidden_states)) for p in (self.query, self.key, self.value))
        if self.position_type == "rotary" and position_ids is not None:
            query, key = rotate(query, key, position_ids, self.config.rope_theta)
        dropout = self.dropout if self.training else 0.0
        if output_attentions:
            return self._with_weights(query, key, value, roles, dropout)
        output = self._local_rows(query, key, value, roles, dropout, rolling_cache)
        if self.position_type == "absolute":
            settings: dict[str, Any] = {"pattern": self.pattern, "roles": roles, "dropout": dropout}
            output, _ = add_global_rows(output, hidden_states, self.global_projections, **settings)
        return (output.transpose(1, 2).flatten(2),)

    def _with_weights(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, roles: TokenRoles, dropout: float
    ) -> tuple[torch.Tensor | None, ...]:
        """The output, and the weights of local rows, for positions that know no global tokens."""
        pattern = self.pattern.within(max(query.shape[2], self.config.max_length_tokens))
        settings: dict[str, Any] = {"pattern": pattern, "roles": roles}
        note("weights")
        weights = local_weights(query, key, dropout=dropout, **settings)
        return apply_local_weights(weights, value, **settings).transpose(1, 2).flatten(2), weights, None

    def _local_rows(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        roles: TokenRoles,
        dropout: float,
        past: RollingCache | None,
    ) -> torch.Tensor:
        """As any model does where a text begins and positions are not relative; otherwise behind keys that are kept."""
        name, is_first = self.config._attn_implementation, past is None or past.is_empty
        is_whole = is_first and (name == "eager" or self.position_type != "relative")
        if not is_whole and name not in ("eager", "sdpa", None):
            raise NotImplementedError(
                f'attn_implementation="{name}" reads a text at once, without relative positions, got '
                f"position_embedding_type={self.position_type!r} and "
                f'{"a cache that holds tokens" if not is_first else "no cache"}: take "sdpa"'
            )
        if not is_whole:
            self.pattern.require_window()
            note("causal")
            return self._rows(query, self._keep(key, value, roles, past), roles, dropout, past)
        if name == "eager":
            note("eager")
            output = self._reference(query, key, value, roles, dropout)
        else:
            settings: dict[str, Any] = {"pattern": self.pattern, "roles": roles, "dropout": dropout}
            output = local_rows(query, key, value, attn_implementation=name, **settings)
        self._keep(key, value, roles, past)  # when nothing can be refused any more
        return output

    def _keep(
        self, key: torch.Tensor, value: torch.Tensor, roles: TokenRoles, past: RollingCache | None
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values that new tokens can reach, by runs of heads; they are put into the cache, if there is one."""
        pairs = [(key[:, heads], value[:, heads]) for _, heads in self.pattern.head_runs(key.shape[1])]
        if past is None:
            return pairs
        tokens = roles.global_tokens
        if tokens is not None:
            past.global_keys[self.layer_index] = tokens.gather(key), tokens.gather(value), tokens.valid
        return [past.extend(self.layer_index, run, *pair) for run, pair in enumerate(pairs)]

    def _rows(
        self,
        query: torch.Tensor,
        keys: list[tuple[torch.Tensor, torch.Tensor]],
        roles: TokenRoles,
        dropout: float,
        past: RollingCache | None,
    ) -> torch.Tensor:
        of_global: Any = None if past is None else past.global_keys[self.layer_index]
        outputs = []
        for (dilation, heads), (key, value) in zip(self.pattern.head_runs(query.shape[1]), keys, strict=True):
            not_in_windows = (
                roles.not_in_windows
                if past is None
                else past.seen_not_in_windows(roles.not_in_windows, query.shape[2], key.shape[2])
            )
            queries, relative = query[:, heads], None
            farthest = min(self.pattern.one_sided_window, key.shape[2])  # no key is farther away
            if self.position_type == "relative":
                table = self._table_of_window(farthest + 1, dilation, query)[heads]
                relative = (queries + self.position_bias[heads, None], table)
                queries = queries + self.content_bias[heads, None]
            outputs.append(
                causal_rows(
                    queries,
                    key,
                    value,
                    one_sided_window=farthest,
                    dilation=dilation,
                    not_in_windows=not_in_windows,
                    global_keys=of_global and (of_global[0][:, heads], of_global[1][:, heads], of_global[2]),
                    relative=relative,
                    dropout=dropout,
                )
            )
        return torch.cat(outputs, dim=1)

    def _reference(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, roles: TokenRoles, dropout: float
    ) -> torch.Tensor:
        """The definition, on dense weights."""
        bias = None
        if self.position_type == "relative":
            length = query.shape[2]
            by_distance = (
                (query + self.position_bias[:, None]) @ self._table(length, 1, query).mT * query.shape[-1] ** -0.5
            )
            position = torch.arange(length, device=query.device)
            distance = (position[:, None] - position).clamp(min=0).expand_as(by_distance)
            bias, query = by_distance.gather(-1, distance), query + self.content_bias[:, None]
        masks: dict[str, Any] = {"is_global": roles.is_global, "key_padding_mask": roles.key_padding_mask}
        local = (query, key, value)
        return attention_reference(*local, *local, pattern=self.pattern, dropout=dropout, bias=bias, **masks)[0]

    def _table_of_window(self, number: int, dilation: int, query: torch.Tensor) -> torch.Tensor:
        """`_table` of as many distances as there are, unless somebody wants to see those of the definition."""
        if not is_listened_to([self.relative]):
            return self._table(number, dilation, query)
        every = max(query.shape[2], (number - 1) * dilation + 1)
        return self._table(every, 1, query)[:, ::dilation][:, :number]

    def _table(self, number: int, dilation: int, like: torch.Tensor) -> torch.Tensor:
        """What stands for the distances `0, dilation, …`: `(heads, number, head_dim)`, of the type of `like`."""
        distances = torch.arange(number, device=like.device, dtype=torch.float64) * dilation
        return self.split_heads(self.relative(sinusoids(distances, self.config.hidden_size).to(like.dtype))[None])[0]


def sinusoids(positions: torch.Tensor, size: int) -> torch.Tensor:
    """Sines and cosines of positions `(…,)` at geometrically falling frequencies, `(…, size)`, as in Transformer-XL."""
    frequencies = 10_000.0 ** (-torch.arange(0, size, 2, device=positions.device, dtype=positions.dtype) / size)
    angles = positions[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., :size]


def rotate(
    query: torch.Tensor, key: torch.Tensor, position_ids: torch.Tensor, theta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys `(batch, heads, S, head_dim)` rotated by their positions `(batch, S)`."""
    cosine, sine = _turns(query, position_ids, theta)

    return _turned(query, cosine, sine), _turned(key, cosine, sine)


def rotated(states: torch.Tensor, position_ids: torch.Tensor, theta: float) -> torch.Tensor:
    """`rotate` of queries or of keys."""
    return _turned(states, *_turns(states, position_ids, theta))


def _turns(like: torch.Tensor, position_ids: torch.Tensor, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of angles, which are computed in float64: at a position of a million, float32 would be off by a
    twentieth of a radian.
    """
    size = like.shape[-1]
    steps = torch.arange(0, size, 2, device=like.device, dtype=torch.float64)
    angles = position_ids[:, None, :, None].double() * theta ** (-steps / size)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _turned(states: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    one, other = states.chunk(2, dim=-1)
    return torch.cat([one * cosine - other * sine, other * cosine + one * sine], dim=-1)


__all__ = ["HfLongformerCausalSelfAttention", "rotated"]
