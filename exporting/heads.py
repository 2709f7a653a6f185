# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What of each head an exported file takes and gives, and which heads cannot be exported, with the reason."""

from typing import Any

from transformers import PreTrainedConfig

from hf_longformer.conversion import InputError

TEXTS, CHOICES = ("batch", "length"), ("batch", "choices", "length")
TOKEN_TYPES, GLOBAL = "token_type_ids", "global_attention_mask"

# Heads with the dimensions of their inputs; all of them are free when the file runs.
HEADS = {
    "Model": TEXTS,
    "ForMaskedLM": TEXTS,
    "ForSequenceClassification": TEXTS,
    "ForTokenClassification": TEXTS,
    "ForQuestionAnswering": TEXTS,
    "ForMultipleChoice": CHOICES,
}
REFUSED = {
    "ForCausalLM": "what generation keeps of the text before, windows of many widths, is not part of a graph",
    "ForCoreference": "how many mentions a text has is decided while it is read",
    "ForEvidenceQuestionAnswering": "it needs the places of sentences and paragraphs besides the text",
    "ForConditionalGeneration": "an encoder-decoder is three graphs and a loop that writes",
    "EncoderDecoderModel": "an encoder-decoder is two graphs",
}


def head_of(config: PreTrainedConfig) -> str:
    """The head that a checkpoint has, one of `HEADS`.

    Raises:
        InputError: If it cannot be exported, or there is no such head.
    """
    head = str((config.architectures or [""])[0]).removeprefix("HfLongformer")
    if head in REFUSED:
        raise InputError(
            f"HfLongformer{head} cannot be exported to a graph: {REFUSED[head]}: run it in PyTorch, or export one of "
            f"{', '.join(HEADS)}"
        )
    if head == "Model" and getattr(config, "is_decoder", False):
        raise InputError(f"a causal model cannot be exported to a graph: {REFUSED['ForCausalLM']}")
    if head not in HEADS:
        raise InputError(f"the head must be one of {', '.join(HEADS)}, got {head or 'none'} in config.json")
    return head


def input_dimensions(config: Any, with_global_mask: bool) -> dict[str, tuple[str, ...]]:
    """Names of the inputs of an exported file, each an int64 tensor, and of their dimensions.

    Args:
        config: Of the checkpoint.
        with_global_mask: Whether `global_attention_mask` is one of them; if not, the model's own choice of global
            tokens is part of the graph.
    """
    names = ["input_ids", "attention_mask"]
    if config.type_vocab_size > 1:
        names.append(TOKEN_TYPES)
    if with_global_mask:
        names.append(GLOBAL)
    return dict.fromkeys(names, HEADS[head_of(config)])


__all__ = ["GLOBAL", "HEADS", "REFUSED", "TOKEN_TYPES", "head_of", "input_dimensions"]
