# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Copying the local projections onto the global ones, which training without global tokens leaves behind."""

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hf_longformer.model_cards import GLOBAL_PROJECTIONS

from .errors import InputError
from .files import check_output, new_folder, read_json, write_json
from .source import load_converted_config
from .weights import SAFETENSORS_INDEX, Weights, local_names

CARD_LINE = re.compile(r"^\| global projections \|.*\|$", re.MULTILINE)


def sync_global(checkpoint: str | Path, output: str | Path | None = None, *, overwrite: bool = False) -> dict[str, Any]:
    """Copies query, key and value of every layer onto its global projections, and records it in config and card.

    Training on masked words has no global tokens, so it moves the local projections and not the global ones; what is
    fine-tuned afterwards should start with both alike (section 5 of arXiv 2004.05150).

    Args:
        checkpoint: A folder with a checkpoint of this package. All its files are taken over.
        output: The folder to write: it appears whole, or not at all. None: the checkpoint itself is replaced.
        overwrite: Whether to replace a checkpoint at `output`.

    Returns:
        `weights`, how many were written, and `changed`, how many of them were different before.

    Raises:
        InputError: If the checkpoint or the output cannot be used.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        raise InputError(f"CHECKPOINT must be a folder, got {checkpoint}")
    load_converted_config(folder)
    target = folder.resolve() if output is None else Path(output)
    if output is not None:
        check_output(target, overwrite, folder)
    weights = Weights(folder)
    origins = local_names(weights)
    if not origins or not set(origins.values()) <= weights.keys():
        raise InputError(f"{folder} must hold global and local projections, got {len(origins)} global ones")
    changed = sum(not torch.equal(weights.read(name), weights.read(origin)) for name, origin in origins.items())
    with new_folder(target) as new:
        _copy_rest(folder, new, [file.name for file in weights.files])
        for file in weights.files:
            with safe_open(file, framework="pt") as stored:
                metadata = stored.metadata()
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
            tensors |= {name: weights.read(origins[name]).clone() for name in tensors if name in origins}
            save_file(tensors, new / file.name, metadata=metadata)
        _record(new)
    return {"weights": len(origins), "changed": changed}


def _copy_rest(folder: Path, new: Path, without: list[str]) -> None:
    for file in sorted(folder.iterdir()):
        if file.is_dir():
            shutil.copytree(file, new / file.name)
        elif file.name not in without or file.name == SAFETENSORS_INDEX:
            shutil.copyfile(file, new / file.name)


def _record(folder: Path) -> None:
    for name in ("config.json", "conversion_report.json"):
        if (folder / name).exists():
            content = read_json(folder / name)
            encoder = content.get("encoder")  # of an encoder-decoder
            (encoder if isinstance(encoder, dict) else content)["global_projections"] = "synced"
            write_json(folder / name, content)
    card = folder / "README.md"
    if card.exists():
        line = f"| global projections | {GLOBAL_PROJECTIONS['synced']} |"
        text = card.read_text(encoding="utf-8")
        text = CARD_LINE.sub(line, text) if CARD_LINE.search(text) else f"{text.rstrip()}\n\n| | |\n|---|---|\n{line}\n"
        card.write_text(text, encoding="utf-8")
