# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The hf-longformer model: a RoBERTa-like encoder around Longformer's attention. Task heads stand beside it.

Parameter names are those of Transformers' stock Longformer, so its checkpoints load key for key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypedDict, Unpack

import torch
from torch import nn
from transformers import LongformerConfig
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

from .attention_decoder_hf_longformer import HfLongformerCausalSelfAttention
from .attention_hf_longformer import HfLongformerSelfAttention
from .cache_hf_longformer import RollingCache
from .configuration_hf_longformer import HfLongformerConfig
from .dispatch import IMPLEMENTATIONS
from .inputs_hf_longformer import (
    check_inputs,
    check_keywords,
    check_mask_shape,
    check_text_is_whole,
    count_positions,
    counted_tokens,
    default_global_attention,
    mask_of_kind,
    restarts_of,
    token_shape,
    warn_of_left_padding,
)
from .layers_hf_longformer import HfLongformerEmbeddings, HfLongformerEncoder, HfLongformerLayer, HfLongformerLMHead
from .masks import count_in_masks, roles_of_masks, roles_of_traced_masks
from .neighbours_hf_longformer import ChunkedPass, HfLongformerZeroLinear
from .text_segments import encode_in_segments, refuse_states_elsewhere, settings_of_segments
from .token_roles import TokenRoles
from .transformers_internals import (
    CACHE_NAME,
    CHECKPOINTING,
    OutputRecorder,
    capture_outputs,
    initialization as init,
    is_tracing,
    one_cache,
)
from .unpadding_hf_longformer import is_worth_unpadding, unpad

logger = logging.get_logger(__name__)

OF_ALL_LAYERS = ("output_attentions", "output_hidden_states")


@dataclass
class HfLongformerModelOutput(BaseModelOutputWithPooling):
    """Hidden states `(batch, S, hidden_size)` and what was asked for besides.

    `attentions`: per layer `(batch, heads, S, G + attention_window + 1)`. The first G columns are the row's global
    tokens; column `G + attention_window / 2 + k` is the token `attention_dilation * k` positions to the right. Rows of
    global tokens are 0. `global_attentions`: per layer `(batch, heads, S, G)`, what each global token gives to every
    token. `hf_longformer.dense_attention_weights` makes `(batch, heads, S, S)` of both.
    """

    global_attentions: tuple[torch.Tensor, ...] | None = None
    if CACHE_NAME == "cache":  # outputs of Transformers read it under the other name, too
        cache: RollingCache | None = None
    else:
        past_key_values: RollingCache | None = None


class HfLongformerKwargs(TypedDict, total=False):
    """What every `forward` takes besides its named arguments; `num_items_in_batch` comes from `Trainer`."""

    output_attentions: bool | None
    output_hidden_states: bool | list[int] | None
    return_dict: bool | None
    num_items_in_batch: torch.Tensor | int | None
    segment_length: int | None
    states_device: torch.device | str | None


# Of `forward`, as they are spelt.
KEYWORDS = frozenset(
    [
        *("input_ids", "attention_mask", "global_attention_mask", "token_type_ids", "position_ids", "inputs_embeds"),
        *("past_key_values", "use_cache", "cache", "labels", "start_positions", "end_positions", "masked_only"),
        *("logits_to_keep", "output_global_attentions", *HfLongformerKwargs.__annotations__),
        *("neighbour_ids", "neighbour_mask"),
    ]
)


class HfLongformerPooler(nn.Module):
    """Dense layer and activation on the first token."""

    def __init__(self, config: HfLongformerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.classifier_activation]

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        return self.activation(self.dense(first_token_states(hidden_states, attention_mask)))


