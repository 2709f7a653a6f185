# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints for a task: loaded whole, or refused with the reason. Nothing begins at random without being said."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_longformer import (
    HfLongformerConfig,
    HfLongformerEncoderDecoderConfig,
    HfLongformerEncoderDecoderPreTrainedModel,
    HfLongformerPreTrainedModel,
)
from hf_longformer.conversion.errors import InputError, one_line
from hf_longformer.conversion.source import encoder_config

# Of models of two kinds, whose weights they can have: this package's own, and those of stock Longformer and LED.
ENCODER, ENCODER_DECODER = "an encoder", "an encoder-decoder"
LOADABLE = {
    ENCODER: (HfLongformerConfig.model_type, "longformer"),
    ENCODER_DECODER: (HfLongformerEncoderDecoderConfig.model_type, "led"),
}
OURS: tuple[Any, ...] = (HfLongformerPreTrainedModel, HfLongformerEncoderDecoderPreTrainedModel)
# What options call fields of both halves of an encoder-decoder, and what the decoder calls them.
OF_DECODER = {"hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout"}
BASE = f"{HfLongformerPreTrainedModel.base_model_prefix}."
# Of the encoder, but used by some heads only, or not at all: buffers of old checkpoints.
OPTIONAL = ("pooler.", "embeddings.position_ids", "embeddings.token_type_ids")


def load_checkpoint(
    model_class: type[PreTrainedModel], name: str, *, new: Sequence[str] = (), tokenizer: bool = True, **options: Any
) -> tuple[Any, PreTrainedTokenizerBase | None, dict[str, list[str]]]:
    """A model all of whose weights come from a checkpoint, but for the parts that are to be trained anew.

    Args:
        model_class: A class of this package.
        name: A folder or a Hub name.
        new: First names of parameters that may begin at random, such as `"classifier"`: a head that is missing, or is
            for other labels. The head of another task is left out then.
        tokenizer: Whether a tokenizer is wanted.
        **options: `revision`, `local_files_only`, `dtype`, and fields of the configuration to be changed.

    Returns:
        The model; its tokenizer, or None; and what is to be said of it: `new`, the parts that begin at random,
        `left_out`, the parts of the checkpoint that have no use here, and `labels`, those that its head was trained
        for, if they are others than those wanted.

    Raises:
        InputError: If there is no such checkpoint, it is not of this package, a weight is missing, has another shape or
            is left over, its tokenizer knows tokens that the model does not, or a field of the configuration is wrong.
    """
    where = {key: options[key] for key in ("revision", "local_files_only") if options.get(key)}
    settings = {key: value for key, value in options.items() if key not in ("revision", "local_files_only")}
    words: Any = None
    try:
        config = check_type(name, model_class, **where)
        if kind_of(model_class) == ENCODER_DECODER:
            settings = _of_halves(name, settings, where)
        if tokenizer:
            words = AutoTokenizer.from_pretrained(name, **where)
        loaded: Any = model_class.from_pretrained(
            name, **where, **settings, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, TypeError, StrictDataclassError) as error:
        raise InputError(f"the checkpoint {name} cannot be loaded: {one_line(error)}") from error
    model, report = loaded
    notes = _check_weights(name, model, report, new)
    known = config.get("id2label") or {}
    before = [known[number] for number in sorted(known, key=int)]
    is_kept = "id2label" in settings and "classifier" not in notes["new"]
    notes["labels"] = before if is_kept and before != list(settings["id2label"].values()) else []
    if words is not None and len(words) > model.config.vocab_size:
        raise InputError(
            f"the tokenizer of {name} must not know more tokens than the {model.config.vocab_size:,} that have "
            f"embeddings, got {len(words):,}: call model.resize_token_embeddings and save it"
        )
    return model, words, notes


def kind_of(model_class: Any) -> str:
    """Of which kind a class of models is, of those of `LOADABLE`."""
    return ENCODER_DECODER if issubclass(model_class, HfLongformerEncoderDecoderPreTrainedModel) else ENCODER


