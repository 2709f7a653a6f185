# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents of a corpus, their tokens, and the chunks of these."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hf_longformer import byte_tokenizer
from hf_longformer.conversion import InputError
from hf_longformer.conversion.errors import one_line
from hf_longformer.finetune.json_rows import objects_of
from hf_longformer.finetune.rows import texts_of_folder

BYTES = "bytes"  # the name of the tokenizer that comes along
JSON = (".jsonl", ".json")


@dataclass(frozen=True)
class Document:
    """A document of a corpus.

    Args:
        id: Its name, which no other one of the corpus has.
        text: What it says.
    """

    id: str
    text: str

    @property
    def digest(self) -> str:
        """Of its text, by which it is known again under another name."""
        return digest_of_text(self.text)


def digest_of_text(text: str) -> str:
    """SHA-256 of a text in UTF-8, without white space at its ends and with one kind of line ends."""
    return hashlib.sha256(
        text.removeprefix("\ufeff").replace("\r\n", "\n").strip().encode("utf-8", "surrogatepass")
    ).hexdigest()


def read_corpus(corpus: Path) -> Iterator[Document]:
    """The documents of a corpus: a `.txt` file, a folder of them, or JSON lines with `text` and `id`.

    A `.txt` file is a document whose id is its name without the ending; a line without `id` has its number.

    Raises:
        InputError: If there is no such corpus, a document cannot be read or has no text, or two have one id.
    """
    if corpus.is_dir():
        documents: Iterator[Document] = (_of_text_file(file) for file in texts_of_folder(corpus))
    elif not corpus.is_file():
        raise InputError(f"a corpus must be a .txt file, a folder of them, or JSON lines, got {corpus}")
    elif corpus.suffix.lower() in JSON:
        documents = (_of_row(row, number, corpus) for number, row in enumerate(objects_of(corpus), 1))
    elif corpus.suffix.lower() == ".txt":
        documents = iter([_of_text_file(corpus)])
    else:
        raise InputError(f"a corpus must end in .txt or {', '.join(JSON)}, or be a folder of .txt files, got {corpus}")
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise InputError(f"every document of {corpus} must have an id of its own, got two of {document.id!r}")
        seen.add(document.id)
        yield document
    if not seen:
        raise InputError(f"a corpus must have documents in it, got none in {corpus}")


def _of_text_file(file: Path) -> Document:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} must be UTF-8 text, got byte {error.start:,} that is not") from error
    return _checked(file.stem, text, str(file))


def _of_row(row: dict[str, Any], number: int, file: Path) -> Document:
    name, text = row.get("id", number), row.get("text")
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise InputError(f"id in row {number} of {file} must be a text or a whole number, got {name!r}")
    if not isinstance(text, str):
        raise InputError(f"every row of {file} must have a text, got {type(text).__name__} as text in row {number}")
    return _checked(str(name), text, f"row {number} of {file}")


def _checked(name: str, text: str, where: str) -> Document:
    if not text.strip():
        raise InputError(f"every document must have text in it, got none in {where}")
    return Document(name, text)


def load_tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a causal model: `"bytes"`, a folder or a Hub name.

    Raises:
        InputError: If it cannot be loaded.
    """
    if name == BYTES:
        return byte_tokenizer()
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"--tokenizer must be bytes or have a tokenizer, got {name}: {one_line(error)}") from error


def digest_of_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what a tokenizer makes of tokens: two with the same have the same ids for the same words."""
    words = sorted(tokenizer.get_vocab().items(), key=lambda one: one[1])
    return hashlib.sha256(repr(words).encode("utf-8", "surrogatepass")).hexdigest()


def tokens_of(text: str, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """A text as tokens `(tokens,)`, without special ones."""
    return np.asarray(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int32)