def first_token_states(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """`(batch, S, hidden_size)` to `(batch, hidden_size)`: the first real token of every row, on any side."""
    if attention_mask is None:
        return hidden_states[:, 0]
    first = attention_mask.long().argmax(dim=1)
    return hidden_states.gather(1, first[:, None, None].expand(-1, 1, hidden_states.shape[-1]))[:, 0]


class HfLongformerPreTrainedModel(PreTrainedModel):
    """Loading, saving, initialisation and global attention by default, common to all models."""

    config: HfLongformerConfig
    config_class = HfLongformerConfig
    base_model_prefix = "longformer"
    supports_gradient_checkpointing = True
    _no_split_modules = ["HfLongformerEmbeddings", "HfLongformerLayer"]
    _supports_sdpa = True
    _supports_flash_attn = False
    _supports_flex_attn = True
    _input_embed_layer = "word_embeddings"
    _can_record_outputs = {
        "hidden_states": HfLongformerLayer,
        "attentions": OutputRecorder(HfLongformerSelfAttention, index=1),
        "global_attentions": OutputRecorder(HfLongformerSelfAttention, index=2),
    }
    takes_retrieval: bool = False  # whether `config.retrieval` may be set
    # What `config.global_attention = "auto"` stands for: arguments of `global_attention_mask`.
    auto_global_attention: str = "none"

    def __init__(self, config: HfLongformerConfig | LongformerConfig, *args: Any, **kwargs: Any) -> None:
        config = HfLongformerConfig.of_stock(config)
        config.validate_architecture()  # keywords of from_pretrained reach the config unchecked
        if config.retrieval is not None and not self.takes_retrieval:
            raise NotImplementedError(
                "what is found in an index is read by HfLongformerForCausalLM alone: take that, or set "
                f"config.retrieval to None, got {type(self).__name__} with {config.retrieval}"
            )
        super().__init__(config, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, *args: Any, config: Any = None, **kwargs: Any) -> Any:
        """As in Transformers; `config` may be a stock `LongformerConfig`, too."""
        if isinstance(config, LongformerConfig):
            config = HfLongformerConfig.of_stock(config)
        return super().from_pretrained(*args, config=config, **kwargs)

    @classmethod
    def _from_config(cls, config: PreTrainedConfig, **kwargs: Any) -> Any:
        return super()._from_config(HfLongformerConfig.of_stock(config), **kwargs)

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return True  # Transformers searches this file for its own table of implementations; ours has another name

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """Takes names of this package, too; whether one can be had is seen when it runs, on a device, in a dtype."""
        if requested_attention in IMPLEMENTATIONS:
            return str(requested_attention)
        return super().get_correct_attn_implementation(requested_attention, is_init_check)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, HfLongformerZeroLinear):
            init.zeros_(module.weight)
            init.zeros_(module.bias)
            return
        super()._init_weights(module)
        if isinstance(module, HfLongformerLMHead):
            init.zeros_(module.bias)
        elif isinstance(module, HfLongformerCausalSelfAttention) and module.position_type == "relative":
            for bias in (module.content_bias, module.position_bias):
                init.normal_(bias, std=self.config.initializer_range)

    def encode(self, *inputs: torch.Tensor | None, **kwargs: Any) -> "HfLongformerModelOutput":
        """What the encoder makes of the arguments of a head's `forward`."""
        refuse_states_elsewhere(kwargs)
        kwargs |= {"auto_global_attention": self.auto_global_attention, "return_dict": True}
        encoder: Any = self.longformer
        return encoder(*inputs, **kwargs)

    def default_global_attention_mask(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """The mask `(batch, S)` used when the caller passes none, by `config.global_attention`; None for no token.

        Choices, `(batch, num_choices, S)`, count as texts.
        """
        input_ids, attention_mask = (
            None if tensor is None else tensor.flatten(0, -2) for tensor in (input_ids, attention_mask)
        )
        inputs_embeds = None if inputs_embeds is None else inputs_embeds.flatten(0, -3)
        kind = default_global_attention(self.config, self.auto_global_attention, input_ids)
        return mask_of_kind(kind, self.config, input_ids, attention_mask, inputs_embeds)


def _record_global_attentions_with_attentions(forward: Callable) -> Callable:
    """`output_attentions` asks for `global_attentions` too, as in stock; without global tokens they are None."""

    @wraps(forward)
    def wrapper(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("output_attentions") is None:
            kwargs["output_attentions"] = self.config.output_attentions
        kwargs["output_global_attentions"] = kwargs["output_attentions"]
        outputs = forward(self, *args, **kwargs)
        if isinstance(outputs, tuple):
            return outputs[:-1] if isinstance(outputs[-1], tuple) and not outputs[-1] else outputs
        kept = {name: outputs[name] for name in outputs if name != "global_attentions" or outputs[name]}
        return type(outputs)(**kept)

    return wrapper


class HfLongformerModel(HfLongformerPreTrainedModel):
    """The encoder without a head.

    Args:
        config: The configuration.
        add_pooling_layer: Whether to add a dense layer with an activation on the first token, as stock has.
    """

    takes_retrieval = True

    def __init__(self, config: HfLongformerConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        config = self.config
        self.embeddings = HfLongformerEmbeddings(config)
        self.encoder = HfLongformerEncoder(config)
        self.pooler = HfLongformerPooler(config) if add_pooling_layer else None
        self.has_causal_layers = config.is_decoder  # which may be changed later, as windows may
        self.text_division: Any = None  # among processes, as `context_parallel` says
        self.post_init()

    @_record_global_attentions_with_attentions
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: RollingCache | None = None,
        use_cache: bool | None = None,
        auto_global_attention: str | None = None,
        cache: RollingCache | None = None,
        **kwargs: Unpack[HfLongformerKwargs],
    ) -> tuple | HfLongformerModelOutput:
        """Encodes texts of any length up to `config.max_length_tokens`; nothing needs to be padded to the window.

        Args:
            input_ids: `(batch, S)`. Either these or `inputs_embeds`.
            attention_mask: `(batch, S)`, 1 for real tokens, 0 for padding on any side.
            global_attention_mask: `(batch, S)`, 1 for tokens that attend to all and that all attend to. If left out,
                `config.global_attention` decides.
            token_type_ids: `(batch, S)`, below `config.type_vocab_size`.
            position_ids: `(batch, S)`. If left out, real tokens are counted from `config.first_position`, and
                `attention_mask` says which those are. Without it they are all but `pad_token_id`, as in RoBERTa; and
                all, if that is also `eos_token_id`, or `inputs_embeds` are given.
            inputs_embeds: `(batch, S, embedding_size)`, which is `hidden_size` unless the configuration says otherwise.
            past_key_values: What is kept of the text before, for causal models: the input is what follows.
            use_cache: Whether a causal model begins such a cache and returns it; others have none.
            auto_global_attention: What `config.global_attention = "auto"` stands for, which heads say: `"none"` or an
                argument of `global_attention_mask`. If left out, the model's own, which is `"none"` unless it is part
                of an encoder-decoder.
            cache: Another name of `past_key_values`, Transformers' from 5.24 on.
            **kwargs: `output_attentions`, `output_hidden_states`, `return_dict`; and for inference in bounded memory
                `segment_length`, tokens that a layer takes at a time (texts of more than 65,536 tokens are walked so
                by themselves), and `states_device`, where the states of the whole text stand. With `config.retrieval`
                `neighbour_ids` `(batch, U, k, r)`, what was found for the U chunks that end in this text, and
                `neighbour_mask` of that shape, 1 for their real tokens; left out, all are. Chunks are counted over real
                tokens; a text that has fewer than U is filled up with anything.

        Raises:
            ValueError: If the input is too long or empty, an id is out of range, a mask has the wrong shape or values,
                or a global token is padding. While `torch.compile` or `torch.export` traces, only shapes are checked.
            NotImplementedError: If a cache, or global tokens, cannot be had; or several texts stand in one row, told
                apart by their positions or otherwise, or are divided among devices.
        """
        check_keywords(kwargs, KEYWORDS)
        check_text_is_whole()
        auto_global_attention = auto_global_attention or self.auto_global_attention
        shape = token_shape(input_ids, inputs_embeds)
        past = _check_cache(self, one_cache(cache, past_key_values), use_cache, shape[0])
        if attention_mask is not None and past is not None and attention_mask.dim() == 2:
            attention_mask = attention_mask[:, -shape[1] :]  # `generate` passes that of the whole text
        check_mask_shape("attention_mask", attention_mask, shape)
        check_mask_shape("token_type_ids", token_type_ids, shape)
        if input_ids is not None:
            self.warn_if_padding_and_no_attention_mask(input_ids, attention_mask)
        num_global = None  # not known before masks are read
        if global_attention_mask is None:
            kind = default_global_attention(self.config, auto_global_attention, input_ids)
            global_attention_mask, num_global = self._mark(kind, input_ids, attention_mask, inputs_embeds, past)
        restarts = restarts_of(position_ids, attention_mask)
        counted = counted_tokens(input_ids, attention_mask, inputs_embeds, self.config)
        if position_ids is None:
            position_ids = count_positions(counted, None if past is None else past.counted_tokens, self.config)
        counts = count_in_masks(attention_mask, global_attention_mask, shape)
        takes_first = self.pooler is not None or auto_global_attention == "cls"
        if takes_first and attention_mask is not None and self.config.position_counting == "input_ids":
            counts["padded_first"] = (attention_mask[:, 0] == 0).sum()
        if is_tracing(position_ids):  # what tensors hold is unknown: nothing can be refused
            numbers, roles = {}, roles_of_traced_masks(attention_mask, global_attention_mask, num_global)
        else:
            vocabulary = getattr(self.embeddings.word_embeddings, "num_embeddings", self.config.vocab_size)
            ids = (input_ids, token_type_ids, position_ids)
            numbers = check_inputs(self.config, shape, counts, *ids, restarts, vocabulary)
            roles = roles_of_masks(attention_mask, global_attention_mask, numbers)
            warn_of_left_padding(numbers)
        _check_global(self.config, roles, past)
        hidden_states = self._encode(
            (input_ids, token_type_ids, position_ids, inputs_embeds), roles, numbers, past, kwargs
        )
        if past is not None:
            past.remember(roles.not_in_windows, counted)
        pooled = self.pooler(hidden_states, attention_mask) if self.pooler is not None else None
        kept: dict[str, Any] = {CACHE_NAME: past}
        return HfLongformerModelOutput(last_hidden_state=hidden_states, pooler_output=pooled, **kept)

    def _mark(
        self,
        kind: str,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        past: RollingCache | None,
    ) -> tuple[torch.Tensor | None, int | None]:
        """The global tokens of a kind; in later segments only those of texts that had nothing but padding before. And
        how many a text has, if that is known without a look at the mask.
        """
        is_later = past is not None and not past.is_empty
        if is_later and kind != "none":
            kind = "cls" if attention_mask is not None else "none"
        mask = mask_of_kind(kind, self.config, input_ids, attention_mask, inputs_embeds)
        if is_later and mask is not None:
            mask = mask * (past.counted_tokens == 0)
        return mask, 1 if kind == "cls" else None

    def _encode(
        self,
        inputs: tuple[torch.Tensor | None, ...],
        roles: TokenRoles,
        numbers: dict[str, int],
        past: RollingCache | None,
        kwargs: Mapping[str, Any],
    ) -> torch.Tensor:
        """Embeddings and layers, without the padding where that is worth it: `(batch, S, hidden_size)`."""
        needs_all_layers = any(kwargs.get(name, getattr(self.config, name)) for name in OF_ALL_LAYERS)
        settings: dict[str, Any] = {"output_attentions": bool(kwargs.get("output_attentions"))}
        in_segments = settings_of_segments(self, inputs[2], kwargs, needs_all_layers)
        if in_segments is not None:
            return encode_in_segments(self, inputs, roles, **in_segments)
        if self.text_division is not None:
            kept, slices = self.text_division.divide(inputs, roles)
            return self.encoder(self.embeddings(*kept), slices, **settings).last_hidden_state
        if is_worth_unpadding(self, roles, numbers, needs_all_layers):
            texts, pad_again, kept = unpad(self, roles, numbers, *inputs)
            return pad_again(self.encoder(self.embeddings(*kept), texts, **settings).last_hidden_state)
        chunked = _by_chunks(self, inputs, roles, past, kwargs)
        if chunked is not None:
            settings |= {"chunked": chunked, "embed": self.embeddings.of_neighbours}
        if self.has_causal_layers:
            settings |= {"rolling_cache": past, "position_ids": inputs[2]}
        states = self.encoder(self.embeddings(*inputs), roles, **settings).last_hidden_state
        if chunked is not None:
            chunked.remember()
        return states


def _by_chunks(
    model: Any,
    inputs: tuple[torch.Tensor | None, ...],
    roles: TokenRoles,
    past: RollingCache | None,
    kwargs: Mapping[str, Any],
) -> ChunkedPass | None:
    """The text by chunks, and what was found for them; None if nobody reads it."""
    neighbour_ids, neighbour_mask = (kwargs.get(name) for name in ("neighbour_ids", "neighbour_mask"))
    if model.config.retrieval is None:
        if neighbour_ids is None:
            return None
        raise ValueError("neighbour_ids are read by models with config.retrieval, got them, and config.retrieval=None")
    if neighbour_ids is None and neighbour_mask is not None:
        raise ValueError("neighbour_mask says what of neighbour_ids is real, got it without them")
    given: Any = inputs[3] if inputs[0] is None else inputs[0]
    chunked = ChunkedPass(model.config, roles, given.shape[:2], given.device, past, neighbour_ids, neighbour_mask)
    return chunked if chunked.is_needed else None


def _check_cache(model: Any, past: Any, use_cache: bool | None, batch_size: int) -> RollingCache | None:
    """The cache that is given or begun; None without one."""
    if not model.has_causal_layers:
        if past is None:  # whatever `use_cache` says: configs of encoders have it, too
            return None
        raise ValueError("past_key_values need a causal model, got them with is_decoder=False")
    is_replayed = torch.is_grad_enabled() and any(
        getattr(layer, "gradient_checkpointing", False) and layer.training for layer in model.encoder.layer
    )
    if use_cache is None:  # as in Transformers
        use_cache = bool(getattr(model.config, "use_cache", False)) and not is_replayed
    if past is None and not use_cache:
        return None
    if past is not None and not isinstance(past, RollingCache):
        raise NotImplementedError(
            "past_key_values must be a RollingCache, which the model makes by itself with use_cache=True, "
            f"got {type(past).__name__}"
        )
    if past is not None:
        past.check(model.config, batch_size)
    if is_replayed:
        raise NotImplementedError(
            "a layer that is checkpointed is computed again in the backward pass, and would put its tokens into the "
            f"cache twice: switch checkpointing off to train on segments (model.{CHECKPOINTING}_disable()), or leave "
            f"the cache out, got {'use_cache=True' if past is None else 'a cache'}"
        )
    return RollingCache(model.config) if past is None else past


def _check_global(config: HfLongformerConfig, roles: TokenRoles, past: RollingCache | None) -> None:
    if not roles.has_global:
        return
    if config.position_embedding_type != "absolute":
        raise NotImplementedError(
            f"{config.position_embedding_type} positions know no global tokens, got {roles.num_global} of them"
        )
    if past is not None and not past.is_empty:
        raise NotImplementedError(
            "a global token sees all tokens before it, and of these only the window is kept: it must stand in the "
            f"first segment, got {roles.num_global} in a later one"
        )


__all__ = ["HfLongformerModel", "HfLongformerPreTrainedModel"]
