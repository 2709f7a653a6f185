# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer serve`: a checkpoint over HTTP."""

from typing import Annotated

import typer

from .options import Backend, Checkpoint, Dtype, LocalFilesOnly, MaxLength, Stride, TokensPerBatch
from .terminal import quiet, refusal


def serve(
    checkpoint: Checkpoint,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where to listen; 0: any that is free.", min=0, max=65535)] = 8000,
    task: Annotated[
        str | None, typer.Option(help="A task of `predict`, or embeddings: what the checkpoint was trained for.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of `predict`; may be repeated.")
    ] = None,
    served_model_name: Annotated[str | None, typer.Option(help="What clients call the model: its name.")] = None,
    tokens_per_batch: TokensPerBatch = 16_384,
    max_length: MaxLength = None,
    stride: Stride = None,
    max_queue: Annotated[int, typer.Option(help="Texts that may wait; more are refused.", min=1)] = 2048,
    max_body: Annotated[float, typer.Option(help="Megabytes of a request.", min=0.001)] = 16.0,
    timeout: Annotated[float, typer.Option(help="Seconds in which a request is answered, or refused.", min=0.1)] = 60.0,
    stop_timeout: Annotated[int, typer.Option(help="Seconds for what was accepted, when told to stop.", min=0)] = 30,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="HF_LONGFORMER_API_KEY", help="What clients must know; better set in the environment."),
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="What is computed in.")] = Dtype.float32,
    device: Annotated[str | None, typer.Option(help="Where to compute: an accelerator if there is one.")] = None,
    backend: Annotated[Backend, typer.Option(help="What runs CHECKPOINT: its export.")] = Backend.torch,
    local_files_only: LocalFilesOnly = False,
) -> None:
    """Answer over HTTP: embeddings in OpenAI's form, or what `predict` says, in batches across requests.

    POST /v1/embeddings or /predict; GET /health, /metrics, /v1/models; a page at / where a document is pasted and read.
    Stops on SIGTERM when all requests that were accepted are answered.
    """
    from hf_longformer.serving.run import serve as serve_checkpoint

    quiet()
    options = dict(one.partition("=")[::2] for one in option or [])
    if without := [one for one in option or [] if "=" not in one]:
        raise refusal(f"--option must be NAME=VALUE, got {without[0]}")
    serve_checkpoint(
        checkpoint,
        host=host,
        port=port,
        name=served_model_name,
        task=task,
        options=options,
        tokens_per_batch=tokens_per_batch,
        max_seq_length=max_length,
        stride=stride,
        max_queue=max_queue,
        max_body=max_body,
        timeout=timeout,
        stop_timeout=stop_timeout,
        api_key=api_key,
        dtype=dtype.value,
        device=device,
        backend=backend.value,
        local_files_only=local_files_only,
        say=lambda line: typer.echo(line, err=True),
    )
