# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Training and measuring with an index: what a model reads of it, and what is found for the texts."""

import sys
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from hf_longformer import HfLongformerConfig, HfLongformerForCausalLM
from hf_longformer.conversion import InputError
from hf_longformer.retrieval import Index, find_neighbours, open_index

from ..checkpoints import check_type, load_checkpoint
from .texts import Text

logger = logging.get_logger(__name__)


def open_for(folder: str | None, tokenizer: PreTrainedTokenizerBase) -> Index | None:
    """The index of `--retrieval_index`, whose tokens are those of a tokenizer.

    Raises:
        InputError: If there is no such index, it is damaged, or has other tokens.
    """
    if folder is None:
        return None
    index = open_index(folder)
    index.check_tokenizer(tokenizer)
    return index


def fields_of_retrieval(index: Index | None, asked: Any) -> dict[str, Any] | None:
    """`config.retrieval` for an index, with what a recipe says of it besides.

    Args:
        index: The index, if there is one.
        asked: The recipe's `retrieval:`.

    Raises:
        InputError: If the recipe says something without an index, or other chunks than the index has.
    """
    if not isinstance(asked, dict):
        raise InputError(f"retrieval: of a recipe must be a mapping, got {str(asked)[:80]}")
    if index is None:
        if asked:
            raise InputError(f"retrieval: of a recipe is of --retrieval_index, got {asked} without it")
        return None
    if asked.get("chunk_size", index.chunk_size) != index.chunk_size:
        raise InputError(f"the recipe's chunk_size must be the index's {index.chunk_size}, got {asked['chunk_size']}")
    return {"chunk_size": index.chunk_size, **asked}


def load_model(name: str, retrieval: dict[str, Any] | None) -> HfLongformerForCausalLM:
    """A trained model, which is given a memory if it has none and one is wanted: section 4.3 of RETRO's paper.

    Raises:
        InputError: If it cannot be loaded, or has another memory.
    """
    given: dict[str, Any] = {}
    if retrieval is not None and check_type(name, HfLongformerForCausalLM).get("retrieval") is None:
        layers = range(HfLongformerConfig.from_pretrained(name).num_hidden_layers)
        parts = ["neighbour_encoder", *(f"layer.{layer}.chunked_crossattention" for layer in layers)]
        given = {"retrieval": retrieval, "new": [f"longformer.encoder.{part}" for part in parts]}
    model, _, _ = load_checkpoint(HfLongformerForCausalLM, name, tokenizer=False, dtype=torch.float32, **given)
    known = model.config.retrieval_settings
    if retrieval is not None and (other := {**known, **retrieval}) != known:
        raise InputError(f"{name} has learned to read with {known}, got {other}")
    return model


def check_memory(index: Index | None, config: HfLongformerConfig, is_trained: bool) -> None:
    """Refuses a model and an index that do not go together.

    Raises:
        InputError: If they do not.
    """
    if index is not None:
        index.check_model(config)
    elif config.retrieval is not None:
        if is_trained:
            raise InputError(
                "this model reads what is found in an index, and would not learn to: give --retrieval_index, got none"
            )
        logger.warning("this model reads what is found in an index, and is measured without: no --retrieval_index")


def remember(
    index: Index | None, texts: dict[str, Text], config: HfLongformerConfig, measured: int | None
) -> dict[str, Any]:
    """Gives texts what is found for their chunks, none of it in a document that they hold.

    Args:
        index: Where; None: nowhere.
        texts: By split.
        config: Of the model.
        measured: Tokens of a text that are measured; None: all.

    Returns:
        What `results.json` says of it.
    """
    if index is None:
        return {}
    settings, excluded = config.retrieval_settings, {}
    for split, text in texts.items():
        ids = text.ids if split == "train" else text.ids[:measured]
        chunks, name = len(ids) // index.chunk_size, f"neighbours of {split}"
        sizes = (settings["neighbours"], settings["neighbour_length"])
        with tqdm(total=chunks, unit="chunk", desc=name, file=sys.stderr, leave=False) as bar:
            found = find_neighbours(index, ids, text.documents, *sizes, bar.update)
        text.neighbours, excluded[split] = found, found.excluded
    said = {"index": str(index.folder), "sha256": index.digest, "chunks": len(index), **settings}
    return {"retrieval": {**said, "not_looked_in": excluded}}
