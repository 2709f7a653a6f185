# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Arguments and options that several commands have."""

import enum
from pathlib import Path
from typing import Annotated

import typer

Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub repository.")]
LocalFilesOnly = Annotated[bool, typer.Option("--local-files-only", help="Stay off the network.")]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Accept pickled weights, with PyTorch's restricted loader.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at OUTPUT.")]
Checkpoint = Annotated[str, typer.Argument(help="A fine-tuned checkpoint: a folder or a Hub name.")]
Input = Annotated[
    str,
    typer.Argument(
        help="JSON lines or a JSON list, CSV, TSV or Parquet; for qa also a file of SQuAD, TriviaQA or HotpotQA, for "
        "classification also a .txt file or a folder of them; - for standard input."
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        help="The file to write: JSON lines, .parquet or, of embeddings, an array .npy with its lines beside it; with "
        "--engine ray the folder of Parquet files.",
    ),
]
LongestInput = Annotated[
    str | None,
    typer.Option(
        metavar="TOKENS",
        help="Longest input: 4096 (BART, LED: 16384), or the source's if that is more. unlimited: texts of any "
        "length, the source's positions repeated while they are read.",
    ),
]
MaxLength = Annotated[int | None, typer.Option(help="Tokens at once: the checkpoint's own.", min=3)]
Stride = Annotated[int | None, typer.Option(help="Tokens that windows of one document share: the checkpoint's own.")]
LineFormat = Annotated[
    str | None, typer.Option("--format", help="jsonl, json, csv, tsv, parquet or txt, if not by the ending.")
]
TokensPerBatch = Annotated[int, typer.Option(help="Tokens at once, padding included.", min=1)]


class PositionInit(enum.StrEnum):
    """How position rows beyond the source's are made."""

    copy = "copy"
    interpolate = "interpolate"
    random = "random"


class Dtype(enum.StrEnum):
    """What weights are stored as, or computed with."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class ExportDtype(enum.StrEnum):
    """What an exported graph stores its weights as."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"
    int8_static = "int8-static"


class Backend(enum.StrEnum):
    """What computes."""

    torch = "torch"
    onnx = "onnx"
    openvino = "openvino"
    torch_export = "torch-export"
    executorch = "executorch"


class Engine(enum.StrEnum):
    """Where documents are read."""

    local = "local"
    ray = "ray"


class Format(enum.StrEnum):
    """What a checkpoint can be exported to."""

    transformers = "transformers"
    onnx = "onnx"
    openvino = "openvino"
    torch_export = "torch-export"
    executorch = "executorch"
    web = "web"
