# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer predict …`: a command for every task that can be asked."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from .installed import read
from .options import (
    Backend,
    Checkpoint,
    Dtype,
    Engine,
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
NEEDED = {"checkpoint": Checkpoint, "input": Input, "output": Output}
SHARED: dict[str, tuple[Any, Any]] = {
    "format": (LineFormat, None),
    "tokens_per_batch": (TokensPerBatch, 16_384),
    "dtype": (Annotated[Dtype, typer.Option(help="What is computed in.")], Dtype.float32),
    "backend": (Annotated[Backend, typer.Option(help="What runs CHECKPOINT: its export.")], Backend.torch),
    "engine": (
        Annotated[Engine, typer.Option(help="This process, or Ray: the cluster of RAY_ADDRESS, if that is set.")],
        Engine.local,
    ),
    "workers": (
        Annotated[int | None, typer.Option(help="Processes on Ray: one per GPU, or else per CPU.", min=1)],
        None,
    ),
    "cpus_per_worker": (Annotated[int | None, typer.Option(help="CPUs, and threads, of each: 1.", min=1)], None),
    "rows_per_file": (Annotated[int | None, typer.Option(help="Rows of a file that Ray writes: 256.", min=1)], None),
    "overwrite": (Overwrite, False),
    "local_files_only": (LocalFilesOnly, False),
}
ON_RAY = ("workers", "cpus_per_worker", "rows_per_file")  # what is left out is chosen there
DOCUMENTS = "A document is a text, or a list of paragraphs, which are joined with an empty line between them."


def _parameters(prediction: Any) -> Iterator[inspect.Parameter]:
    """The arguments and options of a task's command, as a function would have them."""

    def parameter(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)

    for name, kind in NEEDED.items():
        yield parameter(name, kind)
    for name, text in prediction.columns.items():
        yield parameter(f"{name}_column", Annotated[str, typer.Option(help=text)], name)
    yield parameter("max_length", MaxLength, None)
    yield parameter("stride", Stride, None)
    for name, option in prediction.options.items():
        option_of = typer.Option(help=option.help, min=option.least)
        yield parameter(name, Annotated[option.kind | None, option_of], None)
    for name, (annotation, default) in SHARED.items():
        yield parameter(name, annotation, default)


def _add_command(task: str, prediction: Any) -> None:
    def run(**given: Any) -> None:
        columns = {name: given.pop(f"{name}_column") for name in prediction.columns}
        _predict(task, **given, columns=columns, hint=prediction.hint)

    signature = inspect.Signature([*_parameters(prediction)])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
    help = f"{prediction.help} Exit code 1: a row could not be answered.\n\n{DOCUMENTS}"
    predict.command(task, help=help)(run)


def _predict(
    task: str,
    checkpoint: str,
    input: str,
    output: Path,
    dtype: Dtype,
    backend: Backend,
    engine: Engine,
    max_length: int | None,
    hint: str,
    **options: Any,
) -> None:
    from tqdm import tqdm

    from hf_longformer.finetune.predict import predict as predict_lines

    quiet()
    on_ray = {name: value for name in ON_RAY if (value := options.pop(name)) is not None}
    report = predict_lines(
        task,
        checkpoint,
        input,
        output,
        dtype=dtype.value,
        backend=backend.value,
        engine=engine.value,
        on_ray=on_ray,
        max_seq_length=max_length,
        say=lambda line: tqdm.write(line, file=sys.stderr),
        **options,
    )
    resumed = f", {report['resumed']:,} of them before" if report["resumed"] else ""
    failed = f", {len(report['failed']):,} of them without a result" if report["failed"] else ""
    cut = f", {report['truncated']:,} of them cut" if report["truncated"] else ""
    cut += f" by {report['tokens_cut']:,} tokens in all" if cut else ""
    typer.echo(f"{report['lines']:,} lines{resumed}{failed}{cut}, in {output}")
    if cut and hint:
        typer.echo(hint)
    if failed:
        raise typer.Exit(1)


for _name, _prediction in read("finetune/tasks")["ANSWERED"].items():
    _add_command(_name, _prediction)
