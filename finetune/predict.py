# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer predict`: a file of documents in, a file of results out, line by line, whatever happens on the way."""

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from tqdm import tqdm

from hf_longformer import __version__
from hf_longformer.conversion.errors import InputError
from hf_longformer.conversion.files import read_json, write_json

from .long_documents import LongDocumentPredictor, check_columns, name_of_id
from .prediction_files import NUMPY, as_line, beginning, entries_of, finish, form_of, is_last, outputs_of
from .rows import STANDARD_INPUT, Rows, identity, kind_of, open_rows
from .tasks import ANSWERED, EMBEDDINGS

# Endings of weights and graphs, and of what goes with them.
WEIGHTS = (".json", ".safetensors", ".onnx", ".data", ".xml", ".bin", ".pt2", ".pte", ".txt", ".model")
LOCAL, RAY = "local", "ray"


def predict(
    task: str,
    checkpoint: str,
    input: str,
    output: Path,
    *,
    format: str | None = None,
    columns: dict[str, str] | None = None,
    evidence_folder: str | None = None,
    dtype: str = "float32",
    backend: str = "torch",
    overwrite: bool = False,
    engine: str = LOCAL,
    on_ray: dict[str, int] | None = None,
    say: Callable[[str], Any] = lambda line: None,
    **options: Any,
) -> dict[str, Any]:
    """Writes one JSON line for every row of a file, or for every passage that a result has; or a Parquet file, or an
    array of embeddings; on Ray, a folder of Parquet files.

    A row that cannot be answered gets an `error` instead of a result, and one of which something was left out says
    `truncated`. What is written is whole: the file is made under another name, and a run that was killed goes on behind
    its last row when it is started again; of standard input it begins anew.

    Args:
        task: One of `tasks.ANSWERED`, such as `"qa"`.
        checkpoint: A folder or a Hub name.
        input: JSON lines or a JSON list, CSV, TSV or Parquet (by the ending), for questions also a file of SQuAD,
            TriviaQA or HotpotQA, for classification also a `.txt` file or a folder of them; or `"-"`, standard input.
        output: The file to write; on Ray, the folder. `.parquet` has a row for every row, and the columns of Ray's;
            `.npy`, of embeddings, is float32 of shape (lines, dimensions), NaN where there is none, with the lines
            without their embeddings beside it, in a file of its name and `.jsonl`; all else is JSON lines.
        format: `"jsonl"`, `"json"`, `"csv"`, `"tsv"`, `"parquet"` or `"txt"`, if not by the ending; standard input is
            JSON lines without it.
        columns: Names in the file of what the task calls `text`, `text_pair`, `tokens`, `question` or `context`.
        evidence_folder: With TriviaQA's documents.
        dtype: What is computed in, as torch names it.
        backend: `"torch"`, or one of `exporting.BACKENDS`: `checkpoint` is an export then.
        overwrite: Whether to replace `output`, or to begin anew a run that was killed.
        engine: `"local"`, this process, or `"ray"`: see `ray_prediction`.
        on_ray: What `ray_prediction.predict_on_ray` takes: `workers`, `cpus_per_worker`, `rows_per_file`.
        say: Called with sentences for the user.
        **options: For the task's predictor.

    Returns:
        `lines`, how many rows were read; `failed`, the numbers of those that could not be answered; `truncated`, how
        many rows were cut, and `tokens_cut`, by how much in all; and `resumed`, how many rows were there already.

    Raises:
        InputError: If input, output, checkpoint or an option cannot be used.
    """
    documents = LongDocumentPredictor(task, checkpoint, columns=columns, dtype=dtype, backend=backend, **options)
    if engine not in (LOCAL, RAY):
        raise InputError(f"an engine must be {LOCAL} or {RAY}, got {engine}")
    if on_ray and engine != RAY:
        raise InputError(f"{', '.join(on_ray)} are of --engine {RAY}, got --engine {engine}")
    if engine == RAY:  # which may not be installed
        from .ray_prediction import predict_on_ray
    kind = kind_of(input, format, list(ANSWERED[task].columns))
    _check_form(output, task, engine)
    partial, state = (output.with_name(f".{output.name}.partial{ending}") for ending in ("", ".json"))
    for file in outputs_of(output):
        _check_output(file, input, evidence_folder, overwrite or (file != output and state.exists()), engine)
    with open_rows(input, kind, evidence_folder, ANSWERED[task].as_they_stand) as rows:
        run = {
            "task": task,
            "checkpoint": checkpoint,
            "input": identity(input, evidence_folder),
            "evidence_folder": evidence_folder,
            "dtype": dtype,
            "backend": backend,
            "version": __version__,
        }
        if engine == RAY:
            return predict_on_ray(
                documents, rows, output, run, input=input, overwrite=overwrite, say=say, **(on_ray or {})
            )
        check_columns(documents.names, rows.columns, input, documents.predictor.one_of)
        run |= {"weights": _identity(checkpoint), "columns": documents.names, **documents.predictor.options}
        report = {"lines": 0, "failed": [], "truncated": 0, "tokens_cut": 0, "resumed": 0}
        if not overwrite and input != STANDARD_INPUT:  # of which nobody knows whether it is the same again
            _count_done(report, partial, state, run)
        if not report["lines"]:
            with beginning(output.parent):
                partial.write_bytes(b"")
                write_json(state, run)
        _write(report, documents, rows, partial, say)
    finish(partial, output, documents)
    state.unlink()
    return report


