# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Inference on texts of any length in bounded memory: layer by layer, a text is walked in segments, each with a halo of
the tokens that its windows reach on either side. The rows of global tokens, which see the whole text, are sums that go
on from segment to segment.

All that is held of the whole text is the states of one layer, and each segment is written over what it was made from.
They may stand on another device than the model.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from .operators import is_transformed
from .plain_modules import are_compiled, is_listened_to
from .text_slices import PartialRows, add_partial_rows, merge_partial_rows
from .token_roles import SlicedTexts, TokenRoles, text_bounds
from .transformers_internals import is_tracing
from .window_pattern import WindowPattern
from .workspace import Workspace

LONG_TEXT = 65_536  # tokens from which on texts are walked in segments, if nobody says otherwise
SEGMENT = 8_192  # tokens of a segment: halos of base size are 6 percent of it; measured
REACHES = 8  # halos that a segment is as long as, at least
SCORES = 16 * 2**20  # scores of global rows at a time, of all heads
KEYWORDS = ("segment_length", "states_device")  # of `forward`
IN_SEGMENTS = ("sdpa", "triton", "cpu", "blocked")  # implementations that take a part of a text for a text


def settings_of_segments(
    model: Any, position_ids: Any, kwargs: Mapping[str, Any], needs_all_layers: bool
) -> dict[str, Any] | None:
    """How texts are walked in segments: arguments of `encode_in_segments`, or None if they are encoded whole.

    Args:
        model: The encoder.
        position_ids: `(batch or 1, S)`, a tensor.
        kwargs: Of `forward`; `segment_length` or `states_device` ask for segments.
        needs_all_layers: Whether attention weights or hidden states of all layers are asked for.

    Raises:
        ValueError: If `segment_length` is no positive number.
        NotImplementedError: If segments are asked for and cannot be had.
    """
    asked = {name: kwargs[name] for name in KEYWORDS if kwargs.get(name) is not None}
    if not asked and (is_tracing(position_ids) or position_ids.shape[1] <= LONG_TEXT):
        return None
    segment_length = asked.get("segment_length")
    if segment_length is not None and (not isinstance(segment_length, int) or segment_length < 1):
        raise ValueError(f"segment_length must be a number of tokens of at least 1, got {segment_length!r}")
    reason = why_not_in_segments(model, position_ids, needs_all_layers)
    if reason is None:
        return asked
    if asked:
        raise NotImplementedError(f"segments {reason} (got {', '.join(f'{n}={v}' for n, v in asked.items())})")
    return None


def refuse_states_elsewhere(kwargs: Mapping[str, Any]) -> None:
    """Raises `NotImplementedError` if what a head reads is asked for on another device."""
    if kwargs.get("states_device") is not None:
        raise NotImplementedError(
            "a head reads states where its own weights are, so states_device is for the encoder alone: call the base "
            f"model, got states_device={kwargs['states_device']}"
        )


def why_not_in_segments(model: Any, position_ids: torch.Tensor, needs_all_layers: bool) -> str | None:
    """Why a text cannot be walked in segments: the end of a sentence that begins with "segments". None if it can."""
    if torch.is_grad_enabled():
        return "are for inference: call the model inside torch.no_grad(); to train, checkpoint gradients"
    if model.training:
        return "are for inference: call model.eval()"
    if model.text_division is not None:
        return "are walked by one process, and this text is divided among several"
    if model.has_causal_layers:
        return "of causal models are passed one by one, with the cache of those before: past_key_values"
    if needs_all_layers:
        return "are written over, layer by layer: neither attention weights nor hidden states of all layers can be had"
    if is_tracing(position_ids) or is_transformed():
        return "are not known to programs that are compiled, exported or transformed"
    if model.config._attn_implementation not in IN_SEGMENTS:
        return f"need an attn_implementation of {IN_SEGMENTS}, got {model.config._attn_implementation!r}"
    if are_compiled(model.encoder.modules()):
        return "are not known to layers that are compiled one by one"
    if is_listened_to((*model.embeddings.modules(), *model.encoder.modules())):
        return "pass by the hooks that sit on modules of this model, which expect the whole text"
    if any(hasattr(module, "_hf_hook") for module in model.modules()):  # of accelerate
        return "need a model that stands on one device: layers of this one are spread over several, or offloaded"
    if any(layer.attention.self.pattern.overridden() for layer in model.encoder.layer):
        return "are for windows; a pattern of your own may ask where in the text a token stands"
    return None


