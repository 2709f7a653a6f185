# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Builds an index: documents to tokens, chunks of these to embeddings."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import new_folder, write_json
from hf_longformer.finetune.embeddings import Embedder

from .corpus import digest_of_tokenizer, load_tokenizer_of, read_corpus, tokens_of
from .index import FORM, RECORD, TENSORS, TOKENIZER, digest_of_encoder, digest_of_file, embed_texts


def build_index(
    corpus: str | Path,
    output: str | Path,
    *,
    encoder: str,
    tokenizer: str,
    chunk_size: int = 64,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Writes an index of the chunks of a corpus, whole or not at all.

    Chunks follow one another in their document; the last one has what is left.

    Args:
        corpus: As for `read_corpus`.
        output: The folder to write.
        encoder: A sentence encoder of this package, a folder or a Hub name.
        tokenizer: Of the causal model that is to read what is found: `"bytes"`, a folder or a Hub name.
        chunk_size: Tokens of a chunk.
        overwrite: Whether an index may be replaced.
        progress: Told how many chunks are done, and of how many.

    Returns:
        What `index.json` holds: sizes, hashes and documents, and `cut`, how many chunks the encoder read in part.

    Raises:
        InputError: If something cannot be used, or `output` cannot be written.
    """
    if chunk_size < 1:
        raise InputError(f"--chunk_size must be at least 1 token, got {chunk_size}")
    corpus, output = Path(corpus), Path(output)
    check_place(output, overwrite, corpus)
    words = load_tokenizer_of(tokenizer)
    embedder = Embedder.load(encoder)
    documents, tokens = [], []
    for document in read_corpus(corpus):
        ids = tokens_of(document.text, words)
        documents.append({"id": document.id, "sha256": document.digest, "tokens": len(ids)})
        tokens.append(ids)
    bounds = np.cumsum([0, *map(len, tokens)])
    starts = np.concatenate([np.arange(*pair, chunk_size) for pair in itertools.pairwise(bounds)])
    ends = np.minimum(starts + chunk_size, bounds[np.searchsorted(bounds, starts, side="right")])
    together, done = np.concatenate(tokens), 0

    def count(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(done, len(starts))

    texts = words.batch_decode([together[start:end].tolist() for start, end in zip(starts, ends, strict=True)])
    embeddings, cut = embed_texts(texts, embedder, count)
    tensors = {"embeddings": embeddings, "tokens": together, "bounds": bounds, "starts": starts}
    with new_folder(output) as folder:
        save_file(tensors, folder / TENSORS)
        words.save_pretrained(folder / TOKENIZER)
        record = {
            "form": FORM,
            "chunk_size": chunk_size,
            "chunks": len(starts),
            "size": embedder.size,
            "cut": cut,
            "sha256": digest_of_file(folder / TENSORS),
            "encoder": {"name": _place(encoder), "sha256": digest_of_encoder(embedder), "pooling": embedder.pooling},
            "tokenizer": {"name": _place(tokenizer), "sha256": digest_of_tokenizer(words)},
            "corpus": str(corpus),
            "documents": documents,
        }
        write_json(folder / RECORD, record)
    return record


def _place(name: str) -> str:
    """A folder as it is found again from elsewhere, or a Hub name."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def check_place(output: Path, overwrite: bool, corpus: Path) -> None:
    """Refuses a folder that must not be written.

    Raises:
        InputError: If it is there and may not be replaced, or is no index, or holds the corpus.
    """
    if output.resolve() in (corpus.resolve(), *corpus.resolve().parents):
        raise InputError(f"INDEX must not be the corpus or hold it, got {output}")
    if not output.parent.is_dir():
        raise InputError(f"the folder that is to hold INDEX must exist, got {output.parent}")
    if output.exists() or output.is_symlink():
        if not overwrite:
            raise InputError(f"INDEX must not exist, got {output}: --overwrite replaces it")
        if output.is_symlink() or not (output / RECORD).is_file():
            raise InputError(f"--overwrite replaces indexes only, got {output}, which is none")
