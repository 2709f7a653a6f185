# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a family of source checkpoints is: a table of what differs. Everything else about conversion is common."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hf_longformer import HfLongformerEncoderDecoderConfig

# Ending of a class name → the head of ours it becomes. A family may add endings of its own.
HEADS = {
    "Model": "Model",
    "ForMaskedLM": "ForMaskedLM",
    "ForSequenceClassification": "ForSequenceClassification",
    "ForQuestionAnswering": "ForQuestionAnswering",
    "ForTokenClassification": "ForTokenClassification",
    "ForMultipleChoice": "ForMultipleChoice",
}
ENCODER_DECODER_HEADS = {"Model": "EncoderDecoderModel", "ForConditionalGeneration": "ForConditionalGeneration"}
# What names of parameters begin with in our models, outside their heads; in all others with "longformer.".
BASES = {"Model": "", "EncoderDecoderModel": "", "ForConditionalGeneration": "model."}
DEFAULT_LENGTH = 4096  # tokens
Renames = tuple[tuple[str, str], ...]


def base_of(head: str) -> str:
    """What names of parameters begin with in our model with a head, outside the head."""
    return BASES.get(head, "longformer.")


def as_it_is(config: dict[str, Any]) -> dict[str, Any]:
    """A config.json that needs no change."""
    return config


@dataclass(frozen=True)
class SourceFamily:
    """One family of source checkpoints.

    Args:
        model_type: As in the source's config.json.
        class_prefix: Of its classes in Transformers, or in this package.
        base_prefix: What its heads call the encoder, in parameter names.
        counts_from_padding: Whether its positions begin at `pad_token_id + 1`, with special rows in front. Otherwise
            they begin at `first_row`, and `pad_token_id + 1` rows are put in front of an encoder's.
        first_row: Of its position tables, the row of the first token; config.json does not count those in front.
        default_length: Tokens that the result takes where nobody asks for a number.
        to_config: Of an encoder-decoder, what makes our configuration of its own.
        pads_to_windows: Whether it pads texts to a whole window before their positions are looked up.
        is_long: Whether it has windows and global projections of its own, which are kept.
        fields: Fields of our configuration and what the source calls them, where the names differ.
        values: Per head (`""` for all), fields of our configuration for which the source has no name.
        needs: Per head, fields of the source's configuration and the only value that the head can be converted with.
        names: Regular expressions on parameter names inside the encoder, and what they become; all are applied.
        head_names: Per head, regular expressions on whole parameter names, and what they become; the first that fits
            is taken. Names that none fits stay what they are.
        class_endings: Heads of ours, and endings of its classes, where they are not the same.
        other_heads: Further endings of class names, and the heads they become.
        other_prefixes: Further beginnings of class names that config.json may have.
        prepare: Makes a config.json of another age or kind one that Transformers reads.
        key_mapping: For `from_pretrained`, where parameter names are not those of the class.
    """

    model_type: str
    class_prefix: str
    base_prefix: str
    counts_from_padding: bool
    is_long: bool = False
    first_row: int = 0
    default_length: int = DEFAULT_LENGTH
    to_config: Callable[[Any], HfLongformerEncoderDecoderConfig] | None = None
    pads_to_windows: bool = False
    class_endings: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    needs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: Renames = ()
    head_names: Mapping[str, Renames] = field(default_factory=dict)
    other_heads: Mapping[str, str] = field(default_factory=dict)
    other_prefixes: tuple[str, ...] = ()
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = as_it_is
    key_mapping: Mapping[str, str] | None = None

    @property
    def heads(self) -> dict[str, str]:
        """Every ending of a class name that can be converted, and the head it becomes."""
        return ENCODER_DECODER_HEADS if self.is_encoder_decoder else {**HEADS, **self.other_heads}

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether it has a decoder, which stays what it is."""
        return self.to_config is not None

    def class_of(self, head: str) -> str:
        """The name of its class with a head of ours."""
        return self.class_prefix + self.class_endings.get(head, head)

    def target_name(self, name: str, head: str) -> str:
        """The name in our model, with `head`, of a parameter of the source."""
        base = base_of(head)
        if not name.startswith(f"{self.base_prefix}.") and self._is_in_encoder(name):  # saved without a head
            name = f"{self.base_prefix}.{name}"
        for old, new in self.head_names.get(head, ()):
            if re.match(old, name):
                return re.sub(old, new, name)
        if not name.startswith(f"{self.base_prefix}."):
            return name
        inside = name.removeprefix(f"{self.base_prefix}.")
        for old, new in self.names:
            inside = re.sub(old, new, inside)
        return base + inside

    def _is_in_encoder(self, name: str) -> bool:
        inside = ("embeddings.", "embeddings_project.", "encoder.", "transformer.", "pooler.", "shared.", "decoder.")
        return name.startswith(inside)
