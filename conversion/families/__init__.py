# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The families of source checkpoints: one short file each, and why others are refused."""

from typing import Any

from ..errors import InputError
from . import (
    bart,
    bert,
    camembert,
    data2vec_text,
    distilbert,
    electra,
    hf_longformer,
    hf_longformer_encoder_decoder,
    led,
    longformer,
    longformer_2020,
    roberta,
    xlm_roberta,
)
from .family import HEADS, SourceFamily, base_of

_MODULES = (
    *(roberta, xlm_roberta, camembert, data2vec_text, bert, distilbert, electra),
    *(longformer, hf_longformer),
    *(bart, led, hf_longformer_encoder_decoder),
)
FAMILIES = {module.FAMILY.model_type: module.FAMILY for module in _MODULES}

# Families that people ask for, and what they have that this model has not.
REFUSED = {
    "mpnet": "it adds a learned relative bias to the attention scores",
    "deberta": "its attention is computed from relative positions",
    "deberta-v2": "its attention is computed from relative positions",
    "albert": "its layers share one set of weights",
    "modernbert": "it has rotary positions, and takes 8,192 tokens already",
    "roberta-prelayernorm": "its layer norms stand before the attention, not after it",
    "xlm-roberta-xl": "its layer norms stand before the attention, not after it",
    "big_bird": "it has another sparse attention, and takes 4,096 tokens already",
    "nomic_bert": "it has rotary positions",
    "esm": "its layer norms stand before the attention, not after it",
    "xlnet": "it has relative positions",
    "xlm": "its positions and layers are not BERT's",
    "flaubert": "its positions and layers are not BERT's",
    "convbert": "it mixes convolutions into the attention",
    "funnel": "it has relative positions, and pools between layers",
    "mobilebert": "its layers have bottlenecks",
    "squeezebert": "its layers are convolutions",
    "mbart": "its layer norms stand before the attention, not after it",
    "pegasus": "its positions are sinusoidal, and its layer norms stand before the attention, not after it",
    "pegasus_x": "it has another sparse attention, and takes 16,384 tokens already",
    "bigbird_pegasus": "it has another sparse attention, and takes 4,096 tokens already",
    "marian": "its positions are sinusoidal",
    "blenderbot": "its layer norms stand before the attention, not after it",
    "blenderbot-small": "its decoder normalizes embeddings before positions are added",
    "mvp": "its layers take prompts besides",
    "plbart": "its decoder begins with the code of a language, which ends the text",
    "m2m_100": "its positions are sinusoidal, and its layer norms stand before the attention, not after it",
    "nllb-moe": "its layers choose among experts",
    "fsmt": "its positions are sinusoidal, and its halves have vocabularies of their own",
    "prophetnet": "its decoder predicts several tokens at once",
    "encoder-decoder": "it is made of two models of any kind: convert its encoder by itself",
    "t5": "it has relative positions",
    "mt5": "it has relative positions",
    "umt5": "it has relative positions",
    "longt5": "it has relative positions, and takes 16,384 tokens already",
    "switch_transformers": "it has relative positions, and its layers choose among experts",
    "gpt2": "it is a decoder",
}


def find_family(config: dict[str, Any], architecture: str = "auto") -> SourceFamily:
    """The family of a source by its config.json; files of 2019 have no `model_type`, then the class name says it.

    Args:
        config: The source's config.json.
        architecture: `"auto"`: what config.json names; or a class name of the source.

    Raises:
        InputError: If the family is not supported, or the model has something that ours has not.
    """
    if longformer_2020.is_of_2020(config):
        return longformer_2020.FAMILY
    model_type = config.get("model_type", _type_of_class(config, architecture))
    if model_type is None and "model_type" not in config:
        raise InputError(
            "config.json must say what it is of, got neither model_type nor a known class in architectures, as in "
            "files of 2019: name the class of the source, as --architecture RobertaForMaskedLM"
        )
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        reason = f", because {REFUSED[model_type]}" if isinstance(model_type, str) and model_type in REFUSED else ""
        raise InputError(
            f"model_type {model_type!r} cannot be converted{reason}: supported are {', '.join(sorted(FAMILIES))}"
        )
    if not model_type.startswith("hf_longformer") and (config.get("is_decoder") or config.get("add_cross_attention")):
        raise InputError("only encoders can be converted, got a source with is_decoder or add_cross_attention set")
    position_type = config.get("position_embedding_type") or "absolute"
    if position_type != "absolute":
        raise InputError(
            f"only learned absolute positions can be extended, got position_embedding_type={position_type!r}"
        )
    return FAMILIES[model_type]


def _type_of_class(config: dict[str, Any], architecture: str) -> str | None:
    named = config.get("architectures")
    name = named[0] if architecture == "auto" and isinstance(named, list) and named else architecture
    matches = [one for one in FAMILIES.values() if str(name).startswith(one.class_prefix)]
    return matches[0].model_type if matches else None


def find_head(config: dict[str, Any], family: SourceFamily, architecture: str) -> tuple[str, str]:
    """The source class to load and the head it becomes.

    Args:
        config: The source's config.json.
        family: Its family.
        architecture: `"auto"`: what config.json names; or a class name of the source or of this package.

    Returns:
        The name of the source's class, such as `"RobertaForMaskedLM"`, and an entry of `HEADS`, such as
        `"ForMaskedLM"`.

    Raises:
        InputError: If there is no such head, config.json does not say which, or the head cannot be converted.
    """
    if architecture == "auto":
        named = config.get("architectures") or []
        if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
            raise InputError(f"config.json must name one architecture, got {named!r}: choose one with --architecture")
        architecture = named[0]
    ending = architecture
    for prefix in ("HfLongformer", family.class_prefix, *family.other_prefixes):
        ending = ending.removeprefix(prefix)
    if family.is_encoder_decoder:
        ending = ending.removeprefix("EncoderDecoder")
    if ending not in family.heads:
        supported = ", ".join(family.class_prefix + name for name in family.heads)
        raise InputError(f"architecture must be one of {supported}, got {architecture!r}")
    head = family.heads[ending]
    return family.class_of(head), head


def check_head(config: Any, family: SourceFamily, head: str) -> None:
    """Refuses a head that computes something which ours cannot.

    Args:
        config: The source's configuration, an object of its own class.
        family: Its family.
        head: One of `HEADS`.

    Raises:
        InputError: If it does.
    """
    for name, allowed in family.needs.get(head, {}).items():
        if getattr(config, name, None) != allowed:
            raise InputError(
                f"{family.class_prefix}{head} can be converted with {name}={allowed!r} only, which the new head has, "
                f"got {getattr(config, name, None)!r}: --architecture {family.class_prefix}Model converts the encoder "
                "alone"
            )


__all__ = ["FAMILIES", "HEADS", "REFUSED", "SourceFamily", "base_of", "check_head", "find_family", "find_head"]
