# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Export: a checkpoint of ours as one that plain Transformers loads as `longformer`, or as `led`."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import LongformerConfig, PreTrainedModel

from hf_longformer import HfLongformerConfig, HfLongformerEncoderDecoderConfig

from .convert import save_tokenizer
from .errors import GateError, InputError
from .files import check_output, new_folder
from .plan import extend_positions, target_class
from .sentence_modules import copy_modules
from .source import embeddings_of, encoder_config, load_converted_config, load_tokenizer
from .stock_led import (
    STOCK_CLASSES,
    led_config,
    led_weights,
    longest_input,
    notes_on_led,
    reasons_against_dilation,
    reasons_against_led,
    reasons_against_scaling,
)
from .weights import Weights

FORMATS = ("transformers",)
TOLERANCE = 1e-4
OUTPUTS = (
    *("last_hidden_state", "pooler_output", "logits", "start_logits", "end_logits"),
    "encoder_last_hidden_state",
)
STOCK_FIELDS = (
    *("attention_window", "sep_token_id", "pad_token_id", "bos_token_id", "eos_token_id", "vocab_size", "hidden_size"),
    *("num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "hidden_dropout_prob"),
    *("attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size", "initializer_range"),
    *("layer_norm_eps", "tie_word_embeddings", "id2label", "label2id", "problem_type", "chunk_size_feed_forward"),
)


def export(
    checkpoint: str | Path,
    output: str | Path,
    *,
    format: str = "transformers",
    max_length: int | None = None,
    overwrite: bool = False,
) -> dict:
    """Writes a checkpoint in another format and compares its outputs with ours on a text of several windows.

    Args:
        checkpoint: A folder with an `hf_longformer` checkpoint.
        output: The folder to write: it appears whole, or not at all.
        format: `"transformers"`: model type `longformer`, or `led` of an encoder-decoder, which plain Transformers
            loads without this package.
        max_length: Tokens, of a checkpoint without a longest input: its positions are written out for so many.
        overwrite: Whether to replace a checkpoint at `output`.

    Returns:
        `model_class`, the class to load it with, `largest_difference` of the outputs in float32, and `notes`, sentences
        on what stock does otherwise.

    Raises:
        InputError: If the checkpoint has something that the format cannot express; every reason is named.
        GateError: If the outputs differ. Nothing is written.
    """
    folder, output = Path(checkpoint), Path(output)
    if format not in FORMATS:
        raise InputError(f"--format must be one of {', '.join(FORMATS)}, got {format!r}")
    if not folder.is_dir():
        raise InputError(f"CHECKPOINT must be a folder, got {checkpoint}")
    check_output(output, overwrite, folder)
    config: Any = load_converted_config(folder)
    is_endless = encoder_config(config).repeat_positions
    _end_positions(encoder_config(config), max_length)
    is_led = isinstance(config, HfLongformerEncoderDecoderConfig)
    if reasons := (reasons_against_led(config) if is_led else reasons_against_stock(config)):
        raise InputError(
            f"stock {'LED' if is_led else 'Longformer'} cannot express this checkpoint: {'; '.join(reasons)}"
        )
    head = str(config.architectures[0]).removeprefix("HfLongformer")
    has_pooler = head != "Model" or "pooler.dense.weight" in Weights(folder)
    options = {"add_pooling_layer": has_pooler} if head == "Model" else {}
    ours = target_class(head).from_pretrained(folder, local_files_only=True, **options)
    if is_endless:
        _write_out_positions(ours, encoder_config(config))
    stock_class = getattr(transformers, STOCK_CLASSES[head] if is_led else f"Longformer{head}")
    length = longest_input(config) if is_led else config.max_length_tokens
    stock = _stock_model(stock_class, config, options)
    stock.load_state_dict(led_weights(ours.state_dict()) if is_led else ours.state_dict(), strict=True, assign=True)
    stock.tie_weights()
    if head == "ForConditionalGeneration":
        stock.generation_config = ours.generation_config
    with new_folder(output) as new:
        stock.save_pretrained(new)
        if (tokenizer := load_tokenizer(folder)) is not None:
            if length < tokenizer.model_max_length and (is_led or is_endless):
                save_tokenizer(tokenizer, new, length)
            else:
                tokenizer.save_pretrained(new)
        copy_modules(folder, new, config.max_length_tokens)
        loaded = stock_class.from_pretrained(new, local_files_only=True, **options)
        difference = _largest_difference(ours, loaded, length)
        notes = notes_on_led(config) if is_led else []
        report = {"model_class": stock_class.__name__, "largest_difference": difference, "notes": notes}
        if not difference <= TOLERANCE:
            raise GateError(f"the outputs differ by {difference:.3g} (limit {TOLERANCE})", report)
    return report


def _end_positions(config: HfLongformerConfig, max_length: int | None) -> None:
    """Sets how many positions are written out, where they repeat."""
    if not config.repeat_positions:
        if max_length is not None:
            raise InputError(
                f"--max-length is for checkpoints that read texts of any length, got {max_length} for one that reads "
                f"{config.max_length_tokens:,} tokens"
            )
        return
    if max_length is None:
        raise InputError("the checkpoint reads texts of any length, and stock does not: say --max-length, in tokens")
    if max_length < config.learned_positions:
        raise InputError(
            f"--max-length must be at least the {config.learned_positions:,} positions there are, got {max_length}"
        )
    config.max_position_embeddings = config.first_position + max_length
    config.repeat_positions = False


@torch.no_grad()
def _write_out_positions(model: Any, ended: HfLongformerConfig) -> None:
    """Makes the table as long as a configuration says, in place."""
    embeddings = embeddings_of(model)
    first, table = ended.first_position, embeddings.position_embeddings
    table.weight = torch.nn.Parameter(extend_positions(table.weight, first, first, ended.max_length_tokens))
    table.num_embeddings = ended.max_position_embeddings
    config = encoder_config(model.config)
    config.repeat_positions, config.max_position_embeddings = False, ended.max_position_embeddings


def _stock_model(stock_class: Any, config: Any, options: dict[str, Any]) -> PreTrainedModel:
    """Stock's model without numbers."""
    if isinstance(config, HfLongformerEncoderDecoderConfig):
        made: Any = led_config(config)
    else:
        made = LongformerConfig(**{name: getattr(config, name) for name in STOCK_FIELDS})
    with torch.device("meta"):
        return stock_class(made, **options)


def reasons_against_stock(config: HfLongformerConfig) -> list[str]:
    """Everything in a configuration that stock Longformer cannot express."""
    reasons = reasons_against_dilation(config)
    if config.is_decoder:
        reasons.append("it has no causal attention, got is_decoder=True")
    if config.global_attention != "auto":
        reasons.append(
            "it chooses global tokens by the head alone, "
            f"got global_attention={config.global_attention!r}: set 'auto' and pass global_attention_mask"
        )
    if config.pad_token_id is None or config.first_position != config.pad_token_id + 1:
        reasons.append(
            "it counts positions from pad_token_id + 1, "
            f"got pad_token_id={config.pad_token_id} and first_position={config.first_position}"
        )
    if config.embedding_size not in (None, config.hidden_size):
        reasons.append(f"its embeddings are as wide as its layers, got embedding_size={config.embedding_size}")
    if config.global_projections == "shared":
        reasons.append("its global tokens have projections of their own, got global_projections='shared'")
    reasons += reasons_against_scaling(config)
    head = str((config.architectures or [""])[0])
    if config.classifier_activation != "tanh" and head.endswith(("ForSequenceClassification", "ForMultipleChoice")):
        reasons.append(f"its heads have a tanh, got classifier_activation={config.classifier_activation!r}")
    if config.tag_layers > 1 and head.endswith("ForTokenClassification"):
        reasons.append(f"its tokens have one tag each, got tag_layers={config.tag_layers}")
    if any(max(config.attention_windows) % window for window in config.attention_windows):
        reasons.append(f"its largest window must be a multiple of the others, got {config.attention_window}")
    return reasons


@torch.no_grad()
def _largest_difference(ours: PreTrainedModel, stock: PreTrainedModel, longest: int) -> float:
    """Of all outputs in float32, on a text of random tokens with separators, padding and a few global tokens."""
    config = encoder_config(ours.config)
    length = min(longest, max(config.attention_windows) * 3 // 2 + 7)
    generator = torch.Generator().manual_seed(0)
    first_word = 0 if config.pad_token_id is None else config.pad_token_id + 1
    input_ids = torch.randint(first_word % config.vocab_size, config.vocab_size, (2, length), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, length - length // 4 :] = 0
    if config.sep_token_id is not None:
        input_ids[:, length // 5] = config.sep_token_id
    input_ids[attention_mask == 0] = config.pad_token_id or 0
    global_attention_mask = torch.zeros_like(input_ids)
    global_attention_mask[:, 0] = global_attention_mask[0, length // 2] = 1
    inputs: dict[str, Any] = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "global_attention_mask": global_attention_mask,
    }
    if type(ours).__name__.endswith("ForMultipleChoice"):
        inputs = {name: tensor[None] for name, tensor in inputs.items()}
    if config is not ours.config:
        limit = ours.config.decoder.max_position_embeddings
        inputs["decoder_input_ids"] = input_ids[:1, :limit].repeat(2, 1)
    real = attention_mask.bool()
    largest = 0.0
    one, other = ours.eval().float()(**inputs), stock.eval().float()(**inputs)
    for name in OUTPUTS:
        if one.get(name) is not None:
            difference = (one[name] - other[name]).abs()
            is_per_token = difference.shape[:2] == real.shape and (config is ours.config or "encoder" in name)
            difference = difference[real] if is_per_token else difference
            largest = max(largest, float(difference.max()))
    return largest
