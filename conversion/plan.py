# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a conversion will do, weight by weight, decided by names and shapes before a number is read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

import hf_longformer
from hf_longformer import HfLongformerConfig, HfLongformerEncoderDecoderConfig

from .errors import InputError, first_line
from .source import POSITIONS, OwnConfig, Source, encoder_config, missing_weights
from .weights import local_names

POSITION_INITS = ("copy", "interpolate", "random")
WORDS, DECODER = "embeddings.word_embeddings.weight", "lm_head.decoder.weight"
BIASES = ("lm_head.bias", "lm_head.decoder.bias")
# Of encoder-decoders: the words and positions of the decoder, the output, and what is added to it.
DECODER_WORDS, DECODER_POSITIONS = "decoder.embed_tokens.weight", "decoder.embed_positions.weight"
OUTPUT, OUTPUT_BIAS = "lm_head.weight", "final_logits_bias"
SHARED = "shared.weight"
# Fields of the source's config that the new one takes over; the rest is set in `target_config`.
KEPT_FIELDS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "type_vocab_size"),
    *("initializer_range", "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings"),
    *("id2label", "label2id", "problem_type", "embedding_size"),
)
LONG_FIELDS = (
    *("attention_window", "attention_dilation", "global_attention", "is_decoder", "sep_token_id"),
    *("classifier_activation", "global_projections", "position_counting", "coreference", "tag_layers"),
)
# Which stock Longformer would pass over.
OWN_FIELDS = ("activation_dropout", "layerdrop", "scale_embedding", "global_scaling_length", "retrieval")


@dataclass
class Plan:
    """A conversion.

    Args:
        source: What is converted.
        config: The new configuration.
        dtype: What the new weights are stored as.
        position_init: One of `POSITION_INITS`.
        seed: For `position_init="random"`.
        shapes: The new weights by name.
        taken: New names, and names of the source, of weights that are taken over.
        made: New names of weights that the source does not have, and what they are made of.
        dropped: Weights of the source without use.
    """

    source: Source
    config: OwnConfig
    dtype: torch.dtype
    position_init: str
    seed: int
    shapes: dict[str, tuple[int, ...]]
    taken: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    @property
    def positions(self) -> str:
        """The new name of the position table."""
        return f"{self.source.base_of_encoder}{POSITIONS}"

    @property
    def encoder(self) -> HfLongformerConfig:
        """The new configuration of the encoder: `config`, where there is no decoder."""
        return encoder_config(self.config)

    @property
    def words(self) -> str:
        """The new name of the table of words, which others are tied to."""
        return f"{self.source.base_of_encoder}{WORDS}"

    @property
    def ties(self) -> dict[str, str]:
        """New names of weights that `tie_word_embeddings` ties, and of those that they are tied to."""
        if self.source.family.is_encoder_decoder:
            tied = {f"{self.source.base}{DECODER_WORDS}": self.words, OUTPUT: self.words}
        else:
            tied = {DECODER: self.words, BIASES[1]: BIASES[0]} if DECODER in self.shapes else {}
        return {name: other for name, other in tied.items() if name in self.shapes}

    def weight(self, name: str) -> torch.Tensor:
        """One of the new weights: a tensor of the source where nothing changes.

        Raises:
            InputError: If the source's cannot be read.
        """
        if name not in self.taken:
            return self._made(name, self.weight)
        tensor = self.source.weights.read(self.taken[name])
        if name == self.positions:
            tensor = extend_positions(
                tensor,
                self.source.first_position,
                self.encoder.first_position,
                self.encoder.learned_positions,
                self.position_init,
                torch.Generator().manual_seed(self.seed),
                self.encoder.initializer_range,
            )
        elif name.endswith(DECODER_POSITIONS):
            tensor = tensor[self.source.family.first_row :]
        return tensor.to(self.dtype)

    def all_weights(self) -> dict[str, torch.Tensor]:
        """All of the new weights, everything of the source read once.

        Raises:
            InputError: If it cannot be read.
        """
        with self.source.weights.held():
            taken = {name: self.weight(name) for name in self.taken}
        return {name: taken[name] if name in taken else self._made(name, taken.__getitem__) for name in self.shapes}

    def _made(self, name: str, weight: Callable[[str], torch.Tensor]) -> torch.Tensor:
        origin = self.made[name]
        if not origin:
            return torch.zeros(self.shapes[name], dtype=self.dtype)
        tied = self.config.tie_word_embeddings and "_global." not in name
        return weight(origin) if tied else weight(origin).clone()

    def settle_ties(self) -> None:
        """Keeps an output layer, or embeddings, of their own where they are not what the configuration ties them to."""
        if not self.config.tie_word_embeddings:
            return
        pairs = [(name, other) for name, other in self.ties.items() if name in self.taken and other in self.taken]
        if any(not torch.equal(self.weight(name), self.weight(other)) for name, other in pairs):
            self.config.tie_word_embeddings = False


