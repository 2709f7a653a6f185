# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer predict … --engine ray`: the rows of a file, answered by Ray actors, as a folder of Parquet files.

This process reads the rows, cuts them into parts of one size, hands them to actors and writes what comes back, one file
for each part, under another name first. Nobody else writes: a part that is computed twice, because a machine was lost
on the way, is written once. The writer of Ray Data (2.60) is not used: its files have their final names while they are
written, types are guessed for each anew, and a second run adds to the first; and its actors try a document that ends
their process for ever.
"""

import hashlib
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from huggingface_hub import try_to_load_from_cache
from pyarrow import parquet
from tqdm import tqdm

from hf_longformer import __version__
from hf_longformer.conversion.errors import InputError
from hf_longformer.conversion.files import put_in_place, read_json, write_json

from .long_documents import LongDocumentPredictor, check_columns, name_of_id
from .predict import files_of
from .prediction_files import beginning, schema_of, table_of
from .ray_workers import Part, Workers
from .rows import Rows

RUN = "_run.json"  # readers of Parquet folders pass over names with this first character
ROWS_PER_FILE = 256


def predict_on_ray(
    documents: LongDocumentPredictor,
    rows: Rows,
    output: Path,
    run: dict[str, Any],
    *,
    input: str,
    overwrite: bool = False,
    workers: int | None = None,
    cpus_per_worker: int = 1,
    rows_per_file: int = ROWS_PER_FILE,
    say: Callable[[str], Any] = lambda line: None,
) -> dict[str, Any]:
    """Writes a row for every row of an input: its number `line`, its `id` as text, and the columns of the results.

    Files are in the order of the rows, with `rows_per_file` in each but the last, and of one schema. A run that was
    killed goes on behind the parts that it had written, if input, weights, version and options are the same. A row that
    ends the process that reads it, time after time, gets an `error`.

    Args:
        documents: What answers.
        rows: The rows.
        output: The folder to write.
        run: What tells this run from others, beside what is known here.
        input: What `rows` are of, as it is named in errors.
        overwrite: Whether to replace `output`, or to begin anew a run that was killed.
        workers: Processes that read, each with the whole model; None: one for every GPU of the cluster, or, if there is
            none, one for as many CPUs as each takes.
        cpus_per_worker: CPUs, and threads, of each.
        rows_per_file: Rows of a file; so many are lost at most, for each worker, by a kill.
        say: Called with sentences for the user.

    Returns:
        As `predict`.

    Raises:
        InputError: If output, checkpoint or an option cannot be used, or workers have different ones.
        RuntimeError: If workers die without end.
    """
    counts = {"workers": workers, "cpus_per_worker": cpus_per_worker, "rows_per_file": rows_per_file}
    for name, value in counts.items():
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    if output.exists() and not (output / RUN).is_file() and any(output.iterdir()):
        raise InputError(f"--overwrite replaces folders of predictions only, got {output}, which is none")
    partial = output.with_name(f".{output.name}.parts")
    with Workers(documents, workers, cpus_per_worker, _described) as pool:
        known = pool.description
        check_columns(known["columns"], rows.columns, input, known["one_of"])
        run = {**run, **{name: known[name] for name in ("columns", "weights", "options")}}
        _begin(partial, {**run, "rows_per_file": rows_per_file}, overwrite)
        files = _Files(partial, known["schema"], say)
        with tqdm(total=rows.size, unit="B", unit_scale=True, file=sys.stderr, leave=False) as bar:
            for part, table in pool.answers(_parts(rows, rows_per_file, files)):
                files.add(part, table)
                bar.update(rows.position() - bar.n if rows.size is not None else 0)
    report = files.end()
    put_in_place(partial, output)
    shutil.rmtree(partial, ignore_errors=True)  # what was there before
    return report


def _described(documents: LongDocumentPredictor) -> dict[str, Any]:
    """What every worker must have alike."""
    return {
        "columns": documents.names,
        "one_of": documents.predictor.one_of,
        "options": documents.predictor.options,
        "schema": documents.schema,
        "weights": _weights(documents.checkpoint),
        "version": __version__,
    }


def _weights(checkpoint: str) -> str:
    """A digest of the files of a checkpoint, the same wherever copies of them lie."""
    config = None if Path(checkpoint).is_dir() else try_to_load_from_cache(checkpoint, "config.json")
    folder = Path(config).parent if isinstance(config, str) else Path(checkpoint)
    digest = hashlib.sha256()
    for file in files_of(folder):
        with file.open("rb") as stream:
            digest.update(f"{file.relative_to(folder)} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _begin(partial: Path, run: dict[str, Any], overwrite: bool) -> None:
    """The folder for the files of a run: a new one, or that of the same run, without what was being written."""
    if overwrite and partial.exists():
        shutil.rmtree(partial)
    if (partial / RUN).is_file():
        if read_json(partial / RUN) != json.loads(json.dumps(run)):
            raise InputError(
                f"{partial} is of a run with another input, checkpoint, version or options, got these: --overwrite "
                "begins anew"
            )
        for file in partial.glob(".*"):
            file.unlink()
    else:
        with beginning(partial.parent):
            partial.mkdir(exist_ok=True)
            write_json(partial / RUN, run)


def _parts(rows: Rows, rows_per_file: int, files: "_Files") -> Iterator[Part]:
    """The rows of every file that is not there yet."""
    numbers = itertools.count()
    while part := list(itertools.islice(rows.rows, rows_per_file)):
        number = next(numbers)
        if not files.has(number, len(part)):
            yield Part(number, number * rows_per_file + 1, part)


class _Files:
    """The Parquet files of a run.

    Args:
        folder: Where they are.
        schema: Of the results.
        say: Called with sentences for the user.
    """

    def __init__(self, folder: Path, schema: pa.Schema, say: Callable[[str], Any]) -> None:
        self.folder, self.say = folder, say
        self.schema = schema_of(schema)
        self.resumed = 0
        self._open: dict[int, list[tuple[Part, pa.Table]]] = {}

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:08}.parquet"

    def has(self, number: int, rows: int) -> bool:
        """Whether a file was written before, whole and with so many rows."""
        try:
            found = parquet.read_metadata(self.path(number)).num_rows
        except (OSError, pa.ArrowException):
            return False
        self.resumed += rows if found == rows else 0
        return found == rows

    def add(self, part: Part, table: pa.Table) -> None:
        """Takes the results of rows; once those of a whole file are there, it is written."""
        pieces = self._open.setdefault(part.file, [])
        pieces.append((part, table))
        if sum(len(piece.rows) for piece, _ in pieces) < part.size:
            return
        pieces = sorted(self._open.pop(part.file), key=lambda one: one[0].first)
        rows = [row for piece, _ in pieces for row in piece.rows]
        lines = list(range(pieces[0][0].first, pieces[0][0].first + len(rows)))
        own = [row[name] if isinstance(row, dict) and (name := name_of_id(row)) else None for row in rows]
        found = pa.concat_tables([table for _, table in pieces])
        self.write(part.file, table_of(lines, own, found))
        for line, error in zip(lines, found["error"].to_pylist(), strict=True):
            if error is not None:
                self.say(f"line {line}: {error}")

    def write(self, number: int, table: pa.Table) -> None:
        """Writes a file, whole or not at all, on the disk before it has its name."""
        handle, name = tempfile.mkstemp(prefix=".", suffix=".parquet", dir=self.folder)
        with os.fdopen(handle, "wb") as stream:
            parquet.write_table(table, stream)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, self.path(number))

    def end(self) -> dict[str, Any]:
        """What stands in the files; if there are none, one without rows is written, so that there is a schema."""
        if self._open:
            raise RuntimeError(f"all rows must be answered, got {len(self._open)} files with rows that were not")
        files = sorted(self.folder.glob("part-*.parquet"))
        if not files:
            self.write(0, self.schema.empty_table())
        report: dict[str, Any] = {"lines": 0, "failed": [], "truncated": 0, "tokens_cut": 0, "resumed": self.resumed}
        for file in files:
            found = parquet.read_table(file, columns=["line", "error", "truncated", "tokens_cut"], partitioning=None)
            report["lines"] += len(found)
            report["failed"] += found.filter(found["error"].is_valid())["line"].to_pylist()
            report["truncated"] += sum(map(bool, found["truncated"].to_pylist()))
            report["tokens_cut"] += sum(one or 0 for one in found["tokens_cut"].to_pylist())
        return report