def _check_form(output: Path, task: str, engine: str) -> None:
    """Refuses an ending that what is written cannot have."""
    if engine == LOCAL and form_of(output) == NUMPY and task != EMBEDDINGS:
        raise InputError(f"a .npy file has embeddings, got {output} for {task}: .jsonl and .parquet take all results")
    if engine == RAY and output.suffix.lower() == NUMPY:
        raise InputError(f"--engine {RAY} writes a folder of Parquet files, got {output}")


def _check_output(output: Path, input: str, evidence_folder: str | None, overwrite: bool, engine: str) -> None:
    """Refuses an output that is there, has no place, or stands among what is read."""
    if engine == RAY and input == STANDARD_INPUT:
        raise InputError(
            "a run on Ray goes on after a kill, and needs an input that is still there: give a file, not -"
        )
    if engine == LOCAL and output.is_dir():
        raise InputError(f"the output must be a file, got the folder {output}")
    if engine == RAY and output.exists() and not output.is_dir():
        raise InputError(f"the output must be a folder with --engine {RAY}, got the file {output}")
    if output.exists() and not overwrite:
        raise InputError(f"the output must not exist, got {output}: --overwrite replaces it")
    if not output.parent.is_dir():
        raise InputError(f"the folder of the output must exist, got {output.parent}")
    if input != STANDARD_INPUT and output.exists() and output.samefile(input):
        raise InputError(f"input and output must be different files, got {output} for both")
    _check_is_not_read(output, Path(input), evidence_folder)


def _check_is_not_read(output: Path, input: Path, evidence_folder: str | None) -> None:
    """Refuses an output among the documents that are read: it would replace one, or be one the next time."""
    place = output.resolve()
    is_document = input.is_dir() and place.parent == input.resolve() and place.suffix.lower() == ".txt"
    if is_document or (evidence_folder and output.exists() and place.is_relative_to(Path(evidence_folder).resolve())):
        raise InputError(f"the output must not be one of the documents that are read, got {output}")


def _write(
    report: dict[str, Any],
    documents: LongDocumentPredictor,
    rows: Rows,
    partial: Path,
    say: Callable[[str], Any],
) -> None:
    """Writes the results of all rows that are not there yet, and counts them."""
    with (
        partial.open("a", encoding="utf-8") as file,
        tqdm(total=rows.size, unit="B", unit_scale=True, file=sys.stderr, leave=False) as bar,
    ):
        for pool in documents.answers(itertools.islice(rows.rows, report["lines"], None)):
            for number, (row, result) in enumerate(pool, report["lines"] + 1):
                own = {"id": row[name]} if isinstance(row, dict) and (name := name_of_id(row)) else {}
                file.write("".join(as_line({"line": number, **own, **entry}) for entry in entries_of(result)))
                _count(report, number, result)
                if "error" in result:
                    say(f"line {number}: {result['error']}")
            file.flush()
            bar.update(rows.position() - bar.n if rows.size is not None else 0)


def _count(report: dict[str, Any], number: int, result: dict[str, Any]) -> None:
    report["lines"] = number
    report["truncated"] += bool(result.get("truncated"))
    report["tokens_cut"] += result.get("tokens_cut", 0)
    if "error" in result:
        report["failed"].append(number)


def _identity(checkpoint: str) -> Any:
    """What tells a checkpoint from another one of the same name: its files, or its commit on the Hub."""
    folder = Path(checkpoint)
    if not folder.is_dir():
        return str(try_to_load_from_cache(checkpoint, "config.json"))  # the commit stands in its path
    states = [(file, file.stat()) for file in files_of(folder)]
    return [[str(file.relative_to(folder)), state.st_size, state.st_mtime] for file, state in states]


def files_of(folder: Path) -> list[Path]:
    """The files that make a checkpoint what it is, its modules' too; no hidden ones, which a run makes there."""
    found = (file for file in folder.rglob("*") if file.suffix in WEIGHTS and file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _count_done(report: dict[str, Any], partial: Path, state: Path, run: dict[str, Any]) -> None:
    """Counts the rows of a run that was killed whose lines are whole; what there is of another one is removed."""
    if not (partial.is_file() and state.is_file()):
        return
    if read_json(state) != json.loads(json.dumps(run)):
        raise InputError(
            f"{partial} is of a run with another input, checkpoint, version or options, got these: --overwrite begins "
            "anew"
        )
    whole = read = 0
    with partial.open("r+b") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            read += len(line)
            if is_last(entry := json.loads(line)):
                whole = read
                _count(report, report["lines"] + 1, entry)
        file.truncate(whole)
    report["resumed"] = report["lines"]
