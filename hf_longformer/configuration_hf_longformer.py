# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the hf-longformer models."""

import dataclasses
import difflib
import math
from collections.abc import Collection
from functools import cache
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import LongformerConfig
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import logging

from .settings_hf_longformer import COREFERENCE, RETRIEVAL, check_coreference, check_retrieval

logger = logging.get_logger(__name__)

# Written into config.json by Transformers, its older versions, or tools around it: kept or ignored, never refused.
KNOWN_FOREIGN_FIELDS = frozenset(
    [
        *("add_cross_attention", "attention_mode", "attn_implementation", "auto_map", "experts_implementation"),
        *("finetuning_task", "gradient_checkpointing", "ignore_attention_mask", "is_causal", "model_type"),
        *("name_or_path", "num_labels", "output_attentions", "per_layer_config", "pruned_heads"),
        *("quantization_config", "task_specific_params", "tie_encoder_decoder", "tokenizer_class", "torch_dtype"),
        *("torchscript", "use_bfloat16", "use_cache", "use_return_dict", "return_unused_kwargs"),
    ]
)

# Fields that stock Longformer has not: what stands there in its files changes nothing for it.
BEYOND_STOCK = (
    *("attention_dilation", "is_decoder", "global_attention", "position_embedding_type", "rope_theta", "norm_style"),
    *("embedding_size", "classifier_dropout", "classifier_activation", "global_projections", "first_position"),
    *("position_counting", "coreference", "tag_layers", "activation_dropout", "layerdrop", "scale_embedding"),
    *("repeat_positions", "global_scaling_length", "retrieval"),
)
UNLIMITED = 2**31 - 1  # tokens: what stands for the longest input of a model that has none

TOKENIZER_KEYWORDS = (
    *("padding_side", "truncation_side", "model_max_length", "model_input_names", "use_fast", "tokenizer_type"),
    *("add_bos_token", "add_eos_token", "add_prefix_space", "additional_special_tokens"),
    "clean_up_tokenization_spaces",
    *("do_lower_case", "extra_special_tokens", "fix_mistral_regex", "from_slow", "gguf_file", "keep_accents", "legacy"),
    *("split_special_tokens", "strip_accents", "tokenize_chinese_chars", "trim_offsets"),
)

PROBABILITIES = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "activation_dropout", "layerdrop"),
    "classifier_dropout",
)


