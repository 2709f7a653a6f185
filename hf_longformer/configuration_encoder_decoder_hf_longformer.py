# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the encoder-decoder: that of an encoder of this package and that of a BART decoder."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import BartConfig, LEDConfig
from transformers.configuration_utils import PreTrainedConfig

from .configuration_hf_longformer import HfLongformerConfig, refuse_unknown_fields

# Where they differ from defaults of the two classes: BART's shape, and the lengths of LED.
ENCODER: dict[str, Any] = {
    **{"vocab_size": 50265, "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16},
    **{"intermediate_size": 4096, "attention_probs_dropout_prob": 0.0, "layer_norm_eps": 1e-5},
    **{"max_position_embeddings": 16384, "first_position": 0, "type_vocab_size": 0},
}
DECODER: dict[str, Any] = {"vocab_size": 50265, "d_model": 1024, "max_position_embeddings": 1024}

# Fields of LED, and of BART, and what they are called in both halves.
OF_BOTH = {
    **{"vocab_size": "vocab_size", "d_model": "hidden_size", "activation_function": "hidden_act"},
    **{"dropout": "hidden_dropout_prob", "attention_dropout": "attention_probs_dropout_prob"},
    **{"activation_dropout": "activation_dropout", "init_std": "initializer_range"},
    **{"pad_token_id": "pad_token_id", "bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id"},
}
OF_ENCODER = {
    **{"encoder_layers": "num_hidden_layers", "encoder_attention_heads": "num_attention_heads"},
    **{"encoder_ffn_dim": "intermediate_size", "encoder_layerdrop": "layerdrop"},
}
OF_DECODER = ("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", "decoder_layerdrop")
OF_GENERATION = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")


@strict
class HfLongformerEncoderDecoderConfig(PreTrainedConfig):
    r"""Configuration of an `HfLongformerEncoderDecoderModel`, section 7 of the paper.

    Args:
        encoder (`HfLongformerConfig` or `dict`, *optional*):
            Of the encoder: windows, dilations, `global_attention` and whatever `HfLongformerConfig` has. What is left
            out has the values of BART-large with 16,384 positions. `global_attention="auto"` stands for the first
            token, `<s>`.
        decoder (`BartConfig` or `dict`, *optional*):
            Of the decoder, which is Transformers' own. Of `BartConfig` it reads what has to do with a decoder. What is
            left out has the values of BART-large.
        pad_token_id, bos_token_id, eos_token_id, decoder_start_token_id, tie_word_embeddings, use_cache:
            As in `BartConfig`. Embeddings are tied to each other and to the output, or none of them is.

    Raises:
        ValueError: If a value is not allowed, a keyword is unknown, or the two halves do not fit each other.
        NotImplementedError: If a value is valid but not supported by this version.
    """

    model_type = "hf_longformer_encoder_decoder"
    sub_configs: ClassVar[dict[str, type[PreTrainedConfig]]] = {"encoder": HfLongformerConfig, "decoder": BartConfig}
    reads_stock_as_stock: ClassVar[bool] = False  # what `replace_stock` sets
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]

    encoder: Any = None  # of the types that stand above, which `__post_init__` turns into the first of them
    decoder: Any = None
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 2
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = True
    use_cache: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        refuse_unknown_fields(self, kwargs)
        for name, one in (("encoder", self.encoder), ("decoder", self.decoder)):
            if not isinstance(one, dict | type(None) | self.sub_configs[name]):
                kind = self.sub_configs[name].__name__
                raise ValueError(f"{name} must be a {kind} or a dict of its fields, got {type(one).__name__}")
        ids = {name: getattr(self, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        if not isinstance(self.encoder, HfLongformerConfig):
            self.encoder = HfLongformerConfig(**{**ENCODER, **ids, **(self.encoder or {})})
        if not isinstance(self.decoder, BartConfig):
            self.decoder = BartConfig(**_of_decoder({**DECODER, **ids, **(self.decoder or {})}))
        self.validate_architecture()
        super().__post_init__(**kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """As in Transformers, which would warn of a checkpoint of stock LED."""
        config_dict, rest = cls.get_config_dict(pretrained_model_name_or_path, **kwargs)
        if config_dict.get("model_type") == LEDConfig.model_type:
            return cls.from_dict(config_dict, **rest)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in Transformers; a config.json of stock LED becomes one of this package, and the first token is global by
        default, unless it stands in stock's place.
        """
        if config_dict.get("model_type") == LEDConfig.model_type:
            config = cls.of_stock(LEDConfig.from_dict(config_dict))
            if not cls.reads_stock_as_stock:
                config.encoder.global_attention = "auto"
            config_dict = config.to_dict()
        return super().from_dict(config_dict, **kwargs)

    @classmethod
    def of_stock(cls, config: Any) -> "HfLongformerEncoderDecoderConfig":
        """A configuration with which a model computes what stock LED computes with its own: no token is global unless
        a mask says so.

        Args:
            config: An `LEDConfig`, which stays as it is. One of this package is returned as it is.
        """
        if not isinstance(config, LEDConfig):
            return config
        windows = config.attention_window
        return cls._of_bart_like(
            config,
            {
                "max_position_embeddings": config.max_encoder_position_embeddings,
                "attention_window": windows if isinstance(windows, int) else list(windows),
                "global_attention": "none",
            },
            {"max_position_embeddings": config.max_decoder_position_embeddings, "forced_eos_token_id": None},
        )

    @classmethod
    def of_bart(
        cls, config: BartConfig, max_length: int, attention_window: int | list[int]
    ) -> "HfLongformerEncoderDecoderConfig":
        """A configuration of the shape of a BART, whose encoder takes `max_length` tokens."""
        return cls._of_bart_like(
            config,
            {
                "max_position_embeddings": max_length,
                "attention_window": attention_window,
                "scale_embedding": config.scale_embedding,
            },
            {
                "max_position_embeddings": config.max_position_embeddings,
                "scale_embedding": config.scale_embedding,
                "forced_eos_token_id": config.forced_eos_token_id,
            },
        )

    @classmethod
    def _of_bart_like(
        cls, config: Any, encoder: dict[str, Any], decoder: dict[str, Any]
    ) -> "HfLongformerEncoderDecoderConfig":
        both = {name: getattr(config, name) for name in OF_BOTH}
        encoder |= {OF_BOTH[name]: value for name, value in both.items()}
        encoder |= {ours: getattr(config, name) for name, ours in OF_ENCODER.items()}
        decoder |= both | {name: getattr(config, name) for name in OF_DECODER}
        kept = {name: getattr(config, name) for name in (*OF_GENERATION, "tie_word_embeddings", "use_cache")}
        made = cls(encoder=encoder, decoder=decoder, **kept)
        made.id2label, made.label2id = config.id2label, config.label2id
        return made

    @property
    def vocab_size(self) -> int:
        """Words of both halves."""
        return self.encoder.vocab_size

    @vocab_size.setter
    def vocab_size(self, value: int) -> None:
        """As `resize_token_embeddings` does."""
        self.encoder.vocab_size = self.decoder.vocab_size = value

    @property
    def hidden_size(self) -> int:
        """Of both halves."""
        return self.encoder.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        """Of the encoder."""
        return self.encoder.num_hidden_layers

    @property
    def num_attention_heads(self) -> int:
        """Of the encoder."""
        return self.encoder.num_attention_heads

    @property
    def initializer_range(self) -> float:
        """Of both halves."""
        return self.encoder.initializer_range

    @property
    def max_length_tokens(self) -> int:
        """Longest input of the encoder, in tokens."""
        return self.encoder.max_length_tokens

    @property
    def output_attentions(self) -> bool | None:
        """Whether every call returns attention weights; whichever implementation is chosen, it gives them."""
        return self._output_attentions

    @output_attentions.setter
    def output_attentions(self, value: bool | None) -> None:
        """Transformers would choose "eager" here, or refuse others."""
        self._output_attentions = value

    def validate_output_attentions(self) -> None:
        """Transformers refuses all but "eager" here."""

    def validate_architecture(self) -> None:
        """Raises `ValueError`, or `NotImplementedError`, with a sentence that says what is allowed."""
        encoder, decoder = self.encoder, self.decoder
        encoder.validate_architecture()
        for name, ours, theirs in (
            ("hidden_size and d_model", encoder.hidden_size, decoder.d_model),
            ("vocab_size", encoder.vocab_size, decoder.vocab_size),
            ("pad_token_id", encoder.pad_token_id, decoder.pad_token_id),
            ("scale_embedding", encoder.scale_embedding, decoder.scale_embedding),
        ):
            if ours != theirs:
                raise ValueError(f"{name} of encoder and decoder must be the same, got {ours} and {theirs}")
        if encoder.is_decoder or encoder.embedding_size not in (None, encoder.hidden_size):
            raise ValueError(
                "the encoder must look both ways, and its embeddings must be as wide as its layers, got "
                f"is_decoder={encoder.is_decoder} and embedding_size={encoder.embedding_size}"
            )
        if decoder.decoder_attention_heads < 1 or decoder.d_model % decoder.decoder_attention_heads:
            raise ValueError(
                "d_model must be a multiple of decoder_attention_heads, "
                f"got {decoder.d_model} and {decoder.decoder_attention_heads}"
            )


def _of_decoder(fields: dict[str, Any]) -> dict[str, Any]:
    """With the fields of an encoder, which Transformers reads where it asks for layers and heads."""
    decoder = BartConfig(**fields)
    as_encoder = {name.replace("decoder", "encoder", 1): getattr(decoder, name) for name in OF_DECODER}
    return {**fields, **as_encoder}


__all__ = ["HfLongformerEncoderDecoderConfig"]
