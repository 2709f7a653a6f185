# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder-decoder of section 7 of the paper, LED: the encoder of this package, and Transformers' BART decoder,
which sees all of its states.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch
from torch import nn
from transformers import GenerationMixin, LEDConfig
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_encoder_decoder_hf_longformer import HfLongformerEncoderDecoderConfig
from .dispatch import IMPLEMENTATIONS
from .inputs_hf_longformer import check_keywords, counted_tokens
from .modeling_heads_hf_longformer import over_all_items
from .modeling_hf_longformer import KEYWORDS, HfLongformerKwargs, HfLongformerModel
from .text_segments import refuse_states_elsewhere
from .transformers_internals import (
    CACHE_NAME,
    BartDecoder,
    GenerationChecks,
    can_return_tuple,
    initialization as init,
    is_tracing,
    one_cache,
)

# Names in files of LED, as regular expressions, and what they are called here.
OF_LED = {
    r"^led\.": "model.",
    r"\bencoder\.embed_positions\.": "encoder.embeddings.position_embeddings.",
    r"\bencoder\.layernorm_embedding\.": "encoder.embeddings.LayerNorm.",
    r"\bencoder\.layers\.(\d+)\.self_attn\.longformer_self_attn\.": r"encoder.encoder.layer.\1.attention.self.",
    r"\bencoder\.layers\.(\d+)\.self_attn\.output\.": r"encoder.encoder.layer.\1.attention.output.dense.",
    r"\bencoder\.layers\.(\d+)\.self_attn_layer_norm\.": r"encoder.encoder.layer.\1.attention.output.LayerNorm.",
    r"\bencoder\.layers\.(\d+)\.fc1\.": r"encoder.encoder.layer.\1.intermediate.dense.",
    r"\bencoder\.layers\.(\d+)\.fc2\.": r"encoder.encoder.layer.\1.output.dense.",
    r"\bencoder\.layers\.(\d+)\.final_layer_norm\.": r"encoder.encoder.layer.\1.output.LayerNorm.",
}
# What stands for the words of the encoder where all embeddings are one, and where none are.
OF_TIED_WORDS = {r"\bshared\.": "encoder.embeddings.word_embeddings."}
OF_UNTIED_WORDS = {r"\bencoder\.embed_tokens\.": "encoder.embeddings.word_embeddings."}

OWN_KEYWORDS = KEYWORDS | {
    *("decoder_input_ids", "decoder_attention_mask", "decoder_inputs_embeds", "encoder_outputs"),
    *("decoder_position_ids", "cache_position", "synced_gpus"),
}


@dataclass
class HfLongformerEncoderDecoderOutput(Seq2SeqModelOutput):
    """As in Transformers; `encoder_attentions` and `encoder_global_attentions` as in `HfLongformerModelOutput`."""

    encoder_global_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class HfLongformerSeq2SeqLMOutput(Seq2SeqLMOutput):
    """As in Transformers; `encoder_attentions` and `encoder_global_attentions` as in `HfLongformerModelOutput`."""

    encoder_global_attentions: tuple[torch.Tensor, ...] | None = None


class DecoderKwargs(TypedDict, total=False):
    """What a decoder takes besides its inputs."""

    output_attentions: bool
    output_hidden_states: bool


class HfLongformerDecoderPositions(nn.Embedding):
    """Learned positions that begin with row 0, as in LED; BART's begin with row 2."""

    def forward(self, input_ids: torch.Tensor, read: int = 0, position_ids: Any = None) -> torch.Tensor:
        return super().forward(position_ids)


