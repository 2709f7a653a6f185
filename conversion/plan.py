# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a conversion will do, weight by weight, decided by names and shapes before a number is read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

import hf_longformer
from hf_longformer import HfLongformerConfig

from .errors import InputError
from .source import POSITIONS, Source, missing_weights
from .weights import local_names

POSITION_INITS = ("copy", "interpolate", "random")
WORDS, DECODER = "embeddings.word_embeddings.weight", "lm_head.decoder.weight"
BIASES = ("lm_head.bias", "lm_head.decoder.bias")
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
    config: HfLongformerConfig
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
        return f"{self.source.base}{POSITIONS}"

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
                self.config.first_position,
                self.config.max_length_tokens,
                self.position_init,
                torch.Generator().manual_seed(self.seed),
                self.config.initializer_range,
            )
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
        """Keeps a language model's output layer of its own where it is not what the configuration ties it to."""
        if not self.config.tie_word_embeddings or DECODER not in self.shapes:
            return
        tied = {DECODER: f"{self.source.base}{WORDS}", BIASES[1]: BIASES[0]}
        pairs = [(name, other) for name, other in tied.items() if name in self.taken and other in self.taken]
        if any(not torch.equal(self.weight(name), self.weight(other)) for name, other in pairs):
            self.config.tie_word_embeddings = False


def target_class(head: str) -> Any:
    """Our class for a head."""
    return getattr(hf_longformer, f"HfLongformer{head}")


def empty_model(source: Source, config: HfLongformerConfig) -> PreTrainedModel:
    """The new model without numbers: names and shapes only."""
    options = {"add_pooling_layer": not source.lacks_pooler} if source.head == "Model" else {}
    with torch.device("meta"):
        return target_class(source.head)(config, **options)


def target_config(
    source: Source, max_length: int, attention_window: Any = None, attention_dilation: Any = None
) -> HfLongformerConfig:
    """The new configuration: the source's own values, and only what must change changed.

    Args:
        source: What is converted.
        max_length: Longest input of the result in tokens.
        attention_window: Total width in tokens; None: the source's own, or 512.
        attention_dilation: None: the source's own, or 1.

    Raises:
        InputError: If the values do not go together.
    """
    given, family = source.config, source.family
    wanted = {name: family.fields.get(name, name) for name in (*KEPT_FIELDS, *(LONG_FIELDS if family.is_long else ()))}
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
    chosen = {"attention_window": attention_window, "attention_dilation": attention_dilation}
    kept |= {name: value for name, value in chosen.items() if value is not None}
    special_rows = (kept["pad_token_id"] if kept["pad_token_id"] is not None else -1) + 1
    try:
        return HfLongformerConfig(**kept, max_position_embeddings=max_length + special_rows)
    except Exception as error:  # strict dataclasses have exceptions of their own
        raise InputError(f"the options and the source's config.json do not go together: {error}") from error


def make_plan(
    source: Source, config: HfLongformerConfig, dtype: torch.dtype, position_init: str = "copy", seed: int = 0
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
        new_first_position: The same in the result. If `table` has no special rows, zeros are put there.
        max_length: Real rows of the result.
        position_init: `"copy"`: `new[new_first + i] = old[first + (i mod n)]` (section 5 of arXiv 2004.05150).
            `"interpolate"`: the n rows are stretched over all, with straight lines between them; first and last row
            stay first and last. `"random"`: normally distributed, as in a new model.
        generator: For `"random"`.
        initializer_range: Standard deviation for `"random"`.

    Returns:
        `(new_first_position + max_length, hidden_size)`.
    """
    special = table[:first_position] if first_position else table.new_zeros(new_first_position, table.shape[1])
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
    for target, name in plan.taken.items():
        weight, expected = plan.source.weights[name], plan.shapes[target]
        if not weight.dtype.is_floating_point:
            raise InputError(f"weights must be floating point, got {name} as integers")
        if target == plan.positions:
            rows = plan.source.config.max_position_embeddings
            expected = (plan.source.max_length + plan.source.first_position, expected[1])
            if rows != expected[0]:
                raise InputError(
                    f"the weights of {plan.source.name} do not fit its config.json: max_position_embeddings is {rows}, "
                    f"got {expected[0]} rows"
                )
        if weight.shape != expected:
            raise InputError(
                f"the weights of {plan.source.name} do not fit its config.json: {name} must have the shape "
                f"{expected}, got {weight.shape}"
            )


def _plan_made(plan: Plan) -> None:
    """Names weights that the source cannot have: an empty origin stands for zeros."""
    base = plan.source.base
    origins = {} if plan.source.family.is_long else local_names(plan.shapes)
    origins[DECODER] = f"{base}{WORDS}"
    origins[BIASES[0]], origins[BIASES[1]] = BIASES[1], BIASES[0]
    if "type_vocab_size" in plan.source.family.values.get("", {}):
        plan.made[f"{base}embeddings.token_type_embeddings.weight"] = ""
    for name, origin in origins.items():
        untied_output = name == DECODER and not plan.config.tie_word_embeddings
        if name in plan.shapes and name not in plan.taken and origin in plan.taken and not untied_output:
            plan.made[name] = origin