@torch.no_grad()
def encode_in_segments(
    model: Any,
    inputs: tuple[torch.Tensor | None, ...],
    roles: TokenRoles,
    segment_length: int | None = None,
    states_device: torch.device | str | None = None,
) -> torch.Tensor:
    """Embeddings and layers, `(batch, S, hidden_size)`: one text after the other, padding at its ends left out, which
    becomes 0.

    Args:
        model: The encoder.
        inputs: Arguments of the embeddings, `(batch or 1, S)` or `(batch, S, embedding_size)`, or None.
        roles: Real and global tokens.
        segment_length: Tokens at a time; what fits the windows if left out.
        states_device: Where the states of the whole text stand; the device of the inputs if left out.
    """
    given = next(x for x in (inputs[0], inputs[3]) if x is not None)
    batch, length = given.shape[:2]
    bounds = [[0, length]] * batch
    if roles.key_padding_mask is not None:
        bounds = text_bounds(roles.key_padding_mask).tolist()
    states = torch.zeros(
        (batch, length, model.config.hidden_size),
        dtype=_dtype_of_states(model, given.device),
        device=given.device if states_device is None else states_device,
    )
    for text, (first, last) in enumerate(bounds):
        if first == last:
            continue  # padding alone
        of_text = [None if x is None else x.expand(batch, *x.shape[1:])[text : text + 1, first:last] for x in inputs]
        found = states[text : text + 1, first:last]
        segments = _segments(model, _roles_of_text(roles, text, first, last), last - first, segment_length)
        for segment in segments:
            part = slice(segment.start, segment.stop)
            found[:, part] = model.embeddings(*(None if x is None else x[:, part] for x in of_text))
        for layer in model.encoder.layer:
            apply_layer(layer, found, segments, given.device)
        if model.encoder.LayerNorm is not None:
            for segment in segments:
                part = slice(segment.start, segment.stop)
                found[:, part] = model.encoder.LayerNorm(found[:, part].to(given.device))
    return states


def _dtype_of_states(model: Any, device: torch.device) -> torch.dtype:
    """Under autocast layer norms give float32."""
    return torch.float32 if torch.is_autocast_enabled(device.type) else model.dtype


def _roles_of_text(roles: TokenRoles, text: int, first: int, last: int) -> TokenRoles:
    real, is_global = (
        None if mask is None else mask[text : text + 1, first:last]
        for mask in (roles.key_padding_mask, roles.is_global)
    )
    real = None if real is None or bool(real.all()) else real
    return TokenRoles.from_masks(real, is_global, 0 if is_global is None else int(is_global.sum()))


def _segments(model: Any, roles: TokenRoles, length: int, segment_length: int | None) -> list[SlicedTexts]:
    if segment_length is None:
        attentions = [layer.attention.self for layer in model.encoder.layer]
        at_once = SCORES // (model.config.num_attention_heads * max(1, roles.num_global))
        reach = max((attention.pattern.reach for attention in attentions), default=1)
        segment_length = max(min(SEGMENT, at_once), REACHES * reach)
    workspace = Workspace()
    segments = []
    for start in range(0, length, segment_length):
        segment = SlicedTexts(texts=roles, length=length, start=start, stop=min(start + segment_length, length))
        segment.derived("feed-forward", lambda: workspace)  # one for all segments
        segments.append(segment)
    return segments


def apply_layer(layer: Any, states: torch.Tensor, segments: list[SlicedTexts], device: torch.device) -> None:
    """Puts what a layer makes of a text in the place of that.

    Args:
        layer: An `HfLongformerLayer`.
        states: `(1, S, hidden_size)`, on any device.
        segments: Of the text, in order.
        device: Of the layer.
    """
    tokens, reach = segments[0].texts.global_tokens, layer.attention.self.pattern.reach
    of_global = None if tokens is None else states.index_select(1, tokens.index[0].to(states.device)).to(device)
    exchange = _Exchange(layer.attention.output.read, of_global)
    before = states[:, :0].to(device)
    for segment in segments:
        part = states[:, segment.start : segment.stop].to(device)
        exchange.around = before, states[:, segment.stop : segment.stop + reach].to(device)
        before = torch.cat([before, part], dim=1)[:, -reach:].clone()  # as it was before this layer
        segment.exchange = exchange
        states[:, segment.start : segment.stop] = layer(part, segment)
    if of_global is not None:
        attended = merge_partial_rows(exchange.stacked()).to(of_global.dtype).transpose(1, 2).flatten(2)
        finished = layer.feed_forward(layer.attention.output(attended, of_global), segments[0])
        states.index_copy_(1, tokens.index[0].to(states.device), finished.to(states))


class _Exchange:
    """What a segment is told of the rest of its text in one layer, in the form that slices are told by other processes
    in (`slice_exchange.py`); and the rows of global tokens so far, which it leaves empty.

    Args:
        read: What the attention reads of states.
        of_global: `(1, G, hidden_size)`, the states of global tokens; None if there are none.
    """

    def __init__(self, read: Callable[[torch.Tensor], torch.Tensor], of_global: torch.Tensor | None) -> None:
        self.read = read
        self.of_global = None if of_global is None else read(of_global[0])
        self.around: tuple[torch.Tensor, torch.Tensor]
        self.parts: PartialRows | None = None

    def start(
        self, hidden_states: torch.Tensor, pattern: WindowPattern
    ) -> Callable[[], tuple[torch.Tensor, torch.Tensor | None]]:
        return lambda: (self.read(torch.cat(self.around, dim=1)), self.of_global)

    def start_merge(self, parts: PartialRows) -> Callable[[], None]:
        self.parts = parts if self.parts is None else add_partial_rows(self.parts, parts)
        return lambda: None

    def put(self, output: torch.Tensor, rows: None) -> torch.Tensor:
        return output

    def stacked(self) -> PartialRows:
        parts: Any = self.parts
        return PartialRows(parts.weighted[None], parts.total[None], parts.largest[None])


__all__ = ["LONG_TEXT", "SEGMENT", "encode_in_segments", "refuse_states_elsewhere", "settings_of_segments"]