def target_class(head: str) -> Any:
    """Our class for a head."""
    return getattr(hf_longformer, f"HfLongformer{head}")


def empty_model(source: Source, config: OwnConfig) -> PreTrainedModel:
    """The new model without numbers: names and shapes only."""
    options = {"add_pooling_layer": not source.lacks_pooler} if source.head == "Model" else {}
    with torch.device("meta"):
        return target_class(source.head)(config, **options)


def target_config(
    source: Source, max_length: int | None, attention_window: Any = None, attention_dilation: Any = None
) -> OwnConfig:
    """The new configuration: the source's own values, and only what must change changed.

    Args:
        source: What is converted.
        max_length: Longest input of the result in tokens; None: none, the source's positions are repeated.
        attention_window: Total width in tokens; None: the source's own, or 512, of BART 1,024.
        attention_dilation: None: the source's own, or 1.

    Raises:
        InputError: If the values do not go together.
    """
    chosen = {"attention_window": attention_window, "attention_dilation": attention_dilation}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if source.family.is_encoder_decoder:
        return _encoder_decoder_config(source, max_length, chosen)
    given, family = source.config, source.family
    wanted = {name: family.fields.get(name, name) for name in (*KEPT_FIELDS, *(LONG_FIELDS if family.is_long else ()))}
    wanted |= {name: name for name in OWN_FIELDS if isinstance(given, HfLongformerConfig)}
    kept = {name: getattr(given, theirs) for name, theirs in wanted.items() if hasattr(given, theirs)}
    kept |= {**family.values.get("", {}), **family.values.get(source.head, {})}
    if kept.get("embedding_size") == kept["hidden_size"]:
        kept["embedding_size"] = None
    kept.setdefault("sep_token_id", getattr(given, "sep_token_id", None))
    if kept["sep_token_id"] is None:
        from_tokenizer = None if source.tokenizer is None else source.tokenizer.sep_token_id
        kept["sep_token_id"] = kept.get("eos_token_id") if from_tokenizer is None else from_tokenizer
    if not family.is_long:
        kept["global_projections"] = "copied"
    kept |= chosen
    special_rows = (kept["pad_token_id"] if kept["pad_token_id"] is not None else -1) + 1
    kept["repeat_positions"], length = max_length is None, max_length or source.max_length
    try:
        return HfLongformerConfig(**kept, max_position_embeddings=length + special_rows)
    except Exception as error:  # strict dataclasses have exceptions of their own
        raise InputError(f"the options and the source's config.json do not go together: {error}") from error


def _encoder_decoder_config(
    source: Source, max_length: int | None, chosen: dict[str, Any]
) -> HfLongformerEncoderDecoderConfig:
    """Both halves as the source has them, but for the encoder's positions and what was chosen for its attention."""
    to_config, tokenizer = source.family.to_config, source.tokenizer
    try:
        config: Any = None if to_config is None else to_config(source.config)
        encoder = config.encoder
        encoder.max_position_embeddings = (max_length or source.max_length) + encoder.first_position
        encoder.repeat_positions = max_length is None
        for name, value in chosen.items():
            setattr(encoder, name, value)
        if not source.family.is_long:
            encoder.global_projections = "copied"
        if not isinstance(source.config, HfLongformerEncoderDecoderConfig):
            separator = None if tokenizer is None else tokenizer.sep_token_id
            end = config.eos_token_id if isinstance(config.eos_token_id, int) else None
            encoder.sep_token_id = end if separator is None else separator
        config.validate_architecture()
    except Exception as error:  # strict dataclasses have exceptions of their own
        raise InputError(f"the options and the source's config.json do not go together: {first_line(error)}") from error
    return config


def make_plan(
    source: Source, config: OwnConfig, dtype: torch.dtype, position_init: str = "copy", seed: int = 0
) -> Plan:
    """Finds for every new weight what it is taken or made from.

    Args:
        source: What is converted.
        config: The new configuration.
        dtype: What the new weights are to be stored as.
        position_init: One of `POSITION_INITS`.
        seed: For `"random"`.

    Raises:
        InputError: If a weight is missing, there twice, no floating point, or of another shape than config.json says.
    """
    try:
        shapes = {name: tuple(weight.shape) for name, weight in empty_model(source, config).state_dict().items()}
    except Exception as error:  # whatever comes of numbers that nobody has ever put into a configuration
        raise InputError(f"config.json cannot be used: {error}") from error
    plan = Plan(source, config, dtype, position_init, seed, shapes)
    for name in source.weights:
        target = source.family.target_name(name, source.head)
        if target in plan.taken:
            raise InputError(f"every weight must be there once, got {name} and {plan.taken[target]}")
        if target in shapes:
            plan.taken[target] = name
        else:
            plan.dropped.append(name)
    if source.family.is_encoder_decoder:
        _plan_words(plan)
    _check_shapes(plan)
    _plan_made(plan)
    missing = shapes.keys() - plan.taken.keys() - plan.made.keys()
    if missing:
        raise InputError(missing_weights(source, missing))
    return plan


