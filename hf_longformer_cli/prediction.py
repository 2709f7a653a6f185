# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer predict qa` and `classification`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import (
    Checkpoint,
    Dtype,
    Input,
    LineFormat,
    LocalFilesOnly,
    MaxLength,
    Output,
    Overwrite,
    Stride,
    TokensPerBatch,
)
from .terminal import quiet

predict = typer.Typer(help="Ask a fine-tuned checkpoint about documents, line by line.", no_args_is_help=True)


@predict.command("qa")
def predict_qa(
    checkpoint: Checkpoint,
    input: Input,
    output: Output,
    question_column: Annotated[str, typer.Option(help="What holds the question.")] = "question",
    context_column: Annotated[str, typer.Option(help="What holds the document.")] = "context",
    max_length: MaxLength = None,
    stride: Stride = None,
    n_best: Annotated[int, typer.Option(help="Answers per question.", min=1)] = 1,
    null_threshold: Annotated[
        float | None, typer.Option(help="How much likelier no answer must be to be chosen: the checkpoint's own.")
    ] = None,
    evidence_folder: Annotated[str | None, typer.Option(help="With the documents of a file of TriviaQA.")] = None,
    format: LineFormat = None,
    tokens_per_batch: TokensPerBatch = 16_384,
    dtype: Annotated[Dtype, typer.Option(help="What is computed in.")] = Dtype.float32,
    overwrite: Overwrite = False,
    local_files_only: LocalFilesOnly = False,
) -> None:
    """Answer questions about documents of any length. Exit code 1: a row could not be answered."""
    _predict(
        "qa",
        checkpoint,
        input,
        output,
        dtype,
        columns={"question": question_column, "context": context_column},
        max_seq_length=max_length,
        stride=stride,
        n_best=n_best,
        null_threshold=null_threshold,
        evidence=evidence_folder,
        format=format,
        tokens_per_batch=tokens_per_batch,
        overwrite=overwrite,
        local_files_only=local_files_only,
    )


@predict.command("classification")
def predict_classification(
    checkpoint: Checkpoint,
    input: Input,
    output: Output,
    text_column: Annotated[str, typer.Option(help="What holds the document.")] = "text",
    text_pair_column: Annotated[
        str, typer.Option(help="What holds the second text, where one is needed.")
    ] = "text_pair",
    max_length: MaxLength = None,
    overflow: Annotated[
        str | None,
        typer.Option(
            help="Longer documents: truncate, stride-mean or stride-max; the checkpoint's own, or stride-mean."
        ),
    ] = None,
    stride: Stride = None,
    format: LineFormat = None,
    tokens_per_batch: TokensPerBatch = 16_384,
    dtype: Annotated[Dtype, typer.Option(help="What is computed in.")] = Dtype.float32,
    overwrite: Overwrite = False,
    local_files_only: LocalFilesOnly = False,
) -> None:
    """Classify documents of any length, or predict a number for each. Exit code 1: a row could not be answered.

    A document is a text, or a list of paragraphs, which are joined with an empty line between them.
    """
    _predict(
        "classification",
        checkpoint,
        input,
        output,
        dtype,
        columns={"text": text_column, "text_pair": text_pair_column},
        max_seq_length=max_length,
        overflow=overflow,
        stride=stride,
        format=format,
        tokens_per_batch=tokens_per_batch,
        overwrite=overwrite,
        local_files_only=local_files_only,
    )


def _predict(task: str, checkpoint: str, input: str, output: Path, dtype: Dtype, **options: Any) -> None:
    from tqdm import tqdm

    from hf_longformer.finetune.predict import predict as predict_lines

    quiet()
    report = predict_lines(
        task,
        checkpoint,
        input,
        output,
        dtype=dtype.value,
        say=lambda line: tqdm.write(line, file=sys.stderr),
        **options,
    )
    resumed = f", {report['resumed']:,} of them before" if report["resumed"] else ""
    failed = f", {len(report['failed']):,} of them without a result" if report["failed"] else ""
    cut = f", {report['truncated']:,} of them cut" if report["truncated"] else ""
    cut += f" by {report['tokens_cut']:,} tokens in all" if cut else ""
    typer.echo(f"{report['lines']:,} lines{resumed}{failed}{cut}, in {output}")
    if cut and task == "classification":
        typer.echo("--overflow stride-mean or stride-max reads documents as a whole")
    if failed:
        raise typer.Exit(1)