def _of_halves(name: str, settings: dict[str, Any], where: dict[str, Any]) -> dict[str, Any]:
    """Settings with a `config`, in which fields that encoders have are changed where an encoder-decoder has them."""
    fields = {field.name for field in dataclasses.fields(HfLongformerConfig)} - {"dtype"}
    changed = {key: value for key, value in settings.items() if key in fields}
    if not changed:
        return settings
    content = HfLongformerEncoderDecoderConfig.from_pretrained(name, **where).to_dict()
    content["encoder"] |= changed
    content["decoder"] |= {OF_DECODER[key]: value for key, value in changed.items() if key in OF_DECODER}
    kept = {key: value for key, value in settings.items() if key not in changed}
    return {**kept, "config": HfLongformerEncoderDecoderConfig.from_dict(content)}


def check_type(name: str, model_class: Any, **where: Any) -> dict[str, Any]:
    """Refuses a checkpoint that is not of this package, or not of the right kind, by its config.json alone.

    Args:
        name: A folder or a Hub name.
        model_class: What it is to be loaded as.
        **where: `revision`, `local_files_only`.

    Returns:
        What its config.json holds.

    Raises:
        InputError: If it is not, or there is none.
    """
    try:
        config = PreTrainedConfig.get_config_dict(name, **{key: value for key, value in where.items() if value})[0]
    except (OSError, ValueError) as error:
        raise InputError(f"the checkpoint {name} cannot be loaded: {one_line(error)}") from error
    if not config:
        raise InputError(f"the checkpoint {name} cannot be loaded: it has no config.json")
    kind, wanted = config.get("model_type"), kind_of(model_class)
    if other := [one for one, types in LOADABLE.items() if kind in types and one != wanted]:
        raise InputError(f"{name} must be {wanted} ({' or '.join(LOADABLE[wanted])}), got {other[0]} ({kind})")
    if kind not in LOADABLE[wanted]:
        source, folder = name, f"{Path(name).name}-4096"
        if wanted == ENCODER_DECODER and kind != "bart":
            source, folder = "BART", "FOLDER"
        raise InputError(
            f"{name} must be a checkpoint of this package, got one of {kind or 'an unknown type'} that was not "
            f"converted: run `hf-longformer convert {source} {folder}` first"
        )
    return config


def _check_weights(name: str, model: Any, report: dict[str, Any], new: Sequence[str]) -> dict[str, list[str]]:
    mismatched = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    absent = sorted({*report["missing_keys"], *mismatched})
    may_begin = [key for key in absent if _is_of(key, new)]
    if broken := [key for key in absent if key not in may_begin]:
        what = "has another shape" if broken[0] in mismatched else "is missing"
        raise InputError(
            f"{name} must have all weights of {type(model).__name__}, got {len(broken)} that it has not or has "
            f"otherwise: {broken[0]} {what}"
        )
    over = [key for key in sorted(report["unexpected_keys"]) if not _is_optional(key, model)]
    heads = sorted({key.split(".")[0] for key in over if new and _is_head(key)})
    if foreign := [key for key in over if key.split(".")[0] not in heads]:
        raise InputError(
            f"{name} must hold a {type(model).__name__} and nothing else, got {len(foreign)} weights that it has no "
            f"place for, such as {foreign[0]}"
        )
    return {"new": sorted({key.split(".")[0] for key in may_begin}), "left_out": heads}


def _is_of(key: str, parts: Iterable[str]) -> bool:
    return any(key == part or key.startswith(f"{part}.") for part in parts)


def _is_head(key: str) -> bool:
    """Whether this is a head's weight and not one of an encoder, under whatever prefix."""
    return not key.startswith(BASE) and not any(part in key for part in ("encoder.", "embeddings."))


def _is_optional(key: str, model: Any) -> bool:
    rest = key.removeprefix(BASE)
    is_shared = encoder_config(model.config).global_projections == "shared" and "_global." in rest
    return rest.startswith(OPTIONAL) or is_shared


def describe(notes: dict[str, list[str]]) -> list[str]:
    """What `load_checkpoint` found, as sentences for the user."""
    sentences = []
    if notes["new"]:
        sentences.append(f"begins at random, since the checkpoint has none that fits: {', '.join(notes['new'])}")
    if notes["left_out"]:
        sentences.append(
            f"of the checkpoint left out, since this task has no use for it: {', '.join(notes['left_out'])}"
        )
    if notes["labels"]:
        sentences.append(f"goes on from a head that was trained for other labels: {', '.join(notes['labels'][:10])}")
    return sentences
