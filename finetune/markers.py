# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Marker tokens, which say where the parts of a text begin and end."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_longformer.conversion import InputError


def add_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, markers: Sequence[str]) -> None:
    """Gives tokenizer and model marker tokens, if they do not have them.

    New embeddings are drawn from the distribution of the old ones, as Transformers has it.

    Args:
        model: Changed in place.
        tokenizer: Changed in place.
        markers: What they are called.
    """
    tokenizer.add_special_tokens({"extra_special_tokens": list(markers)}, replace_extra_special_tokens=False)
    embeddings: Any = model.get_input_embeddings()
    needed = max(ids_of(tokenizer, markers)) + 1
    if needed > len(embeddings.weight):  # some models have rows to spare
        model.resize_token_embeddings(needed)


def ids_of(tokenizer: PreTrainedTokenizerBase, markers: Sequence[str]) -> list[int]:
    """The ids of marker tokens."""
    return [int(tokenizer.get_vocab()[marker]) for marker in markers]


def check_markers(tokenizer: PreTrainedTokenizerBase, markers: Sequence[str], task: str) -> None:
    """Refuses a tokenizer without the marker tokens of a task.

    Raises:
        InputError: If it lacks any.
    """
    if missing := [marker for marker in markers if marker not in tokenizer.get_vocab()]:
        raise InputError(f"the tokenizer must have the markers of {task}, got none of {', '.join(missing)}")
