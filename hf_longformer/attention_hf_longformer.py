# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The attention as users meet it: the bare operator, and the module with six projections. `dispatch.py` says who
computes it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad

from .attention_blocked import apply_local_weights, local_weights
from .attention_layout import to_dense, to_narrow
from .attention_reference import attention_reference
from .dispatch import NAMES, choose_once, local_rows, note
from .global_rows import GlobalProjections, add_global_rows, join_global_rows, scaled, without_global_tokens
from .masks import roles_of_call
from .text_slices import front_states, local_rows_of_slice, partial_global_rows, row_of_slice
from .token_roles import SeparateTexts, SlicedTexts, TokenRoles
from .transformers_internals import is_tracing
from .window_pattern import WindowPattern


def longformer_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    attention_window: int | None = None,
    attention_dilation: int | tuple[int, ...] = 1,
    is_causal: bool = False,
    pattern: WindowPattern | None = None,
    attention_mask: torch.Tensor | None = None,
    global_attention_mask: torch.Tensor | None = None,
    query_global: torch.Tensor | None = None,
    key_global: torch.Tensor | None = None,
    value_global: torch.Tensor | None = None,
    num_global_tokens: int | None = None,
    roles: TokenRoles | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    attn_implementation: str = "sdpa",
) -> torch.Tensor:
    """Longformer's attention alone, for models of your own: sliding window plus global tokens, any length.

    Masks are counted in every call, for which the host waits for the device. It does not with `num_global_tokens`; and
    with `roles`, made once for all layers, nothing is worked out of masks again.

    Args:
        query, key, value: `(batch, heads, S, head_dim)`.
        attention_window: Total width of the window in tokens, both sides together: even, at least 2.
        attention_dilation: Distance between neighbouring keys of the window, one number or one per head; 1 = no gaps.
        is_causal: Whether a token sees only itself and what comes before it.
        pattern: Instead of these three; a subclass of `WindowPattern` may be another pattern.
        attention_mask: `(batch, S)`, 1 for real tokens, 0 for padding; all are real if left out.
        global_attention_mask: `(batch, S)`, 1 for tokens that attend to all and that all attend to.
        query_global, key_global, value_global: Projections for the rows of global tokens, shaped as `query`; the local
            ones if left out.
        num_global_tokens: At most so many tokens of any text are global. What masks hold is then checked as
            `attention_roles` says: at once on a CPU, by the device itself on CUDA, not at all on others.
        roles: Instead of the masks and their number: what `attention_roles` made of them. Their shape and device are
            checked.
        dropout: Probability of dropping an attention weight.
        scaling: Factor on the scores, `head_dim ** -0.5` if left out.
        attn_implementation: `"sdpa"`: the fastest that can be had, O(S · attention_window); `"eager"`: the definition,
            O(S²); `"triton"`, `"cpu"`, `"blocked"`: that implementation; `"flex_attention"`: a kernel that is compiled
            for the pattern, on a GPU and without dropout; `"flex_attention_flash"`: that of FlashAttention-4, for texts
            without padding and global tokens.

    Returns:
        `(batch, heads, S, head_dim)`; rows of padding are 0.

    Raises:
        ValueError: If shapes do not fit, a mask holds anything but 0 and 1, a global token is padding, a text has more
            than `num_global_tokens`, or masks are given beside `roles`. While `torch.compile` or `torch.export` traces,
            only shapes are checked.
        NotImplementedError: If an implementation is asked for that cannot be had here, with the reason.

    Source: arXiv 2004.05150, section 3.1.
    """
    if attn_implementation not in NAMES:
        raise ValueError(f"attn_implementation must be one of {NAMES}, got {attn_implementation!r}")
    _check_projections(query, (key, value, query_global, key_global, value_global))
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    pattern = _pattern_of(attention_window, attention_dilation, is_causal, pattern)
    pattern.check_num_heads(query.shape[1])
    masks_of_call = (attention_mask, global_attention_mask, num_global_tokens)
    if roles is None:
        roles = roles_of_call(*masks_of_call[:2], (query.shape[0], query.shape[2]), num_global_tokens)
    else:
        _check_roles(roles, query, masks_of_call)
        roles = roles.forgetful() if is_tracing(query) else roles
    given_global = (query_global, key_global, value_global)
    of_global = [one if given is None else given for one, given in zip((query, key, value), given_global, strict=True)]
    settings: dict[str, Any] = {"pattern": pattern, "dropout": dropout, "scaling": scaling}
    if attn_implementation == "eager":
        masks: dict[str, Any] = {"is_global": roles.is_global, "key_padding_mask": roles.key_padding_mask}
        settings |= masks
        return attention_reference(query, key, value, *of_global, **settings)[0]
    settings["roles"] = roles
    output = local_rows(query, key, value, attn_implementation=attn_implementation, **settings)
    if not roles.has_global and all(given is None for given in given_global):
        return output
    return join_global_rows(output, *of_global, **settings)


