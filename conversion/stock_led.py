# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Our encoder-decoders in the words of stock LED."""

import re
from typing import Any

import torch
from transformers import LEDConfig

from hf_longformer import HfLongformerConfig, HfLongformerEncoderDecoderConfig

from .errors import InputError

STOCK_CLASSES = {"EncoderDecoderModel": "LEDModel", "ForConditionalGeneration": "LEDForConditionalGeneration"}
LAYER = r"\bencoder\.encoder\.layer\.(\d+)\."
# Our names, as regular expressions, and those of LED.
NAMES = {
    r"^model\.": "led.",
    r"\bencoder\.embeddings\.word_embeddings\.": "encoder.embed_tokens.",
    r"\bencoder\.embeddings\.position_embeddings\.": "encoder.embed_positions.",
    r"\bencoder\.embeddings\.LayerNorm\.": "encoder.layernorm_embedding.",
    LAYER + r"attention\.self\.": r"encoder.layers.\1.self_attn.longformer_self_attn.",
    LAYER + r"attention\.output\.dense\.": r"encoder.layers.\1.self_attn.output.",
    LAYER + r"attention\.output\.LayerNorm\.": r"encoder.layers.\1.self_attn_layer_norm.",
    LAYER + r"intermediate\.dense\.": r"encoder.layers.\1.fc1.",
    LAYER + r"output\.dense\.": r"encoder.layers.\1.fc2.",
    LAYER + r"output\.LayerNorm\.": r"encoder.layers.\1.final_layer_norm.",
}
WORDS = "encoder.embed_tokens.weight"
# Fields that LED has once, by their names in our encoder and in our decoder.
ONE_OF_BOTH = {
    "hidden_act": "activation_function",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "initializer_range": "init_std",
}
LAYER_NORM_EPS = 1e-5
# Fields of our encoder that LED has not, what it computes as if they were, and why.
FIXED = {
    "scale_embedding": (False, "it passes over scaled embeddings"),
    "norm_style": ("post", "its layer norms stand behind the attention"),
    "type_vocab_size": (0, "its tokens have no types"),
    "first_position": (0, "it counts positions from row 0"),
    "layer_norm_eps": (LAYER_NORM_EPS, "its layer norms have one epsilon"),
}


def reasons_against_dilation(config: HfLongformerConfig) -> list[str]:
    """Why stock Longformer and LED cannot express the dilations of an encoder, if they cannot."""
    of_layers = [one if isinstance(one, tuple) else (one,) for one in config.attention_dilations]
    is_dilated = any(dilation != 1 for of_layer in of_layers for dilation in of_layer)
    return [f"it has no dilation, got attention_dilation={config.attention_dilation}"] if is_dilated else []


def reasons_against_scaling(config: HfLongformerConfig) -> list[str]:
    """Why stock cannot express how scores of global rows are scaled, if it cannot."""
    length = config.global_scaling_length
    return [] if length is None else [f"its scores do not depend on the length, got global_scaling_length={length}"]


def reasons_against_led(config: HfLongformerEncoderDecoderConfig) -> list[str]:
    """Everything in a configuration that stock LED cannot express."""
    encoder: Any = config.encoder
    decoder: Any = config.decoder
    reasons = reasons_against_dilation(encoder)
    for name, (value, reason) in FIXED.items():
        if getattr(encoder, name) != value:
            reasons.append(f"{reason}, got {name}={getattr(encoder, name)!r}")
    for ours, theirs in ONE_OF_BOTH.items():
        one, other = getattr(encoder, ours), getattr(decoder, theirs)
        if one != other:
            reasons.append(f"encoder and decoder have one {theirs}, got {one!r} and {other!r}")
    if encoder.global_attention not in ("auto", "none"):
        reasons.append(
            "it knows global tokens by global_attention_mask alone, "
            f"got global_attention={encoder.global_attention!r}: set 'none' and pass the mask"
        )
    if encoder.global_projections == "shared":
        reasons.append("its global tokens have projections of their own, got global_projections='shared'")
    reasons += reasons_against_scaling(encoder)
    windows = encoder.attention_windows
    if any(max(windows) % window for window in windows):
        reasons.append(f"its largest window must be a multiple of the others, got {encoder.attention_window}")
    elif max(windows) > encoder.max_length_tokens:
        reasons.append(
            f"it pads every text to a whole window and has positions for {encoder.max_length_tokens:,} tokens, got "
            f"attention_window={encoder.attention_window}"
        )
    return reasons


def longest_input(config: HfLongformerEncoderDecoderConfig) -> int:
    """Tokens that stock LED can be given: it looks up positions of a text that it has padded to whole windows."""
    encoder: Any = config.encoder
    window = max(encoder.attention_windows)
    return encoder.max_length_tokens // window * window


def notes_on_led(config: HfLongformerEncoderDecoderConfig) -> list[str]:
    """What somebody who runs the checkpoint as stock LED has to know."""
    encoder: Any = config.encoder
    notes = []
    if encoder.global_attention == "auto":
        notes.append("stock LED has no global token by itself: pass a global_attention_mask with 1 for the first one")
    if longest_input(config) < encoder.max_length_tokens:
        notes.append(
            f"stock LED takes {longest_input(config):,} of the {encoder.max_length_tokens:,} tokens, whole windows of "
            f"{max(encoder.attention_windows):,}: the tokenizer truncates there"
        )
    return notes


def led_config(config: HfLongformerEncoderDecoderConfig) -> LEDConfig:
    """The configuration with which stock LED computes the same; `reasons_against_led` must have none."""
    encoder: Any = config.encoder
    decoder: Any = config.decoder
    made = LEDConfig(
        vocab_size=config.vocab_size,
        d_model=config.hidden_size,
        encoder_layers=encoder.num_hidden_layers,
        encoder_attention_heads=encoder.num_attention_heads,
        encoder_ffn_dim=encoder.intermediate_size,
        encoder_layerdrop=encoder.layerdrop,
        max_encoder_position_embeddings=encoder.max_position_embeddings,
        max_decoder_position_embeddings=decoder.max_position_embeddings,
        attention_window=encoder.attention_windows,
        **{name: getattr(decoder, name) for name in ONE_OF_BOTH.values()},
        **{f"decoder_{name}": getattr(decoder, f"decoder_{name}") for name in DECODER_FIELDS},
        **{name: getattr(config, name) for name in COMMON_FIELDS if getattr(config, name) is not None},
    )
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):  # which may be None
        setattr(made, name, getattr(config, name))
    return made


DECODER_FIELDS = ("layers", "attention_heads", "ffn_dim", "layerdrop")
COMMON_FIELDS = ("decoder_start_token_id", "tie_word_embeddings", "use_cache", "id2label", "label2id")


def led_weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of one of our models under LED's names, with the table that both halves of LED share.

    Raises:
        InputError: If there are none for the words of the encoder.
    """
    renamed = {_led_name(name): weight for name, weight in state.items()}
    words = next((name for name in renamed if name.endswith(WORDS)), None)
    if words is None:
        raise InputError("the checkpoint must have embeddings of words, got none")
    return renamed | {words.replace(WORDS, "shared.weight"): renamed[words].clone()}


def _led_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = re.sub(ours, theirs, name)
    return name
