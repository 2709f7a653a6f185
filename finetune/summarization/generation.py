# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""How summaries are written: by `generate`, as options and a checkpoint's generation_config.json say."""

import math
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from hf_longformer.conversion import InputError
from hf_longformer.conversion.errors import one_line

# Options, under Transformers' names, and the smallest number that each can be; None: any finite number.
OPTIONS: dict[str, int | None] = {
    **{"num_beams": 1, "max_new_tokens": 1, "min_new_tokens": 0, "no_repeat_ngram_size": 0},
    "length_penalty": None,
}
# A summary is the likeliest text that is found, one for every document.
ALWAYS = {"do_sample": False, "num_return_sequences": 1, "return_dict_in_generate": False}
OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


def generation_of(model: Any, options: dict[str, Any]) -> GenerationConfig:
    """How a model writes: as its checkpoint says, but for what options say.

    Args:
        model: An `HfLongformerForConditionalGeneration`, which stays as it is.
        options: Names and values, of which those that are None or no options of `OPTIONS` say nothing.

    Returns:
        With `max_new_tokens`: if neither says how many, as many as the decoder has positions.

    Raises:
        InputError: If an option cannot be had.
    """
    given = {name: options[name] for name in OPTIONS if options.get(name) is not None}
    for name, value in given.items():
        _check(name, value)
    own = model.generation_config.to_dict()
    made = GenerationConfig.from_dict({name: value for name, value in own.items() if not name.startswith("_")})
    for name, value in (given | ALWAYS | dict.fromkeys(OF_SAMPLING)).items():
        setattr(made, name, value)
    limit = model.config.decoder.max_position_embeddings
    # Of BART, `max_length` and `min_length` count what the decoder begins with.
    if made.max_new_tokens is None:
        made.max_new_tokens = made.max_length - 1 if made.max_length else limit
    if made.min_new_tokens is None:
        made.min_new_tokens = made.min_length - 1 if made.min_length else None
    made.max_length = made.min_length = None
    if not 1 <= made.max_new_tokens <= limit:
        raise InputError(f"max_new_tokens must lie between 1 and the decoder's {limit:,}, got {made.max_new_tokens:,}")
    if (made.min_new_tokens or 0) > made.max_new_tokens:
        raise InputError(
            f"min_new_tokens must not be more than the {made.max_new_tokens:,} of max_new_tokens, got "
            f"{made.min_new_tokens:,}"
        )
    try:
        made.validate(strict=True)
    except ValueError as error:
        raise InputError(f"the options of generation do not go together: {one_line(error)}") from error
    return made


def _check(name: str, value: Any) -> None:
    least = OPTIONS[name]
    kinds = (int, float) if least is None else int
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        raise InputError(f"{name} must be a {'finite' if least is None else 'whole'} number, got {value!r}")
    if least is not None and value < least:
        raise InputError(f"{name} must be at least {least}, got {value}")


def said_of(generation: GenerationConfig) -> dict[str, Any]:
    """The options that hold, for results.json."""
    return {name: getattr(generation, name) for name in OPTIONS}


class _Watch(LogitsProcessor):
    """Looks whether scores are numbers, and changes none."""

    def __init__(self) -> None:
        self.is_bad: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        is_bad = scores.isnan().any(dim=-1)
        self.is_bad = is_bad if self.is_bad is None else self.is_bad | is_bad
        return scores


def write(
    model: Any, inputs: dict[str, torch.Tensor], generation: GenerationConfig, **more: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summaries of a batch.

    Args:
        model: The model, of whose own generation configuration nothing is taken.
        inputs: `input_ids` and `attention_mask`, `(batch, S)`, and whatever else the encoder takes.
        generation: As `generation_of` gives it.
        **more: `encoder_outputs`, if the encoder has run.

    Returns:
        Tokens `(batch, T)`, without the one that the decoder begins with, padded by `pad_token_id`; and for each text
        whether the model gave a score that is no number, `(batch,)`.
    """
    watch, own = _Watch(), model.generation_config
    model.generation_config = generation  # `generate` would take from its own what is None in another
    try:
        ids = model.generate(**inputs, **more, logits_processor=LogitsProcessorList([watch]))
    finally:
        model.generation_config = own
    is_bad = watch.is_bad.view(len(ids), -1).any(dim=-1)
    return ids[:, 1:], is_bad


def whole(ids: Any, generation: GenerationConfig) -> list[int]:
    """The tokens of one summary up to its end, that included, without padding.

    Args:
        ids: As `write` gives them; -100 stands for padding, too.
        generation: What they were written with.
    """
    ends = generation.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    kept: list[int] = []
    for token in map(int, ids):
        if token == -100 or (token == generation.pad_token_id and token not in ends):
            break
        kept.append(token)
        if token in ends:
            break
    return kept
