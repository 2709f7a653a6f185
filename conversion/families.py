# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What differs between source families: a table. Everything else about conversion is common to all."""

from dataclasses import dataclass, field
from typing import Any

from .errors import InputError

# Ending of a class name → the head it becomes. Heads that are not here cannot be converted.
HEADS = {
    "Model": "Model",
    "ForMaskedLM": "ForMaskedLM",
    "ForPreTraining": "ForMaskedLM",  # the next-sentence head has no counterpart and is dropped
    "ForSequenceClassification": "ForSequenceClassification",
    "ForQuestionAnswering": "ForQuestionAnswering",
    "ForTokenClassification": "ForTokenClassification",
    "ForMultipleChoice": "ForMultipleChoice",
}


@dataclass(frozen=True)
class SourceFamily:
    """One family of source checkpoints.

    Args:
        model_type: As in the source's config.json.
        class_prefix: Of its classes in Transformers.
        base_prefix: What its heads call the encoder, in parameter names.
        counts_from_padding: Whether its positions begin at `pad_token_id + 1`, with special rows in front. Otherwise
            they begin at row 0, and `pad_token_id + 1` rows are put in front.
        renames: Per head, beginnings of parameter names and what they become; the first that fits is taken.
    """

    model_type: str
    class_prefix: str
    base_prefix: str
    counts_from_padding: bool
    renames: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    def target_name(self, name: str, head: str) -> str:
        """The name in our model of a parameter of the source."""
        for old, new in (*self.renames.get(head, ()), (f"{self.base_prefix}.", "longformer.")):
            if name.startswith(old):
                return new + name.removeprefix(old)
        return name


FAMILIES = {
    family.model_type: family
    for family in (
        SourceFamily("roberta", "Roberta", "roberta", counts_from_padding=True),
        SourceFamily(
            "bert",
            "Bert",
            "bert",
            counts_from_padding=False,
            renames={
                "ForMaskedLM": (
                    ("cls.predictions.transform.dense.", "lm_head.dense."),
                    ("cls.predictions.transform.LayerNorm.", "lm_head.layer_norm."),
                    ("cls.predictions.decoder.", "lm_head.decoder."),
                    ("cls.predictions.bias", "lm_head.bias"),
                ),
                # BERT classifies by its pooler and one layer more, which is what RoBERTa's head is.
                "ForSequenceClassification": (
                    ("bert.pooler.dense.", "classifier.dense."),
                    ("classifier.", "classifier.out_proj."),
                ),
            },
        ),
    )
}


def find_family(config: dict[str, Any]) -> SourceFamily:
    """The family of a source by its config.json.

    Raises:
        InputError: If the family is not supported, or the model has something that ours has not.
    """
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise InputError(
            f"model_type must be one of the supported families ({', '.join(sorted(FAMILIES))}), got {model_type!r}"
        )
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise InputError("only encoders can be converted, got a source with is_decoder or add_cross_attention set")
    position_type = config.get("position_embedding_type") or "absolute"
    if position_type != "absolute":
        raise InputError(
            f"only learned absolute positions can be extended, got position_embedding_type={position_type!r}"
        )
    return FAMILIES[model_type]


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
        InputError: If there is no such head, or config.json does not say which.
    """
    if architecture == "auto":
        named = config.get("architectures") or []
        if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
            raise InputError(f"config.json must name one architecture, got {named!r}: choose one with --architecture")
        architecture = named[0]
    ending = architecture.removeprefix("HfLongformer").removeprefix(family.class_prefix)
    if ending not in HEADS:
        supported = ", ".join(family.class_prefix + name for name in HEADS)
        raise InputError(f"architecture must be one of {supported}, got {architecture!r}")
    if ending == "ForMaskedLM" and config.get("hidden_act", "gelu") != "gelu" and family.model_type == "bert":
        raise InputError(
            "a BERT language model can be converted with hidden_act='gelu' only, which the new head has, "
            f"got {config['hidden_act']!r}: --architecture {family.class_prefix}Model converts the encoder alone"
        )
    return family.class_prefix + HEADS[ending], HEADS[ending]
