# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The autoregressive model on long texts: tokens of files, chunks of them, and bits per character with full context."""

import hashlib
import itertools
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from hf_longformer.conversion import InputError
from hf_longformer.retrieval.corpus import digest_of_text

logger = logging.get_logger(__name__)
# MD5 of the one file in the zip file of that name, as published with them; both have 100,000,000 bytes.
BENCHMARKS = {"text8": "3bea1919949baf155f99411df5fada7e", "enwik8": "a1fa5ffddb56f4953e226637dabbb36a"}
# What ends so holds texts, and is none.
NO_TEXTS = (".json", ".jsonl", ".parquet", ".arrow", ".csv", ".tsv", ".gz", ".zip", ".xz", ".bz2", ".zst")
SHARES = (90, 5, 5)  # of a benchmark's bytes in order, for training, validation and test, in per cent


@dataclass
class Text:
    """A text as tokens.

    Args:
        ids: `(tokens,)`.
        characters: How many characters they stand for: bytes, for byte tokens.
        documents: Of each document in it `start` and `stop` in tokens, `id` and `sha256`.
        neighbours: What was found in an index for its chunks, a `hf_longformer.retrieval.TextNeighbours`.
    """

    ids: np.ndarray
    characters: int
    documents: list[dict[str, Any]] = field(default_factory=list)
    neighbours: Any = None


def read_texts(files: Sequence[str], tokenizer: PreTrainedTokenizerBase, is_bytes: bool) -> Text:
    """Text files one after the other as one text.

    Args:
        files: The files.
        tokenizer: Of the model.
        is_bytes: Whether its tokens are bytes: then files are taken as they are, whatever their encoding.

    Raises:
        InputError: If a file is missing, empty, a table or an archive, or, for other tokens, not UTF-8.
    """
    parts: list[np.ndarray] = []
    documents: list[dict[str, Any]] = []
    characters = 0
    for file in files:
        if not Path(file).is_file() or not Path(file).stat().st_size:
            raise InputError(f"texts must be files with something in them, got {file}")
        if Path(file).suffix.lower() in NO_TEXTS:
            raise InputError(
                f"texts are files that are read as they are, got {file}: write what is in it to a .txt file"
            )
        content = Path(file).read_bytes()
        if is_bytes:
            parts.append(np.frombuffer(content, dtype=np.uint8))
            characters += len(content)
            documents.append(_document(documents, file, content.decode("utf-8", "replace"), len(content)))
            continue
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{file} must be UTF-8 text, got byte {error.start:,} that is not") from error
        parts.append(np.asarray(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int32))
        characters += len(text)
        documents.append(_document(documents, file, text, len(parts[-1])))
    return Text(np.concatenate(parts), characters, documents)


def _document(before: list[dict[str, Any]], file: str, text: str, tokens: int) -> dict[str, Any]:
    """What a file is in a text: by its name and by what it says it is known in an index."""
    start = before[-1]["stop"] if before else 0
    return {"start": start, "stop": start + tokens, "id": Path(file).stem, "sha256": digest_of_text(text)}


def split_benchmark(archive: Path) -> dict[str, Text]:
    """text8 or enwik8 from its zip file, as bytes: the first 90 million to train on, 5 to validate and 5 to test on.

    Args:
        archive: `text8.zip` or `enwik8.zip`, as Matt Mahoney offers them (mattmahoney.net/dc).

    Raises:
        InputError: If it is not that.
    """
    name = archive.stem
    try:
        with zipfile.ZipFile(archive) as opened:
            content = opened.read(name)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{archive} must be text8.zip or enwik8.zip with one file of that name: {error}") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != BENCHMARKS.get(name):
        raise InputError(
            f"{archive} must hold the 100,000,000 bytes of text8 or enwik8 with the published MD5, "
            f"got {len(content):,} of {name} with {found}"
        )
    ids, texts, start = np.frombuffer(content, dtype=np.uint8), {}, 0
    for split, share in zip(("train", "validation", "test"), SHARES, strict=True):
        stop = start + len(ids) * share // 100
        texts[split] = Text(ids[start:stop], stop - start)
        start = stop
    return texts


class Chunks(Dataset):
    """A text as chunks of so many tokens, one behind the other; what is left at the end is left out.

    Args:
        text: The text; with `neighbours` chunks have what was found for the index's chunks in them.
        length: Tokens of a chunk.
        chunk_size: Tokens of the index's chunks, if there is an index.

    Raises:
        InputError: If the text is shorter than one chunk, or that is no multiple of the index's.
    """

    def __init__(self, text: Text, length: int, chunk_size: int | None = None) -> None:
        if len(text.ids) < length:
            raise InputError(f"a text must have the {length:,} tokens of a chunk, got {len(text.ids):,}")
        self.ids, self.length, self.neighbours = text.ids, length, text.neighbours
        if length % (chunk_size or 1):
            raise InputError(
                f"max_seq_length must be a multiple of the index's chunks of {chunk_size} tokens, got {length:,}"
            )

    def __len__(self) -> int:
        return len(self.ids) // self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(self.ids[index * self.length : (index + 1) * self.length].astype(np.int64))
        return {"input_ids": ids, "labels": ids} | self._found(index)

    def _found(self, index: int) -> dict[str, torch.Tensor]:
        if self.neighbours is None:
            return {}
        number = self.length // self.neighbours.index.chunk_size
        return _as_inputs(self.neighbours.of(index * number, (index + 1) * number))


