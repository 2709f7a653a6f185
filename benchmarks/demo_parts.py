# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What the demonstrations share: conversion with its proof, time and memory beside peers, a picture."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from hf_longformer.conversion import check_lines, convert, export
from hf_longformer.drawing import draw_patterns, figure_2_panels

from .measure import alternate, bare, machine
from .peers import make_dense_peer

SOURCE_LENGTH, MAX_LENGTH, ATTENTION_WINDOW = 512, 4096, 512


def convert_and_show(source: Path, checkpoint: Path, echo: Callable[[str], Any], **options: Any) -> dict[str, Any]:
    """Converts, shows what was checked, and returns the report.

    Args:
        source: A checkpoint.
        checkpoint: The folder to write.
        echo: Called with every line of text to show.
        **options: For `convert`.
    """
    sizes: dict[str, Any] = {"max_length": MAX_LENGTH, "attention_window": ATTENTION_WINDOW}
    report = convert(source, checkpoint, **sizes, overwrite=True, **options)
    for line in check_lines(report["checks"]):
        echo(f" {line}")
    return report


def draw_and_say_goodbye(number: int, checkpoint: Path, echo: Callable[[str], Any]) -> None:
    """Draws attention patterns beside a checkpoint, and says where everything is.

    Args:
        number: Of the heading.
        checkpoint: What was made.
        echo: Called with every line of text to show.
    """
    picture = checkpoint.parent / "attention-patterns.png"
    draw_patterns(figure_2_panels(48, 8, 2, [0, 20]), 48, picture)
    echo(f"\n{number}. What attends to what: {picture}\n")
    echo(f"The model is in {checkpoint}; its card is {checkpoint / 'README.md'}. Convert your own:\n")
    echo("   hf-longformer convert YOUR-ROBERTA-OR-BERT my-longformer --max-length 4096")


def compare_with_peers(source: Path, checkpoint: Path, tokens: int, echo: Callable[[str], Any]) -> None:
    """Shows time and memory of a converted checkpoint, and of the same weights in stock and in dense models.

    Args:
        source: What was converted.
        checkpoint: What it was converted to.
        tokens: Of the text that is read.
        echo: Called with every line of text to show.
    """
    dense = "dense RoBERTa" if AutoConfig.from_pretrained(source).model_type == "roberta" else "dense BERT"
    with tempfile.TemporaryDirectory() as name:
        export(checkpoint, Path(name, "stock"))
        make_dense_peer(source, Path(name, "dense"), MAX_LENGTH)
        folders = {
            "hf-longformer": checkpoint,
            "stock Longformer": Path(name, "stock"),
            dense: Path(name, "dense"),
        }
        models = {
            peer: AutoModel.from_pretrained(folder, dtype=torch.float32).eval() for peer, folder in folders.items()
        }
    generator = torch.Generator().manual_seed(0)
    vocabulary = models[dense].config.vocab_size
    inputs = {"input_ids": torch.randint(5, vocabulary, (1, tokens), generator=generator)}
    with_global = {**inputs, "global_attention_mask": torch.nn.functional.one_hot(torch.tensor([0]), tokens)}
    steps: dict[str, Callable] = {
        peer: partial(model, **(inputs if peer == dense else with_global)) for peer, model in models.items()
    }
    with torch.inference_mode():
        results = alternate({peer: partial(bare, step) for peer, step in steps.items()}, torch.device("cpu"))
    ours = results["hf-longformer"]["seconds"]
    for peer, result in results.items():
        echo(
            f"   {peer:17s} {result['seconds']:6.2f} s  ({result['seconds'] / ours:4.1f} × ours)   "
            f"peak {result['peak_megabytes']:6.0f} MiB above the loaded model"
        )
    facts = machine()
    echo(
        f"   {facts['threads']} threads of {facts['processor']}, torch {facts['versions']['torch']}, "
        "medians of 3 passes, in turns"
    )