def _check_roles(roles: TokenRoles, query: torch.Tensor, others: tuple[Any, ...]) -> None:
    if any(other is not None for other in others):
        raise ValueError("roles are made of masks: leave attention_mask, global_attention_mask and their number out")
    if type(roles) is not TokenRoles:
        raise ValueError(f"roles must be what attention_roles makes, got {type(roles).__name__}")
    shape = (query.shape[0], query.shape[2])
    for mask in (roles.key_padding_mask, roles.is_global):
        if mask is not None and tuple(mask.shape) != shape:
            raise ValueError(f"roles must be those of texts (batch, S) = {shape}, got {tuple(mask.shape)}")
        if mask is not None and mask.device != query.device:
            raise ValueError(f"roles must be on {query.device}, got {mask.device}: roles.to(query.device) takes them")


def _pattern_of(
    attention_window: int | None,
    attention_dilation: int | tuple[int, ...],
    is_causal: bool,
    pattern: WindowPattern | None,
) -> WindowPattern:
    if pattern is None and attention_window is not None:
        return WindowPattern(attention_window, attention_dilation, is_causal)
    if pattern is None or attention_window is not None:
        raise ValueError(f"pass either attention_window or pattern, got {attention_window} and {pattern}")
    if attention_dilation != 1 or is_causal:
        raise ValueError("attention_dilation and is_causal are the pattern's own, got both: leave them out")
    return pattern


def _check_projections(query: torch.Tensor, given: tuple[torch.Tensor | None, ...]) -> None:
    if query.dim() != 4 or any(tensor is not None and tensor.shape != query.shape for tensor in given):
        shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (query, *given)]
        raise ValueError(f"all projections must have one shape (batch, heads, S, head_dim), got {shapes}")
    if any(tensor is not None and tensor.dtype != query.dtype for tensor in given):
        dtypes = [None if tensor is None else tensor.dtype for tensor in (query, *given)]
        raise ValueError(f"all projections must have one dtype, got {dtypes}")
    if not is_tracing(query) and 0 in query.shape:  # of which kernels would divide
        raise ValueError(f"projections must have something in every dimension, got {tuple(query.shape)}")