class HfLongformerDecoder(BartDecoder):
    """Transformers' BART decoder, with LED's table of positions."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        positions: Any = HfLongformerDecoderPositions(config.max_position_embeddings, config.d_model)
        self.embed_positions = positions
        self.post_init()


class HfLongformerEncoderDecoderPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation, common to all encoder-decoders."""

    config: HfLongformerEncoderDecoderConfig
    config_class = HfLongformerEncoderDecoderConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["HfLongformerEmbeddings", "HfLongformerLayer", "BartDecoderLayer"]
    _skip_keys_device_placement = ["past_key_values", "cache"]
    _keys_to_ignore_on_load_unexpected = [r"\bshared\.weight$", r"\bencoder\.embed_tokens\.weight$"]  # LED's, twice
    _supports_sdpa = True
    _supports_flash_attn = False
    _supports_flex_attn = True

    def __init__(self, config: HfLongformerEncoderDecoderConfig | LEDConfig, *args: Any, **kwargs: Any) -> None:
        config = HfLongformerEncoderDecoderConfig.of_stock(config)
        config.validate_architecture()
        super().__init__(config, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, config: Any = None, **kwargs: Any) -> Any:
        """As in Transformers; checkpoints of stock LED load, too.

        Raises:
            ValueError: If a checkpoint of stock LED lacks weights, which would be random.
        """
        if isinstance(config, LEDConfig):
            config = HfLongformerEncoderDecoderConfig.of_stock(config)
        given: dict[str, Any] = {} if config is None else {"config": config}
        content = _config_of(pretrained_model_name_or_path, kwargs)
        if content.get("model_type") != LEDConfig.model_type:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **given, **kwargs)
        is_tied = content.get("tie_word_embeddings", True) if config is None else config.tie_word_embeddings
        kwargs["key_mapping"] = OF_LED | (OF_TIED_WORDS if is_tied else OF_UNTIED_WORDS)
        wants_report = kwargs.pop("output_loading_info", False)
        given |= kwargs | {"output_loading_info": True}
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, **given)
        model, report = loaded
        if report["missing_keys"]:
            raise ValueError(
                f"this LED checkpoint must hold all weights of {cls.__name__}, or they would be random, got none for "
                f"{', '.join(sorted(report['missing_keys'])[:3])}"
            )
        model._weight_conversions = None  # it is saved under the names of this package
        return (model, report) if wants_report else model

    @classmethod
    def _from_config(cls, config: Any, **kwargs: Any) -> Any:
        return super()._from_config(HfLongformerEncoderDecoderConfig.of_stock(config), **kwargs)

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return True  # as in `HfLongformerPreTrainedModel`

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """Takes names of this package, too; they are the encoder's."""
        if requested_attention in IMPLEMENTATIONS:
            return str(requested_attention)
        return super().get_correct_attn_implementation(requested_attention, is_init_check)

    def set_attn_implementation(self, attn_implementation: str | dict, *args: Any, **kwargs: Any) -> None:
        """One name is the encoder's: the decoder takes "eager" with it, and "sdpa" otherwise."""
        if isinstance(attn_implementation, str):
            attn_implementation = of_halves(attn_implementation)
        super().set_attn_implementation(attn_implementation, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, HfLongformerForConditionalGeneration):
            init.zeros_(module.final_logits_bias)


def of_halves(name: str) -> dict[str, str]:
    """Implementations of the attention in the whole, the encoder and the decoder."""
    return {"": name, "encoder": name, "decoder": "eager" if name == "eager" else "sdpa"}


