# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The same encoder three times over: ours, stock Longformer, and dense attention at the full length."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel

from hf_longformer.conversion import convert, export
from hf_longformer.conversion.plan import extend_positions


def make_dense_peer(source: str | Path, folder: Path, max_length: int) -> None:
    """Writes a BERT encoder whose positions are repeated up to `max_length`, with its own dense attention.

    Args:
        source: A folder with a BERT encoder.
        folder: The folder to write.
        max_length: Tokens.
    """
    model = AutoModel.from_pretrained(source, local_files_only=True)
    config = AutoConfig.from_pretrained(source, local_files_only=True, max_position_embeddings=max_length)
    state = model.state_dict()
    name = "embeddings.position_embeddings.weight"
    state[name] = extend_positions(state[name], 0, 0, max_length)
    longer = AutoModel.from_config(config, dtype=model.dtype)
    longer.load_state_dict(state)
    longer.save_pretrained(folder)


def make_peers(source: str | Path, folder: Path, length: int, attention_window: int) -> dict[str, Path]:
    """Converts a BERT encoder, exports it, and makes its dense peer: name to checkpoint folder."""
    folders = {"hf-longformer": folder / "ours", "stock Longformer": folder / "stock", "dense BERT": folder / "dense"}
    convert(source, folders["hf-longformer"], max_length=length, attention_window=attention_window, check=False)
    export(folders["hf-longformer"], folders["stock Longformer"])
    make_dense_peer(source, folders["dense BERT"], length)
    return folders


def make_random_source(folder: Path) -> None:
    """Writes a BERT encoder of base size with random weights: speed does not depend on them."""
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model("bert", architectures=["BertModel"])).save_pretrained(folder)