@strict
class HfLongformerConfig(PreTrainedConfig):
    r"""Configuration of an `HfLongformer…` model. All fields of the stock `LongformerConfig` with the same defaults, so
    that its checkpoints load unchanged, and more.

    Args:
        attention_window (`int` or `list[int]`, defaults to 512):
            Total width of the sliding window in tokens, both sides together: even, at least 2. One number, or one per
            layer. A token sees `attention_window + 1` keys, itself included.
        attention_dilation (`int`, `list[int]` or `list[list[int]]`, defaults to 1):
            Distance between neighbouring keys of the window, 1 = no gaps (the paper's tables count gaps, which is one
            less). One number, one per layer, or one list per layer with one number per head.
        is_decoder (`bool`, defaults to `False`):
            Causal attention: a token sees itself and what comes before it.
        global_attention (`str`, defaults to `"auto"`):
            Which tokens get global attention when no `global_attention_mask` is passed. `"auto"`: the head decides, as
            stock does: `<s>` for sequence classification, the question for question answering, what follows the first
            separator for multiple choice, none otherwise. `"cls"`, `"question"` and `"none"` hold for every head.
        position_embedding_type (`str`, defaults to `"absolute"`):
            `"absolute"`: learned positions. Causal models may have `"rotary"` ones, or `"relative"` ones in the manner
            of Transformer-XL; these know no longest input and no global tokens.
        rope_theta (`float`, defaults to 10,000):
            The base of rotary positions.
        norm_style (`str`, defaults to `"post"`):
            `"post"`: a layer norm behind every residual connection, as in BERT; `"pre"`: in front of every attention
            and feed-forward, and one behind the last layer.
        max_position_embeddings (`int`, defaults to 512):
            Rows of the position table: the longest input in tokens plus `pad_token_id + 1`, since real tokens are
            counted from there. See `max_length_tokens`.
        repeat_positions (`bool`, defaults to `False`):
            Whether learned positions begin again behind the last: of `n = max_position_embeddings - first_position`
            rows, token `i` takes row `first_position + i mod n`, and texts of any length are read as by a model whose
            table was written out (section 5 of the paper).
        first_position (`int`, defaults to -1, which stands for `pad_token_id + 1`):
            Row of the position table that the first real token takes; padding takes the row below. It stays what it was
            when the model was made, whatever becomes of `pad_token_id`, which training and generation may set to the
            id of the end of a text.
        position_counting (`str`, defaults to `"attention_mask"`):
            Which tokens take a position of their own. `"attention_mask"`: those that it marks as real;
            `"input_ids"`: all but `pad_token_id`, whatever the mask says, as stock counts.
        embedding_size (`int`, *optional*):
            Width of the embeddings, `hidden_size` if left out. Narrower ones are projected, as in ELECTRA.
        scale_embedding (`bool`, defaults to `False`):
            Whether word embeddings are multiplied by the square root of their width, as in some BART-like models.
        activation_dropout (`float`, defaults to 0):
            Dropout behind the activation of the feed-forward, as in BART.
        layerdrop (`float`, defaults to 0):
            Probability in training that a layer is left out (arXiv 1909.11556), as in BART.
        classifier_dropout (`float`, *optional*):
            Dropout of the classification heads, `hidden_dropout_prob` if left out.
        classifier_activation (`str`, defaults to `"tanh"`):
            What follows the dense layer on the first token, in the head for classification and in the pooler.
        global_projections (`str`, *optional*):
            `"shared"`: there are none, and global tokens take the local ones (table 10 of the paper). Otherwise a
            record, which changes nothing, of where they come from: `"copied"` from the local ones by the conversion,
            `"synced"` with them after training, or `"trained"`.
        global_scaling_length (`int`, *optional*):
            Scores of the rows of global tokens are multiplied by `log(n) / log(global_scaling_length)` in a text of `n`
            real tokens, so that what stands out in a short text stands out in a long one (arXiv 2202.12172; of all
            rows). At least 2; the length that the model is trained with, or about it. Left out, they are not.
        coreference (`dict`, *optional*):
            Of `HfLongformerForCoreference`, what differs from `COREFERENCE`: `size`, the width of the scorers; `width`,
            words of the longest mention; `share`, spans that are compared, per word of the text; `farthest`, how many
            of the spans before one are compared with it, None for all; `singletons`, whether mentions that nothing else
            speaks of are found.
        retrieval (`dict`, *optional*):
            Of `HfLongformerForCausalLM`: reads what was found in an index for every chunk of the text, as RETRO does
            (arXiv 2112.04426). What differs from `RETRIEVAL`: `chunk_size`, tokens of a chunk; `neighbours`, found for
            each; `neighbour_length`, tokens of one, which is a chunk and its continuation: twice `chunk_size` if None;
            `layers` that attend to them, counted from 0: if None every third from the middle on, as in the paper;
            `encoder_layers`, of the encoder that reads them. None: there is no such thing.
        tag_layers (`int`, defaults to 1):
            Of `HfLongformerForTokenClassification`, how many tags every token has, each one of `id2label`: several
            where entities stand in one another.
        type_vocab_size (`int`, defaults to 2):
            Kinds of tokens; 0: tokens have none, as in BART.
        vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, hidden_act,
        hidden_dropout_prob, attention_probs_dropout_prob, initializer_range, layer_norm_eps, pad_token_id,
        bos_token_id, eos_token_id, sep_token_id, tie_word_embeddings, onnx_export:
            As in `LongformerConfig`; `onnx_export` has no effect.

    Raises:
        ValueError: If a value is not allowed or a keyword is unknown.
        NotImplementedError: If a value is valid but not supported by this version.
    """

    model_type = "hf_longformer"
    reads_stock_as_stock: ClassVar[bool] = False  # what `replace_stock` sets
    base_model_fsdp_plan: ClassVar[dict[Any, str]] = {
        "embeddings": "free_full_weight",
        "encoder.layer.*": "free_full_weight",
    }
    base_model_tp_plan: ClassVar[dict[str, Any]] = {
        "encoder.layer.*.intermediate.dense": "colwise",
        "encoder.layer.*.output.dense": "rowwise",
    }

    attention_window: list[int] | int = 512
    attention_dilation: list[list[int]] | list[int] | int = 1
    is_decoder: bool = False
    global_attention: Literal["auto", "cls", "question", "none"] = "auto"
    position_embedding_type: str = "absolute"
    rope_theta: float | int = 10_000.0
    norm_style: Literal["post", "pre"] = "post"
    sep_token_id: int | None = 2
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    embedding_size: int | None = None
    scale_embedding: bool = False
    activation_dropout: float | int = 0.0
    layerdrop: float | int = 0.0
    classifier_dropout: float | int | None = None
    classifier_activation: str = "tanh"
    global_projections: Literal["copied", "synced", "trained", "shared"] | None = None
    global_scaling_length: int | None = None
    max_position_embeddings: int = 512
    first_position: int = -1
    repeat_positions: bool = False
    position_counting: Literal["attention_mask", "input_ids"] = "attention_mask"
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    onnx_export: bool = False
    coreference: dict[str, Any] | None = None
    retrieval: dict[str, Any] | None = None
    tag_layers: int = 1
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        refuse_unknown_fields(self, kwargs)
        if self.first_position == -1:
            self.first_position = 0 if self.pad_token_id is None else self.pad_token_id + 1
        self.validate_architecture()
        super().__post_init__(**kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """As in Transformers, which would warn of a stock checkpoint that is read in stock's place."""
        if cls.reads_stock_as_stock:
            config_dict, rest = cls.get_config_dict(pretrained_model_name_or_path, **kwargs)
            if config_dict.get("model_type") == LongformerConfig.model_type:
                return cls.from_dict(config_dict, **rest)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in Transformers, but nothing is passed over in silence: entries of a config.json and keywords that are not
        of this package, which other tools and scripts may have put there, are kept with a warning.

        Raises:
            ValueError: If one is like a field of this package, and so most likely misspelt.
        """
        as_stock = cls.reads_stock_as_stock and config_dict.get("model_type") == LongformerConfig.model_type
        if as_stock:
            _refuse_decoder(kwargs)
            config_dict = _as_stock_computes(config_dict)
        config_dict = _as_stock_reads(config_dict)
        kept = {name: config_dict.pop(name) for name in _unknown_fields(cls, config_dict)}
        _refuse_misspelt_fields(cls, kept)
        if not kwargs.get("return_unused_kwargs"):  # otherwise somebody else wants the rest, such as a model
            own = [name for name in _unknown_fields(cls, kwargs) if name not in kept and name not in of_tokenizers()]
            kept |= {name: kwargs.pop(name) for name in own}
            _refuse_misspelt_fields(cls, kept)
        if kept:
            logger.warning(f"the configuration has entries that no model of this package reads: {', '.join(kept)}")
        if "finetuning_task" in kwargs:
            kept["finetuning_task"] = kwargs.pop("finetuning_task")
        loaded = super().from_dict(config_dict, **{name: kwargs[name] for name in kwargs if name not in kept})
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        for name, value in kept.items():
            setattr(config, name, kwargs.get(name, value))
        if as_stock:  # as stock's models leave theirs
            config.attention_window = config.attention_windows
        return loaded

    @classmethod
    def of_stock(cls, config: Any) -> "HfLongformerConfig":
        """A configuration with which a model computes what stock Longformer computes with its own.

        Args:
            config: A `LongformerConfig`, which stays as it is. One of this package is returned as it is. Who computes
                the attention, which stock's models write into theirs, is not taken over.

        Raises:
            NotImplementedError: If `is_decoder` is set, which stock passes over.
        """
        if not isinstance(config, LongformerConfig):
            return config
        made = cls.from_dict(_as_stock_computes(config.to_dict()))
        made.attention_window = made.attention_windows
        return made

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

    @property
    def max_length_tokens(self) -> int:
        """Longest input in tokens; with `repeat_positions`, 2,147,483,647, which stands for any."""
        return UNLIMITED if self.repeat_positions else self.learned_positions

    @property
    def learned_positions(self) -> int:
        """Rows of the position table that tokens take."""
        return self.max_position_embeddings - self.first_position

    @property
    def attention_windows(self) -> list[int]:
        """The window of every layer."""
        window = self.attention_window
        return [window] * self.num_hidden_layers if isinstance(window, int) else list(window)

    @property
    def attention_dilations(self) -> list[int | tuple[int, ...]]:
        """The dilation of every layer: a number, or a tuple with one per head."""
        dilation = self.attention_dilation
        if isinstance(dilation, int):
            return [dilation] * self.num_hidden_layers
        return [of_layer if isinstance(of_layer, int) else tuple(of_layer) for of_layer in dilation]

    @property
    def coreference_settings(self) -> dict[str, Any]:
        """Those of coreference, all of them."""
        return {**COREFERENCE, **(self.coreference or {})}

    @property
    def retrieval_settings(self) -> dict[str, Any]:
        """Those of retrieval, all of them."""
        settings, number = {**RETRIEVAL, **(self.retrieval or {})}, self.num_hidden_layers
        if settings["neighbour_length"] is None and type(settings["chunk_size"]) is int:
            settings["neighbour_length"] = 2 * settings["chunk_size"]
        if settings["layers"] is None:
            settings["layers"] = list(range(max(0, number // 2 - 1), number, 3))
        return settings

    def validate_architecture(self) -> None:
        """Raises `ValueError`, or `NotImplementedError`, with a sentence that says what is allowed."""
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                "hidden_size must be a multiple of num_attention_heads, "
                f"got hidden_size={self.hidden_size} and num_attention_heads={self.num_attention_heads}"
            )
        for name in PROBABILITIES:
            if getattr(self, name) is not None and not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        _check_windows(self)
        _check_dilations(self)
        check_coreference(self.coreference_settings)
        _check_positions(self)
        check_retrieval(self)
        if self.embedding_size is not None and self.embedding_size < 1:
            raise ValueError(f"embedding_size must be at least 1, or left out, got {self.embedding_size}")
        if self.classifier_activation not in ACT2FN:
            raise ValueError(
                f"classifier_activation must be one of {', '.join(ACT2FN)}, got {self.classifier_activation!r}"
            )
        if self.global_scaling_length is not None and self.global_scaling_length < 2:
            raise ValueError(f"global_scaling_length must be at least 2, or left out, got {self.global_scaling_length}")
        if self.global_scaling_length is not None and self.is_decoder:
            raise NotImplementedError(
                "global_scaling_length is not supported with is_decoder=True, where a text is read before its length "
                f"is known, got {self.global_scaling_length}"
            )
        if self.type_vocab_size < 0:
            raise ValueError(f"type_vocab_size must be at least 0, got {self.type_vocab_size}")
        if self.tag_layers < 1:
            raise ValueError(f"tag_layers must be at least 1, got {self.tag_layers}")
        if self.learned_positions < 1 or self.first_position < 0:
            raise ValueError(
                "max_position_embeddings must exceed first_position, which is pad_token_id + 1 if left out, since real "
                f"tokens are counted from there, got max_position_embeddings={self.max_position_embeddings}, "
                f"first_position={self.first_position} and pad_token_id={self.pad_token_id}"
            )


def _check_positions(config: HfLongformerConfig) -> None:
    kind = config.position_embedding_type
    if kind == "absolute":
        return
    if config.repeat_positions:
        raise ValueError(f"repeat_positions is of learned positions, got position_embedding_type={kind!r}")
    if kind not in ("rotary", "relative"):
        raise NotImplementedError(
            f"position_embedding_type must be 'absolute' (learned positions), 'rotary' or 'relative', got {kind!r}"
        )
    if not config.is_decoder:
        raise NotImplementedError(f"position_embedding_type must be 'absolute' without is_decoder=True, got {kind!r}")
    if config.global_attention not in ("auto", "none"):
        raise NotImplementedError(
            f"{kind} positions know no global tokens: global_attention must be 'none', got {config.global_attention!r}"
        )
    if not 0 < config.rope_theta < math.inf:
        raise ValueError(f"rope_theta must be a positive number, got {config.rope_theta}")
    if kind == "rotary" and config.hidden_size // config.num_attention_heads % 2:
        raise ValueError(
            "rotary positions need an even number of dimensions per head, "
            f"got {config.hidden_size // config.num_attention_heads}"
        )


def _check_windows(config: HfLongformerConfig) -> None:
    if not isinstance(config.attention_window, int) and len(config.attention_window) != config.num_hidden_layers:
        raise ValueError(
            f"attention_window must be one number or one per layer ({config.num_hidden_layers} layers), "
            f"got {len(config.attention_window)}: {config.attention_window}"
        )
    if any(window < 2 or window % 2 for window in config.attention_windows):
        raise ValueError(
            "attention_window must be an even number of at least 2 (total width, both sides together), "
            f"got {config.attention_window}"
        )


def _check_dilations(config: HfLongformerConfig) -> None:
    dilation = config.attention_dilation
    if not isinstance(dilation, int) and len(dilation) != config.num_hidden_layers:
        raise ValueError(
            f"attention_dilation must be one number, one per layer ({config.num_hidden_layers} layers), or one list "
            f"per layer, got {len(dilation)}: {dilation}"
        )
    for layer, of_layer in enumerate(config.attention_dilations):
        of_heads = (of_layer,) if isinstance(of_layer, int) else of_layer
        if not isinstance(of_layer, int) and len(of_heads) != config.num_attention_heads:
            raise ValueError(
                f"attention_dilation of layer {layer} must be one number or one per head "
                f"({config.num_attention_heads} heads), got {len(of_heads)}: {list(of_heads)}"
            )
        if min(of_heads) < 1:
            raise ValueError(f"attention_dilation must be at least 1 (1 = no gaps), got {dilation}")


def _unknown_fields(config: Any, given: dict[str, Any]) -> list[str]:
    known = _accepted_fields() | {field.name for field in dataclasses.fields(config)}
    return [name for name in given if not name.startswith("_") and name not in known]


def refuse_unknown_fields(config: Any, given: dict[str, Any]) -> None:
    """A misspelt field would otherwise become an attribute that nobody reads."""
    unknown = _unknown_fields(config, given)
    if unknown:
        fields = [field.name for field in dataclasses.fields(config)]
        close = difflib.get_close_matches(unknown[0], fields, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; the fields are {', '.join(sorted(fields))}"
        raise ValueError(f"unknown configuration field{'s' * (len(unknown) > 1)}: got {', '.join(unknown)}{hint}")


def _refuse_misspelt_fields(config: Any, unknown: Collection[str]) -> None:
    """Others may have fields of their own, but not those that are all but ours."""
    fields = [field.name for field in dataclasses.fields(config)]
    for name in unknown:
        close = difflib.get_close_matches(name, fields, n=1, cutoff=0.85)
        if close and name not in of_tokenizers():
            raise ValueError(f"unknown configuration field: got {name}; did you mean {close[0]!r}?")


def _as_stock_computes(config_dict: dict[str, Any]) -> dict[str, Any]:
    """The fields of a stock configuration without those that stock passes over, and its way to count positions."""
    _refuse_decoder(config_dict)
    default = {field.name: field.default for field in dataclasses.fields(HfLongformerConfig)}
    passed_over = [name for name in BEYOND_STOCK if config_dict.get(name, default[name]) not in (None, default[name])]
    if passed_over:
        logger.warning(f"not read, since stock Longformer does not read it: {', '.join(passed_over)}")
    kept = {name: value for name, value in config_dict.items() if name not in (*BEYOND_STOCK, "model_type")}
    return kept | {"position_counting": "input_ids"}


def _refuse_decoder(fields: dict[str, Any]) -> None:
    if fields.get("is_decoder"):
        raise NotImplementedError(
            "stock Longformer passes over is_decoder and looks both ways, and a model of this package would not: set "
            "is_decoder=False, or take HfLongformerForCausalLM, got is_decoder=True"
        )


def _as_stock_reads(config_dict: dict[str, Any]) -> dict[str, Any]:
    """Fields in a stock Longformer's config.json that it does not read, and this package would."""
    config_dict = dict(config_dict)
    if config_dict.get("rope_theta", 0) is None:
        del config_dict["rope_theta"]
    kind = config_dict.get("position_embedding_type")
    if config_dict.get("model_type") == "longformer" and kind not in (None, "absolute"):
        logger.warning(
            f"position_embedding_type={kind!r} is not read, nor does stock Longformer: its positions are learned"
        )
        del config_dict["position_embedding_type"]
    return config_dict


@cache
def of_tokenizers() -> frozenset[str]:
    """Keywords of `AutoTokenizer.from_pretrained`, all of which Transformers shows to the configuration, too."""
    from transformers import PreTrainedTokenizerBase

    return frozenset([*PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES, *TOKENIZER_KEYWORDS])


def _accepted_fields() -> frozenset[str]:
    from transformers import GenerationConfig

    return KNOWN_FOREIGN_FIELDS | GenerationConfig().to_dict().keys()


__all__ = ["HfLongformerConfig", "refuse_unknown_fields"]
