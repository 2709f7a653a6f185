# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer page`: a page on which documents are read with what was predicted of them."""

from pathlib import Path
from typing import Annotated

import typer

from .options import LineFormat, Overwrite
from .terminal import quiet


def page(
    documents: Annotated[str, typer.Argument(help="What `predict` read; - for standard input.")],
    results: Annotated[Path, typer.Argument(help="The JSON lines that `predict` wrote.")],
    output: Annotated[Path, typer.Argument(help="The HTML file to write.")],
    text_column: Annotated[str, typer.Option(help="What holds the document.")] = "text",
    text_pair_column: Annotated[
        str, typer.Option(help="What holds the second text, where there is one.")
    ] = "text_pair",
    tokens_column: Annotated[
        str, typer.Option(help="What holds the words of the document, where these were given.")
    ] = "tokens",
    question_column: Annotated[str, typer.Option(help="What holds the question, for qa.")] = "question",
    context_column: Annotated[str, typer.Option(help="What holds the document, for qa.")] = "context",
    evidence_folder: Annotated[
        str | None, typer.Option(help="With the documents of a file of TriviaQA, for qa.")
    ] = None,
    format: LineFormat = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a page on which documents are read with what was predicted of them marked in the text.

    Clusters of mentions, entities, answers, labels. The page is one file that needs no network; a click on a mark, or
    the keys n and p, walk along what belongs together.
    """
    from hf_longformer.finetune.page import write_page

    quiet()
    columns = {"text": text_column, "text_pair": text_pair_column, "tokens": tokens_column}
    columns |= {"question": question_column, "context": context_column}
    report = write_page(
        documents,
        results,
        output,
        format=format,
        columns=columns,
        evidence_folder=evidence_folder,
        overwrite=overwrite,
    )
    failed = f", {report['failed']:,} of them with an error" if report["failed"] else ""
    without = f", {report['without']:,} of them without a result" if report["without"] else ""
    empty = f", {report['empty']:,} entities without characters not marked" if report["empty"] else ""
    counted = f"{report['documents']:,} documents{failed}{without}, {report['marks']:,} marks{empty}"
    typer.echo(f"{counted}, in {output} ({report['bytes'] / 1e6:,.1f} MB)")