class HfLongformerEncoderDecoderModel(HfLongformerEncoderDecoderPreTrainedModel):
    """Encoder and decoder without a head."""

    _tied_weights_keys = {"decoder.embed_tokens.weight": "encoder.embeddings.word_embeddings.weight"}

    def __init__(self, config: HfLongformerEncoderDecoderConfig) -> None:
        super().__init__(config)
        config = self.config
        name = config._attn_implementation or "sdpa"
        if config.decoder._attn_implementation not in ("eager", "sdpa"):
            config.decoder._attn_implementation = of_halves(name)["decoder"]
        self.encoder = HfLongformerModel(config.encoder, add_pooling_layer=False)
        self.encoder.auto_global_attention = "cls"
        self.decoder = HfLongformerDecoder(config.decoder)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The words of the encoder, which are the decoder's, too, where embeddings are tied."""
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Puts others in their place."""
        self.encoder.set_input_embeddings(value)
        if self.config.tie_word_embeddings:
            self.decoder.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        cache: Any = None,
        **kwargs: Unpack[HfLongformerKwargs],
    ) -> tuple | HfLongformerEncoderDecoderOutput:
        """Encodes a text and reads another with it.

        Args:
            input_ids: `(batch, S)` of the text that is encoded. These, `inputs_embeds` or `encoder_outputs`.
            attention_mask: `(batch, S)`, 1 for real tokens, 0 for padding on any side. If left out, real are all but
                `pad_token_id`.
            global_attention_mask: `(batch, S)`, 1 for global tokens. If left out, `config.encoder.global_attention`
                decides, and `"auto"` stands for the first token.
            decoder_input_ids: `(batch, T)`. If these and `decoder_inputs_embeds` are left out, they are `input_ids`,
                one token later, as in BART.
            decoder_attention_mask: `(batch, T)`, and of what stands in the cache before.
            encoder_outputs: What the encoder gave, so that it does not run again: an output or a tuple.
            past_key_values: The `EncoderDecoderCache` of the decoder.
            inputs_embeds: `(batch, S, hidden_size)`.
            decoder_inputs_embeds: `(batch, T, hidden_size)`.
            use_cache: Whether the decoder returns its cache; by default `config.use_cache`, and not in training.
            cache: Another name of `past_key_values`, Transformers' from 5.24 on.
            **kwargs: `output_attentions`, `output_hidden_states`, `return_dict`.

        Raises:
            ValueError: As `HfLongformerModel.forward`, and if the decoder has too few positions.
        """
        check_keywords(kwargs, OWN_KEYWORDS)
        past = one_cache(cache, past_key_values)
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self._input_of_decoder(input_ids)
        _check_decoder_length(self.config, decoder_input_ids, decoder_inputs_embeds, past)
        if attention_mask is None:
            attention_mask = self.mask_of(input_ids)
        recorded = {name: self._is_wanted(name, kwargs) for name in DecoderKwargs.__annotations__}
        refuse_states_elsewhere(kwargs)
        of_encoder = recorded | {"segment_length": kwargs.get("segment_length")}
        encoded = self._encoded(
            encoder_outputs, input_ids, attention_mask, global_attention_mask, inputs_embeds, of_encoder
        )
        if use_cache is None:
            use_cache = bool(self.config.use_cache) and not self.training
        settings: dict[str, Any] = {CACHE_NAME: past, "use_cache": use_cache, **recorded}
        with _weights_can_be_had(self.decoder, recorded["output_attentions"]):
            decoded = self.decoder(
                input_ids=decoder_input_ids,
                attention_mask=decoder_attention_mask,
                encoder_hidden_states=encoded[0],
                encoder_attention_mask=attention_mask,
                inputs_embeds=decoder_inputs_embeds,
                return_dict=True,
                **settings,
            )
        kept: dict[str, Any] = {CACHE_NAME: decoded.get(CACHE_NAME)}
        return HfLongformerEncoderDecoderOutput(
            last_hidden_state=decoded.last_hidden_state,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoded[0],
            encoder_hidden_states=encoded.get("hidden_states"),
            encoder_attentions=encoded.get("attentions"),
            encoder_global_attentions=encoded.get("global_attentions"),
            **kept,
        )

    def mask_of(self, input_ids: torch.Tensor | None) -> torch.Tensor | None:
        """`attention_mask` where none is given, `(batch, S)`; None if all tokens are real, or nobody knows."""
        if input_ids is None or self.config.encoder.pad_token_id is None:
            return None
        real = counted_tokens(input_ids, None, None, self.config.encoder)
        return None if not is_tracing(real) and bool(real.all()) else real.long()

    def _is_wanted(self, name: str, kwargs: Mapping[str, Any]) -> bool:
        given = kwargs.get(name)
        return bool(getattr(self.config, name) if given is None else given)

    def _input_of_decoder(self, input_ids: torch.Tensor | None) -> torch.Tensor:
        if input_ids is None:
            raise ValueError("decoder_input_ids or decoder_inputs_embeds are needed, or input_ids, got none of them")
        return one_later(input_ids, self.config)

    def _encoded(
        self,
        given: Any,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        global_attention_mask: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        recorded: Mapping[str, Any],
    ) -> Any:
        """What the encoder gives, or gave."""
        if given is None:
            settings: dict[str, Any] = {"inputs_embeds": inputs_embeds, "return_dict": True, **recorded}
            return self.encoder(input_ids, attention_mask, global_attention_mask, **settings)
        if isinstance(given, ModelOutput):
            return given
        names = ("last_hidden_state", "hidden_states", "attentions")
        return BaseModelOutput(**dict(zip(names, given, strict=False)))


class HfLongformerForConditionalGeneration(
    HfLongformerEncoderDecoderPreTrainedModel, GenerationChecks, GenerationMixin
):  # whose name is looked for
    """Writes a text about another: summaries, answers, translations.

    `generate` encodes the text once; `global_attention_mask` and `attention_mask` reach the encoder through it.
    """

    _tied_weights_keys = {"lm_head.weight": "model.encoder.embeddings.word_embeddings.weight"}
    _keys_to_ignore_on_load_missing = ["final_logits_bias"]

    def __init__(self, config: HfLongformerEncoderDecoderConfig) -> None:
        super().__init__(config)
        config = self.config
        self.model = HfLongformerEncoderDecoderModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.final_logits_bias: torch.Tensor
        self.register_buffer("final_logits_bias", torch.zeros(1, config.vocab_size))
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        cache: Any = None,
        **kwargs: Unpack[HfLongformerKwargs],
    ) -> tuple | HfLongformerSeq2SeqLMOutput:
        """Arguments as in `HfLongformerEncoderDecoderModel.forward`, and:

        `labels`: `(batch, T)`, the text to be written, and -100 where nothing is to be predicted. If
        `decoder_input_ids` are left out, they are these, one token later.
        """
        if labels is not None:
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            global_attention_mask=global_attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=one_cache(cache, past_key_values),
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **{**kwargs, "return_dict": True},
        )
        logits = self.lm_head(outputs.last_hidden_state) + self.final_logits_bias
        loss = None
        if labels is not None:
            total = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
            loss = over_all_items(total, (labels != -100).sum(), kwargs)
        recorded = {name: value for name, value in outputs.items() if name != "last_hidden_state"}
        return HfLongformerSeq2SeqLMOutput(loss=loss, logits=logits, **recorded)

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """What the decoder reads to predict labels `(batch, T)`: them, one token later."""
        return one_later(labels, self.config)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Module:
        """As in Transformers, for encoder, decoder and output alike."""
        made = super().resize_token_embeddings(new_num_tokens, *args, **kwargs)
        size, bias = int(made.num_embeddings), self.final_logits_bias
        if not self.config.tie_word_embeddings:
            self.model.decoder.resize_token_embeddings(size)
        self.config.vocab_size = size
        padded = nn.functional.pad(bias, (0, max(0, size - bias.shape[1])))
        self.final_logits_bias = padded[:, :size]
        return made

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return True

    def generate(self, inputs: torch.Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """As in Transformers. Without `attention_mask` all tokens but `pad_token_id` are read."""
        ids = inputs if inputs is not None else kwargs.get("input_ids")
        if kwargs.get("attention_mask") is None and kwargs.get("encoder_outputs") is None:
            mask = self.model.mask_of(ids)
            if mask is not None:
                kwargs["attention_mask"] = mask
        return super().generate(inputs, *args, **kwargs)

    def prepare_inputs_for_generation(
        self, input_ids: Any, next_sequence_length: int | None = None, **kwargs: Any
    ) -> Any:
        """As in Transformers, which has an assistant read the whole text again that its cache already holds."""
        past = one_cache(kwargs.get("cache"), kwargs.get("past_key_values"))
        read = 0 if past is None else past.get_seq_length()
        if next_sequence_length is None and 0 < read < input_ids.shape[1]:
            next_sequence_length = input_ids.shape[1] - read
        generating: Any = super()
        return generating.prepare_inputs_for_generation(input_ids, next_sequence_length, **kwargs)

    def default_length(self, read: int, wanted: int) -> int:
        """Without a length asked for, as many tokens as Transformers takes, unless positions end before."""
        return max(read + 1, min(wanted, self.config.decoder.max_position_embeddings + 1))

    def check_length(self, length: int, arguments: dict[str, Any]) -> None:
        """Refuses at once what positions do not suffice for. The last token is not read again.

        Raises:
            ValueError: If there are too few.
        """
        limit = self.config.decoder.max_position_embeddings
        if length - 1 > limit:
            raise ValueError(
                f"the decoder has {limit:,} positions, got {length:,} tokens to generate, the first included: ask for "
                f"at most {limit:,} (max_new_tokens)"
            )


def one_later(tokens: torch.Tensor, config: HfLongformerEncoderDecoderConfig) -> torch.Tensor:
    """`(batch, T)`, with `decoder_start_token_id` in front and without the last; -100 becomes `pad_token_id`.

    Raises:
        ValueError: If one of the two ids is None.
    """
    if config.decoder_start_token_id is None or config.pad_token_id is None:
        raise ValueError(
            "config.decoder_start_token_id and config.pad_token_id are needed to make decoder_input_ids, "
            f"got {config.decoder_start_token_id} and {config.pad_token_id}"
        )
    later = torch.cat([torch.full_like(tokens[:, :1], config.decoder_start_token_id), tokens[:, :-1]], dim=1)
    return later.masked_fill(later == -100, config.pad_token_id)


def _check_decoder_length(
    config: HfLongformerEncoderDecoderConfig,
    input_ids: torch.Tensor | None,
    inputs_embeds: torch.Tensor | None,
    past: Any,
) -> None:
    given: Any = inputs_embeds if input_ids is None else input_ids
    length, limit = given.shape[1], config.decoder.max_position_embeddings
    if past is not None and not is_tracing(given):
        length += past.get_seq_length()
    if length > limit:
        raise ValueError(
            f"the decoder takes {limit:,} tokens, got {length:,}: shorten decoder_input_ids or labels, and pass either "
            "where the text that is encoded is longer"
        )


@contextmanager
def _weights_can_be_had(decoder: Any, are_wanted: bool) -> Iterator[None]:
    """Attention weights are wanted, which "sdpa" does not give."""
    config = decoder.config
    before = config._attn_implementation
    if not are_wanted or before == "eager":
        yield
        return
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = before


def _config_of(place: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json holds; nothing where there is no checkpoint."""
    if place is None:
        return {}
    names = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")
    given = {name: kwargs[name] for name in names if name in kwargs}
    return HfLongformerEncoderDecoderConfig.get_config_dict(place, **given)[0]


__all__ = [
    "HfLongformerEncoderDecoderModel",
    "HfLongformerEncoderDecoderPreTrainedModel",
    "HfLongformerForConditionalGeneration",
]