class HfLongformerSelfAttention(nn.Module):
    """Projects hidden states to local and global queries, keys and values and attends with one layer's pattern.

    Args:
        config: An `HfLongformerConfig`.
        layer_index: Which layer, 0 the lowest: windows and dilations differ by layer.
    """

    pattern_class = WindowPattern  # a subclass may stand here, on a layer or on the class

    def __init__(self, config: Any, layer_index: int) -> None:
        super().__init__()
        size = config.hidden_size
        self.config = config
        self.layer_index = layer_index
        self.head_dim = size // config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        # Other positions have no global tokens.
        self.has_global_projections = config.position_embedding_type == "absolute"
        self.has_global_projections &= config.global_projections != "shared"
        if self.has_global_projections:
            self.query_global = nn.Linear(size, size)
            self.key_global = nn.Linear(size, size)
            self.value_global = nn.Linear(size, size)

    @property
    def global_projections(self) -> GlobalProjections:
        """Of query, key and value in the rows of global tokens: their own, or the local ones if those are shared."""
        if self.has_global_projections:
            modules = (self.query_global, self.key_global, self.value_global)
        else:
            modules = (self.query, self.key, self.value)
        is_separate, length = self.has_global_projections, self.config.global_scaling_length
        return GlobalProjections(modules, self.split_heads, self.head_dim, is_separate, self.training, length)

    @property
    def pattern(self) -> WindowPattern:
        """The window of this layer, read from the config every time: it may be changed on a loaded model. One far
        beyond the longest text is cut to what texts can fill.

        Where layers do not differ, none asks which one it is: compiled one by one, they are one program.
        """
        of_layers = self.config.attention_windows, self.config.attention_dilations
        window, dilation = (
            values[0] if all(value == values[0] for value in values) else values[self.layer_index]
            for values in of_layers
        )
        return self._make_pattern(window, dilation)

    def _make_pattern(self, window: int, dilation: int | tuple[int, ...]) -> WindowPattern:
        pattern = self.pattern_class(window, dilation, self.config.is_decoder)
        is_limited = self.config.position_embedding_type == "absolute"
        return pattern.within(self.config.max_length_tokens) if is_limited else pattern

    def _pattern_in(self, roles: TokenRoles) -> WindowPattern:
        """The same, read from the config once in a forward pass: to read it takes as long as a small product. A class
        that says otherwise what its pattern is says so in every layer.
        """
        if torch.compiler.is_compiling() or type(self).pattern is not _PATTERN:
            return self.pattern
        config = self.config  # kept, so that no other has its id
        of_config = ("windows", id(config)), lambda: (config, config.attention_windows, config.attention_dilations)
        window, dilation = (values[self.layer_index] for values in roles.derived(*of_config)[1:])
        name = ("pattern", id(config), self.pattern_class, window, dilation)
        return roles.derived(name, lambda: self._make_pattern(window, dilation))

    def forward(
        self,
        hidden_states: torch.Tensor,
        roles: TokenRoles | SeparateTexts | SlicedTexts,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor | None, ...]:
        """Attends.

        Args:
            hidden_states: `(batch, S, hidden_size)`.
            roles: Real and global tokens.
            output_attentions: Whether to return weights.

        Returns:
            The output `(batch, S, hidden_size)`, alone or, if weights are asked for, with those of local rows
            `(batch, heads, S, G + attention_window + 1)` and of global rows `(batch, heads, S, G)`, None if there are
            none.
        """
        hidden_states = cast_once(hidden_states)
        name = self.config._attn_implementation  # every time: it may be changed on a loaded model, or on one layer
        given = (hidden_states, roles, self.dropout if self.training else 0.0, output_attentions)
        output, *weights = self._attend_by_definition(*given) if name == "eager" else self._attend(name, *given)
        output = output.transpose(1, 2).flatten(2)
        return (output, *weights) if output_attentions else (output,)

    def _attend(
        self,
        name: str | None,
        hidden_states: torch.Tensor,
        roles: TokenRoles | SeparateTexts | SlicedTexts,
        dropout: float,
        output_attentions: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """The local rows by the implementation of choice, then the global ones."""
        if isinstance(roles, SlicedTexts):
            return self._attend_to_slice(name, hidden_states, roles, dropout), None, None
        projections = [self.split_heads(project(hidden_states)) for project in (self.query, self.key, self.value)]
        if not isinstance(roles, SeparateTexts):
            return self._attend_to_texts(name, hidden_states, projections, roles, dropout, output_attentions)
        states_of_texts = hidden_states.split(roles.lengths, dim=1)
        projections_of_texts = zip(*(x.split(roles.lengths, dim=2) for x in projections), strict=True)
        outputs = [
            self._attend_to_texts(name, states, of_text, text, dropout, False)[0].transpose(1, 2)
            for states, of_text, text in zip(states_of_texts, projections_of_texts, roles.texts, strict=True)
        ]
        return torch.cat(outputs, dim=1).transpose(1, 2), None, None

    def _attend_to_texts(
        self,
        name: str | None,
        hidden_states: torch.Tensor,
        projections: Sequence[torch.Tensor],
        roles: TokenRoles,
        dropout: float,
        output_attentions: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        query, key, value = projections
        settings: dict[str, Any] = {"pattern": self._pattern_in(roles), "roles": roles}
        weights = None
        if output_attentions:
            note("weights")
            weights = local_weights(query, key, dropout=dropout, **settings)
            output = apply_local_weights(weights, value, **settings)
        else:
            chosen = choose_once(query, name, dropout=dropout, **settings)
            output = chosen.local_rows(query, key, value, dropout=dropout, **settings)
        settings |= {"dropout": dropout, "output_attentions": output_attentions}
        output, weights_of_global = add_global_rows(output, hidden_states, self.global_projections, **settings)
        return output, weights, weights_of_global

    def _attend_to_slice(
        self, name: str | None, hidden_states: torch.Tensor, roles: SlicedTexts, dropout: float
    ) -> torch.Tensor:
        """The rows of a slice; what comes from other slices is waited for as late as possible."""
        settings: dict[str, Any] = {"pattern": self.pattern, "dropout": dropout}
        row, exchange = row_of_slice(roles, settings["pattern"]), roles.exchange
        states = exchange.start(hidden_states, settings["pattern"])
        query, key, value = (project(hidden_states) for project in (self.query, self.key, self.value))
        others, of_global = states()
        if of_global is not None:
            parts = partial_global_rows(of_global, hidden_states, self.global_projections, roles=roles, **settings)
            rows_of_global = exchange.start_merge(parts)
            others = torch.cat([front_states(of_global, row), others], dim=1)
        before = row.front.shape[1] + row.before
        key, value = (
            torch.cat([of_others[:, :before], of_slice, of_others[:, before:]], dim=1)
            for of_slice, of_others in ((key, self.key(others)), (value, self.value(others)))
        )
        query = pad(query, (0, 0, before, row.after))  # rows that nobody reads
        settings |= {"row": row, "attn_implementation": name}
        output = local_rows_of_slice(*(self.split_heads(x) for x in (query, key, value)), **settings)
        if of_global is None:
            return without_global_tokens(output, hidden_states, self.global_projections)
        return exchange.put(output, rows_of_global())

    def _attend_by_definition(
        self, hidden_states: torch.Tensor, roles: Any, dropout: float, output_attentions: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """On dense weights; `roles` are those of a batch."""
        note("eager")
        local = [self.split_heads(project(hidden_states)) for project in (self.query, self.key, self.value)]
        of_global, pattern = self.global_projections.of_states(hidden_states), self.pattern
        factor = self.global_projections.factor(hidden_states, roles.key_padding_mask)
        of_global[0] = scaled(of_global[0], factor)
        masks: dict[str, Any] = {"is_global": roles.is_global, "key_padding_mask": roles.key_padding_mask}
        output, weights = attention_reference(*local, *of_global, pattern=pattern, dropout=dropout, **masks)
        if not output_attentions:
            return output, None, None
        # The output is computed from the weights as they are returned, so that gradients reach those.
        weights, weights_of_global = to_narrow(weights, pattern, roles)
        dense = to_dense(weights, weights_of_global, pattern, roles)
        output = dense @ local[2]
        if roles.is_global is not None:
            output = torch.where(roles.is_global[:, None, :, None], dense @ of_global[2], output)
        return output, weights, weights_of_global

    def split_heads(self, projected: torch.Tensor) -> torch.Tensor:
        """`(batch, S, hidden_size)` to `(batch, heads, S, head_dim)`."""
        *shape, size = projected.shape
        return projected.view(*shape, size // self.head_dim, self.head_dim).transpose(1, 2)


_PATTERN = HfLongformerSelfAttention.pattern


def cast_once(hidden_states: torch.Tensor) -> torch.Tensor:
    """What `torch.autocast` would do for every projection, each with a copy to keep for the backward pass."""
    device = hidden_states.device.type
    if hidden_states.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return hidden_states.to(torch.get_autocast_dtype(device))
    return hidden_states


__all__ = ["HfLongformerSelfAttention", "longformer_attention"]