def _as_inputs(found: tuple[np.ndarray, np.ndarray]) -> dict[str, torch.Tensor]:
    return {"neighbour_ids": torch.from_numpy(found[0]), "neighbour_mask": torch.from_numpy(found[1])}


def windows(tokens: int, length: int, stride: int, chunk_size: int = 1) -> Iterator[tuple[int, int, int]]:
    """Overlapping windows: first token, the one behind the last, and the first one that is scored.

    Every token but the first of the text is scored once, all but those of the first window with at least
    `length - stride` tokens before it.

    Args:
        tokens: Of the text.
        length: Tokens of a window.
        stride: Tokens from one window to the next.
        chunk_size: Windows begin where chunks of so many tokens do, and have up to so many fewer in front for it.
    """
    scored = 1
    for stop in range(min(length, tokens), tokens + stride, stride):
        stop = min(stop, tokens)
        yield -(-max(0, stop - length) // chunk_size) * chunk_size, stop, scored
        scored = stop
        if stop == tokens:
            return


@torch.no_grad()
def bits_per_character(
    model: Any, text: Text, length: int, stride: int, batch_size: int = 1, device: Any = None
) -> dict[str, float]:
    """Bits per character of a text, in overlapping windows as in section 4.2 of the paper.

    Args:
        model: A causal language model, switched to evaluation while this runs.
        text: The text, with what was found for it or without.
        length: Tokens of a window.
        stride: Tokens from one window to the next: so many are scored in each, with what comes before as context.
        batch_size: Windows at once.
        device: Where the model is; its own if left out.

    Returns:
        `bits_per_character`, `bits_per_token` and `tokens`, how many were scored; with neighbours also `by_overlap`, as
        `hf_longformer.retrieval.by_overlap` gives it.

    Raises:
        InputError: If the stride is not smaller than a window, or leaves less than a chunk of the index in front.
    """
    size = 1 if text.neighbours is None else text.neighbours.index.chunk_size
    if not 1 <= stride < length:
        raise InputError(f"--eval_stride must be at least 1 and less than a window of {length} tokens, got {stride}")
    if length - stride < size:
        raise InputError(
            f"a window of {length} tokens must have a chunk of {size} in front of those that are scored, got "
            f"--eval_stride {stride}"
        )
    device, was_training = device or model.device, model.training
    model.eval()
    nats, count = 0.0, 0
    of_tokens = np.zeros(len(text.ids))
    # Windows of one size and one number of scored tokens go together: all but the first and the last.
    alike = itertools.groupby(
        windows(len(text.ids), length, stride, size), lambda one: (one[1] - one[0], one[1] - one[2])
    )
    sorts = (list(same) for _, same in alike)
    groups = (same[first : first + batch_size] for same in sorts for first in range(0, len(same), batch_size))
    for group in groups:
        ids = torch.stack([torch.from_numpy(text.ids[start:stop].astype(np.int64)) for start, stop, _ in group])
        scored = group[0][1] - group[0][2]
        ids = ids.to(device)
        given = {} if text.neighbours is None else _found_for(text, group, device)
        logits = model(ids, logits_to_keep=scored + 1, **given).logits[:, :-1].float()
        targets = ids[:, -scored:]
        found = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        nats += float(found.sum())
        count += targets.numel()
        if text.neighbours is not None:
            for (_, stop, first), part in zip(group, found.view(targets.shape).double().cpu().numpy(), strict=True):
                of_tokens[first:stop] = part
    model.train(was_training)
    per_token = nats / count / math.log(2)
    return _by_chunks(text, of_tokens) | {
        "bits_per_character": per_token * len(text.ids) / text.characters,
        "bits_per_token": per_token,
        "tokens": count,
    }


def _found_for(text: Text, group: Sequence[tuple[int, int, int]], device: Any) -> dict[str, torch.Tensor]:
    """What was found for the chunks that end in windows of one size."""
    size = text.neighbours.index.chunk_size
    parts = [text.neighbours.of(start // size, stop // size) for start, stop, _ in group]
    together = _as_inputs((np.stack([ids for ids, _ in parts]), np.stack([mask for _, mask in parts])))
    return {name: tensor.to(device) for name, tensor in together.items()}


def _by_chunks(text: Text, nats: np.ndarray) -> dict[str, Any]:
    """Losses `(tokens,)` by how much chunks have in common with what was found for them; nothing without neighbours."""
    if text.neighbours is None:
        return {}
    from hf_longformer.retrieval import by_overlap, overlap

    size = text.neighbours.index.chunk_size
    number = len(text.ids) // size
    shares = overlap(text.ids[: number * size].reshape(number, size), *text.neighbours.of(0, number))
    tokens = np.full(number, size)
    tokens[0] -= 1  # the first of the text is not predicted
    return {"by_overlap": by_overlap(nats[: number * size].reshape(number, size).sum(axis=1), tokens, shares)}
