# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer convert`, `verify`, `export` and `sync-global`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import (
    AllowPickle,
    Dtype,
    ExportDtype,
    Format,
    LocalFilesOnly,
    LongestInput,
    Overwrite,
    PositionInit,
    Revision,
)
from .terminal import quiet, refusal, show_checks, steps


def convert(
    source: Annotated[str, typer.Argument(help="A RoBERTa-, BERT- or BART-like checkpoint: a folder or a Hub name.")],
    output: Annotated[Path, typer.Argument(help="The folder to write.")],
    max_length: LongestInput = None,
    attention_window: Annotated[
        int | None,
        typer.Option(help="Total width of the window, both sides together: the source's own, or 512 (BART: 1024)."),
    ] = None,
    attention_dilation: Annotated[
        int | None, typer.Option(help="Distance between keys of the window: the source's own, or 1 = no gaps.")
    ] = None,
    position_init: Annotated[PositionInit, typer.Option(help="Rows beyond the source's.")] = PositionInit.copy,
    architecture: Annotated[str, typer.Option(help="The class to convert, if not the source's own.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Dtype of the result, if not the source's.")] = Dtype.auto,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Write without proving the result.")] = False,
    eval_text: Annotated[
        Path | None, typer.Option(help="Measure bits per character on this text before and after (language models).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    overwrite: Overwrite = False,
    revision: Revision = None,
    local_files_only: LocalFilesOnly = False,
    allow_pickle: AllowPickle = False,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="REPO", help="Upload the result to this repository.")
    ] = None,
) -> None:
    """Turn a checkpoint for 512 tokens into a Longformer for 4,096, and prove that nothing was lost. An encoder-decoder
    for 1,024 tokens becomes one for 16,384.
    """
    from hf_longformer import conversion

    if push_to_hub is not None and no_verify:
        raise refusal("--push-to-hub uploads what was proven: leave out --no-verify")
    with steps(3 + 5 * (not no_verify) + 3 * (eval_text is not None)) as progress:
        report = conversion.convert(
            source,
            output,
            max_length=_length(max_length),
            attention_window=attention_window,
            attention_dilation=attention_dilation,
            position_init=position_init.value,
            architecture=architecture,
            dtype=dtype.value,
            check=not no_verify,
            eval_text=eval_text,
            dry_run=dry_run,
            overwrite=overwrite,
            revision=revision,
            local_files_only=local_files_only,
            allow_pickle=allow_pickle,
            progress=progress,
        )
    if dry_run:
        typer.echo("\n".join(conversion.plan_lines(report)))
        return
    show_checks(report)
    typer.echo("\n".join(conversion.result_lines(report, output)))
    if push_to_hub is not None:
        typer.echo(f"uploaded to {conversion.push(output, push_to_hub)}")


def _length(given: str | None) -> int | str | None:
    length = int(given) if given is not None and given.isdecimal() else given
    if length == 0:
        raise refusal("--max-length must be at least 1, got 0")
    return length


def verify(
    source: Annotated[str, typer.Argument(help="What was converted: a folder or a Hub name.")],
    converted: Annotated[Path, typer.Argument(help="The result of the conversion.")],
    position_init: Annotated[PositionInit, typer.Option(help="As it was converted.")] = PositionInit.copy,
    revision: Revision = None,
    local_files_only: LocalFilesOnly = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Prove that a checkpoint is a faithful conversion of its source."""
    from hf_longformer import conversion

    with steps(6) as progress:
        report = conversion.verify(
            source,
            converted,
            position_init=position_init.value,
            revision=revision,
            local_files_only=local_files_only,
            allow_pickle=allow_pickle,
            progress=progress,
        )
    show_checks(report)


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of this package.")],
    output: Annotated[Path, typer.Argument(help="The folder to write.")],
    format: Annotated[Format, typer.Option("--format", help="The format to write.")] = Format.transformers,
    dtype: Annotated[
        ExportDtype | None,
        typer.Option(help="Of a graph, what its weights are stored as; int8-static: with scales measured beforehand."),
    ] = None,
    global_attention_mask: Annotated[
        bool,
        typer.Option(
            "--global-attention-mask",
            help="Of a graph, make this mask an input, in the place of the model's own choice of global tokens.",
        ),
    ] = False,
    eval_text: Annotated[
        Path | None, typer.Option(help="The text file that scales, and what fewer bits cost, are measured on.")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Of a checkpoint for texts of any length: for how many tokens to write it out.", min=1),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a checkpoint that plain Transformers loads as `longformer`, or an encoder-decoder as `led`; or a graph that
    runs without PyTorch.
    """
    if format is not Format.transformers:
        if max_length is not None:
            raise refusal("--max-length is of --format transformers: a graph reads what the checkpoint reads")
        chosen = (dtype or ExportDtype.float32).value
        options = {"dtype": chosen, "global_attention_mask": global_attention_mask, "eval_text": eval_text}
        _export_graph(checkpoint, output, format=format.value, overwrite=overwrite, **options)
        return
    from hf_longformer import conversion

    if global_attention_mask or dtype is not None or eval_text is not None:
        raise refusal("--dtype, --eval-text and --global-attention-mask are of graphs: choose one with --format")
    quiet()
    report = conversion.export(checkpoint, output, format=format.value, max_length=max_length, overwrite=overwrite)
    typer.echo(f"{report['model_class']} in {output}; largest difference of outputs {report['largest_difference']:.2g}")
    for note in report["notes"]:
        typer.echo(note)


def _export_graph(checkpoint: Path, output: Path, **options: Any) -> None:
    from hf_longformer.conversion.describe import longest_text
    from hf_longformer.exporting import export as export_graph

    with steps(2) as progress:
        report = export_graph(checkpoint, output, progress=progress, **options)
    show_checks(report)
    if (loss := report["loss"]) is not None:
        changed = f"{loss['changed']:,} of {loss['of']:,} {loss['unit']} are others than in PyTorch"
        typer.echo(f"{changed}, {loss['changed_by_batch']:,} depend on the batch ({loss['texts']:,} sentences)")
    size = f"{report['dtype']}, {longest_text(report)}, {report['bytes'] / 1e6:,.1f} MB"
    typer.echo(f"{report['model_class']} as {report['format']}, {size}, in {output}")


def sync_global(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of this package.")],
    output: Annotated[
        Path | None, typer.Argument(help="The folder to write; without it, the checkpoint itself is replaced.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy the local projections onto the global ones, as is due after training on masked words."""
    from hf_longformer import conversion

    quiet()
    report = conversion.sync_global(checkpoint, output, overwrite=overwrite)
    typer.echo(f"{report['changed']} of {report['weights']} global projections changed, in {output or checkpoint}")
