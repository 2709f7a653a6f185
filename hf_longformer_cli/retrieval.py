# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer index build` and `index search`: the memory of a causal model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import Overwrite
from .terminal import quiet, refusal

index = typer.Typer(
    help="Build an index of documents that a causal model reads while it predicts, and look what is found in it.",
    no_args_is_help=True,
)
Corpus = Annotated[
    Path, typer.Argument(help="A .txt file, a folder of them, or JSON lines with text and id: a document each.")
]
ENCODER_HELP = "A converted sentence encoder, a folder or a Hub name, which embeds chunks."
TOKENIZER_HELP = "Of the causal model that will read them: bytes, a folder or a Hub name."


@index.command("build")
def build(
    corpus: Corpus,
    output: Annotated[Path, typer.Argument(metavar="INDEX", help="The folder to write.")],
    encoder: Annotated[str, typer.Option("--encoder", help=ENCODER_HELP)],
    tokenizer: Annotated[str, typer.Option("--tokenizer", "--model", help=TOKENIZER_HELP)] = "bytes",
    chunk_size: Annotated[int, typer.Option("--chunk_size", "--chunk-size", help="Tokens of a chunk.", min=1)] = 64,
    overwrite: Overwrite = False,
) -> None:
    """Cut documents into chunks, embed these, and write an index of them, whole or not at all."""
    from tqdm import tqdm

    from hf_longformer.retrieval import build_index

    quiet()
    with tqdm(unit="chunk", file=sys.stderr, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        record = build_index(
            corpus,
            output,
            encoder=encoder,
            tokenizer=tokenizer,
            chunk_size=chunk_size,
            overwrite=overwrite,
            progress=progress,
        )
    cut = f"; of {record['cut']:,} the encoder read the beginning only" if record["cut"] else ""
    typer.echo(
        f"wrote {record['chunks']:,} chunks of {len(record['documents']):,} documents, {chunk_size} tokens each, "
        f"to {output}{cut}"
    )


@index.command("search")
def search(
    folder: Annotated[Path, typer.Argument(metavar="INDEX", help="What `index build` wrote.")],
    text: Annotated[str, typer.Argument(help="What to look for.")],
    number: Annotated[int, typer.Option("-k", "--neighbours", help="How many to show.", min=1)] = 5,
) -> None:
    """Show the chunks that are nearest to a text, each with what follows it."""
    import numpy as np

    from hf_longformer.retrieval import open_index
    from hf_longformer.retrieval.index import embed_texts

    quiet()
    if not text.strip():
        raise refusal("a text to look for is needed, got none")
    opened = open_index(folder)
    embeddings, cut = embed_texts([text], opened.embedder)
    found, scores = opened.search(embeddings, number)
    if cut:
        typer.echo("the text is longer than the encoder reads: its beginning was looked for", err=True)
    there = [(int(chunk), float(score)) for chunk, score in zip(found[0], scores[0], strict=True) if chunk >= 0]
    for chunk, score in there:
        ids, is_there = opened.neighbours(np.array([chunk]), 2 * opened.chunk_size)
        size = min(opened.chunk_size, int(is_there.sum()))
        words = [opened.tokenizer.decode(part) for part in (ids[0, :size], ids[0, size:][is_there[0, size:]])]
        shown = " ⏎ ".join(words[0].splitlines()) + " … " + " ⏎ ".join(words[1].splitlines())
        typer.echo(f"{score:.3f}  {opened.document_of(chunk)['id']}  {shown}")
    if len(there) < number:
        typer.echo(f"there are no more than {len(there)} chunks", err=True)