def extend_positions(
    table: torch.Tensor,
    first_position: int,
    new_first_position: int,
    max_length: int,
    position_init: str = "copy",
    generator: torch.Generator | None = None,
    initializer_range: float = 0.02,
) -> torch.Tensor:
    """A longer position table, special rows verbatim.

    Args:
        table: `(first_position + n, hidden_size)`.
        first_position: Row of the first real token in `table`.
        new_first_position: The same in the result. If it is another one, zeros are put in front, or nothing.
        max_length: Real rows of the result.
        position_init: `"copy"`: `new[new_first + i] = old[first + (i mod n)]` (section 5 of arXiv 2004.05150).
            `"interpolate"`: the n rows are stretched over all, with straight lines between them; first and last row
            stay first and last. `"random"`: normally distributed, as in a new model.
        generator: For `"random"`.
        initializer_range: Standard deviation for `"random"`.

    Returns:
        `(new_first_position + max_length, hidden_size)`.
    """
    is_alike = first_position == new_first_position
    special = table[:first_position] if is_alike else table.new_zeros(new_first_position, table.shape[1])
    learned = table[first_position:]
    n = learned.shape[0]
    if position_init == "copy":
        rows = learned[torch.arange(max_length) % n]
    elif position_init == "interpolate":
        place = torch.linspace(0, n - 1, max_length, dtype=torch.float64)
        left = place.floor().long().clamp(max=max(n - 2, 0))
        share = (place - left)[:, None]
        right = (left + 1).clamp(max=n - 1)
        rows = learned[left] * (1 - share) + learned[right] * share
    else:
        rows = torch.empty(max_length, table.shape[1]).normal_(0.0, initializer_range, generator=generator)
    return torch.cat([special, rows.to(table.dtype)])


def _check_shapes(plan: Plan) -> None:
    for target, name in sorted(plan.taken.items(), key=lambda pair: pair[0] != plan.positions):
        weight, expected = plan.source.weights[name], plan.shapes[target]
        if not weight.dtype.is_floating_point:
            raise InputError(f"weights must be floating point, got {name} as integers")
        if target == plan.positions:
            rows, added = plan.source.stated_rows, plan.source.family.first_row
            expected = (plan.source.max_length + plan.source.first_position, expected[1])
            if rows != expected[0]:
                field = plan.source.family.fields.get("max_position_embeddings", "max_position_embeddings")
                raise InputError(
                    f"the weights of {plan.source.name} do not fit its config.json: {field} is {rows - added}, "
                    f"got {expected[0]} rows" + f", of which {added} are special" * bool(added)
                )
        if target.endswith(DECODER_POSITIONS):
            expected = (expected[0] + plan.source.family.first_row, expected[1])
        if weight.shape != expected:
            raise InputError(
                f"the weights of {plan.source.name} do not fit its config.json: {name} must have the shape "
                f"{expected}, got {weight.shape}"
            )


def _plan_made(plan: Plan) -> None:
    """Names weights that the source cannot have: an empty origin stands for zeros."""
    origins = {} if plan.source.family.is_long else local_names(plan.shapes)
    origins[DECODER] = plan.words
    origins[BIASES[0]], origins[BIASES[1]] = BIASES[1], BIASES[0]
    if "type_vocab_size" in plan.source.family.values.get("", {}):
        plan.made[f"{plan.source.base}embeddings.token_type_embeddings.weight"] = ""
    for name, origin in origins.items():
        untied_output = name == DECODER and not plan.config.tie_word_embeddings
        if name in plan.shapes and name not in plan.taken and origin in plan.taken and not untied_output:
            plan.made[name] = origin


def _plan_words(plan: Plan) -> None:
    """Where the words of encoder, decoder and output come from: their own table in the file, the shared one, or any
    that they are tied to. An output that is not tied has one of its own.
    """
    shared = [name for name in plan.source.weights if name.split(".")[-2:] == SHARED.split(".")]
    holder = None
    for target in (plan.words, *plan.ties):
        if target in plan.taken or (target == OUTPUT and not plan.config.tie_word_embeddings):
            continue
        if holder is not None:
            plan.made[target] = holder
        elif len(shared) == 1:
            plan.taken[target], holder = shared[0], target
            plan.dropped.remove(shared[0])
        elif plan.config.tie_word_embeddings:
            other = next((name for name in (plan.words, *plan.ties) if name in plan.taken), None)
            if other is not None:
                plan.made[target] = other
    if OUTPUT_BIAS in plan.shapes and OUTPUT_BIAS not in plan.taken:
        plan.made[OUTPUT_BIAS] = ""
