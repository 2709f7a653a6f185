# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What `hf-longformer predict` makes of its JSON lines once all are there: a Parquet file, or a NumPy array."""

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from hf_longformer.conversion.errors import InputError

from .long_documents import LongDocumentPredictor, as_text
from .rows import is_utf_8

LINES, PARQUET, NUMPY = "jsonl", ".parquet", ".npy"
# Forms that a name may ask for, and nobody writes.
TABLES = (".arrow", ".csv", ".feather", ".h5", ".hdf5", ".npz", ".orc", ".sqlite", ".tsv", ".xlsx")
TENSORS = (".pickle", ".pkl", ".pt", ".pth", ".safetensors")
COMPRESSED = (".7z", ".bz2", ".gz", ".gzip", ".lz4", ".xz", ".zip", ".zst")
LINE, ID = pa.field("line", pa.int64(), nullable=False), pa.field("id", pa.string())
LEFT_OUT = ("truncated", "tokens_cut")
POOL = 256  # rows that are held at once


def form_of(output: Path) -> str:
    """`PARQUET`, `NUMPY` or `LINES`, by the ending.

    Raises:
        InputError: If the ending is that of a form that is not written.
    """
    ending = output.suffix.lower()
    if ending in (*TABLES, *TENSORS, *COMPRESSED):
        raise InputError(f"results are written as .jsonl, .parquet or, of embeddings, .npy, got {output}")
    return ending if ending in (PARQUET, NUMPY) else LINES


def outputs_of(output: Path) -> list[Path]:
    """All files that are written; with an array there is one of what its rows are of."""
    return [output, *([output.with_name(f"{output.name}.jsonl")] if form_of(output) == NUMPY else [])]


@contextmanager
def beginning(folder: Path) -> Iterator[None]:
    """What is written before anything is answered.

    Raises:
        InputError: If the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{folder}, which is to hold the output, cannot be written: {error.strerror}") from error


def as_line(entry: dict[str, Any]) -> str:
    """JSON in UTF-8; with escapes where an `id` has half a character in it, which UTF-8 has no bytes for."""
    return json.dumps(entry, ensure_ascii=not is_utf_8(entry), default=str) + "\n"


def entries_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What is written of a row: the result, or, where it has passages, one entry for each, with its number among them;
    what was left out of the document is said with the last.
    """
    if "passages" not in result:
        return [result]
    passages, rest = result["passages"], {name: value for name, value in result.items() if name in LEFT_OUT}
    entries = [{"passage": number, "passages": len(passages), **one} for number, one in enumerate(passages)]
    return [*entries[:-1], entries[-1] | rest]


def is_last(entry: dict[str, Any]) -> bool:
    """Whether it is all that is written of a row, or the last of it."""
    return "passage" not in entry or entry["passage"] + 1 == entry["passages"]


def finish(partial: Path, output: Path, documents: LongDocumentPredictor) -> None:
    """Puts the lines of a run in the place of its output, in the form that its ending asks for.

    Args:
        partial: The file of JSON lines.
        output: What is written.
        documents: What answered.
    """
    made = partial.with_name(f"{partial.name}.made")
    form = form_of(output)
    if form == LINES:
        os.replace(partial, output)
    elif form == PARQUET:
        _write_parquet(partial, made, documents)
        os.replace(made, output)
    else:
        answered: Any = documents.predictor
        _write_array(partial, made, lines := partial.with_name(f"{partial.name}.lines"), answered.embedder.size)
        output.unlink(missing_ok=True)  # a kill between the two leaves no array beside lines of another one
        os.replace(lines, outputs_of(output)[1])
        os.replace(made, output)
    partial.unlink(missing_ok=True)


def table_of(lines: list[int], names: Iterable[Any], found: pa.Table) -> pa.Table:
    """Results with the numbers of their rows, and the rows' own names as text.

    Args:
        lines: Numbers, from 1.
        names: Each row's own, of any type; None where it has none.
        found: A row for each of them.
    """
    columns = [pa.array(lines, LINE.type), pa.array(map(as_text, names), ID.type), *found.columns]
    return pa.table(columns, schema=schema_of(found.schema))


def schema_of(results: pa.Schema) -> pa.Schema:
    """The columns of a table of results."""
    return pa.schema([LINE, ID, *results])


def _read(lines: Path) -> Iterator[dict[str, Any]]:
    with lines.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _whole(entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Entries, those of the passages of one row as one again."""
    passages = []
    for entry in entries:
        if "passage" not in entry:
            yield entry
            continue
        of_row = {name: entry.pop(name) for name in ("line", "id", *LEFT_OUT) if name in entry}
        last = is_last(entry)
        passages.append({name: value for name, value in entry.items() if name not in ("passage", "passages")})
        if last:
            yield {**of_row, "passages": passages}
            passages = []


def _write_parquet(lines: Path, made: Path, documents: LongDocumentPredictor) -> None:
    """A row for every row of the input, with the columns that it has on Ray."""
    rows = _whole(_read(lines))
    with parquet.ParquetWriter(made, schema_of(documents.schema)) as writer:
        while pool := list(itertools.islice(rows, POOL)):
            numbers, names = [row.pop("line") for row in pool], [row.pop("id", None) for row in pool]
            writer.write_table(table_of(numbers, names, documents.table(pool)))


def _write_array(lines: Path, made: Path, rest: Path, size: int) -> None:
    """An array of float32, a row for every line, of NaN where there is no embedding; the lines without embeddings.

    Args:
        lines: What is read.
        made: The array.
        rest: The lines without embeddings.
        size: Numbers of a row, where no line has an embedding.
    """
    sizes = [len(entry.get("embedding", ())) for entry in _read(lines)]
    shape = len(sizes), max(sizes, default=0) or size
    # a file that cannot be mapped has no bytes
    array = np.lib.format.open_memmap(made, "w+", np.float32, shape) if all(shape) else np.empty(shape, np.float32)
    with rest.open("w", encoding="utf-8") as file:
        for number, entry in enumerate(_read(lines)):
            array[number] = entry.pop("embedding", np.nan)
            file.write(as_line(entry))
    if isinstance(array, np.memmap):
        array.flush()
    else:
        with made.open("wb") as file:
            np.save(file, array)
