# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer predict`: a file of documents in, a file of results out, line by line, whatever happens on the way."""

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from tqdm import tqdm

from hf_longformer import __version__
from hf_longformer.conversion.errors import InputError, one_line
from hf_longformer.conversion.files import read_json, write_json

from .prediction import Predictor
from .rows import NOT_UTF_8, Row, Rows, identity, is_utf_8, kind_of, open_rows
from .tasks import ASKED, module_of

# Rows are read, answered and written in pools, so that texts of one length can be batched: so many rows at most, or
# so many characters per token of a batch.
POOL_LINES, POOL_CHARACTERS = 256, 16
WEIGHTS = (".json", ".safetensors", ".onnx", ".data", ".xml", ".bin")  # endings, with what goes with them
ERRORS = (ValueError, RuntimeError, IndexError)  # of a row, or of a model that cannot read it


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
    say: Callable[[str], Any] = lambda line: None,
    **options: Any,
) -> dict[str, Any]:
    """Writes one JSON line for every row of a file.

    A row that cannot be answered gets an `error` instead of a result, and one of which something was left out says
    `truncated`. What is written is whole: the file is made under another name, and a run that was killed goes on behind
    its last row when it is started again.

    Args:
        task: One of `tasks.ASKED`, such as `"qa"`.
        checkpoint: A folder or a Hub name.
        input: JSON lines or a JSON list, CSV, TSV or Parquet (by the ending), for questions also a file of SQuAD,
            TriviaQA or HotpotQA, for classification also a `.txt` file or a folder of them; or `"-"`, standard input.
        output: The file to write.
        format: `"jsonl"`, `"json"`, `"csv"`, `"tsv"`, `"parquet"` or `"txt"`, if not by the ending; standard input is
            JSON lines without it.
        columns: Names in the file of what the task calls `text`, `text_pair`, `tokens`, `question` or `context`.
        evidence_folder: With TriviaQA's documents.
        dtype: What is computed in, as torch names it.
        backend: `"torch"`, or one of `exporting.BACKENDS`: `checkpoint` is an export then.
        overwrite: Whether to replace `output`, or to begin anew a run that was killed.
        say: Called with sentences for the user.
        **options: For the task's predictor.

    Returns:
        `lines`, how many rows were read; `failed`, the numbers of those that could not be answered; `truncated`, how
        many rows were cut, and `tokens_cut`, by how much in all; and `resumed`, how many rows were there already.

    Raises:
        InputError: If input, output, checkpoint or an option cannot be used.
    """
    if task not in ASKED:
        raise InputError(f"a task must be one of {', '.join(ASKED)}, got {task}")
    kind = kind_of(input, format, list(ASKED[task].columns))
    if output.is_dir():
        raise InputError(f"the output must be a file, got the folder {output}")
    if output.exists() and not overwrite:
        raise InputError(f"the output must not exist, got {output}: --overwrite replaces it")
    if not output.parent.is_dir():
        raise InputError(f"the folder of the output must exist, got {output.parent}")
    if input != "-" and output.exists() and output.samefile(input):
        raise InputError(f"input and output must be different files, got {output} for both")
    _check_is_not_read(output, Path(input), evidence_folder)
    with open_rows(input, kind, evidence_folder, ASKED[task].as_they_stand) as rows:
        predictor = module_of(task).PREDICTOR.load(checkpoint, dtype=dtype, backend=backend, **options)
        names = {name: (columns or {}).get(name, name) for name in predictor.columns}
        _check_columns(rows, names, input, predictor.one_of)
        partial, state = (output.with_name(f".{output.name}.partial{ending}") for ending in ("", ".json"))
        run = {
            "task": task,
            "checkpoint": checkpoint,
            "weights": _identity(checkpoint),
            "input": identity(input, evidence_folder),
        }
        run |= {
            "columns": names,
            "evidence_folder": evidence_folder,
            "dtype": dtype,
            "backend": backend,
            "version": __version__,
            **predictor.options,
        }
        report = {"lines": 0, "failed": [], "truncated": 0, "tokens_cut": 0, "resumed": 0}
        if not overwrite:
            _count_done(report, partial, state, run)
        if not report["lines"]:
            partial.write_bytes(b"")
            write_json(state, run)
        _write(report, predictor, rows, names, partial, say)
    os.replace(partial, output)
    state.unlink()
    return report


def _check_is_not_read(output: Path, input: Path, evidence_folder: str | None) -> None:
    """Refuses an output among the documents that are read: it would replace one, or be one the next time."""
    place = output.resolve()
    is_document = input.is_dir() and place.parent == input.resolve() and place.suffix.lower() == ".txt"
    if is_document or (evidence_folder and output.exists() and place.is_relative_to(Path(evidence_folder).resolve())):
        raise InputError(f"the output must not be one of the documents that are read, got {output}")


def _write(
    report: dict[str, Any],
    predictor: Predictor,
    rows: Rows,
    names: dict[str, str],
    partial: Path,
    say: Callable[[str], Any],
) -> None:
    """Writes the results of all rows that are not there yet, and counts them."""
    with (
        partial.open("a", encoding="utf-8") as file,
        tqdm(total=rows.size, unit="B", unit_scale=True, file=sys.stderr, leave=False) as bar,
    ):
        lines = enumerate((_renamed(row, names) for row in rows.rows), 1)
        for _ in itertools.islice(lines, report["lines"]):
            pass
        for pool in _pools(lines, names, POOL_CHARACTERS * predictor.tokens_per_batch):
            found = _answer(predictor, [row for _, row in pool], names)
            for (number, _), result in zip(pool, found, strict=True):
                file.write(_as_line({"line": number, **result}))
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


def _as_line(result: dict[str, Any]) -> str:
    """JSON in UTF-8; with escapes where an `id` has half a character in it, which UTF-8 has no bytes for."""
    return json.dumps(result, ensure_ascii=not is_utf_8(result), default=str) + "\n"


def _check_columns(rows: Rows, names: dict[str, str], input: str, one_of: bool) -> None:
    """Refuses a table without a column that is needed, or that was given a name; of several it may need one alone."""
    has_one = one_of and any(column in (rows.columns or ()) for column in names.values())
    for name, column in names.items():
        needed = not has_one or column != name
        if rows.columns is not None and column not in rows.columns and needed:
            option = f"--{name.replace('_', '-')}-column"
            raise InputError(
                f"{input} must have a column {column}, got {', '.join(rows.columns) or 'none'}: {option} gives it "
                "another name"
            )


def _renamed(row: Row, names: dict[str, str]) -> Row:
    """A row with the task's names for its entries."""
    if isinstance(row, str):
        return row
    others = {name: value for name, value in row.items() if name not in names}
    return {**others, **{name: row[column] for name, column in names.items() if column in row}}


def _pools(lines: Iterator[tuple[int, Row]], names: dict[str, str], characters: int) -> Iterator[list[tuple[int, Row]]]:
    pool: list[tuple[int, Row]] = []
    size = 0
    for number, row in lines:
        pool.append((number, row))
        size += sum(_length(row.get(name)) for name in names) if isinstance(row, dict) else 0
        if len(pool) == POOL_LINES or size >= characters:
            yield pool
            pool, size = [], 0
    if pool:
        yield pool


def _length(text: Any) -> int:
    """Characters of a text, or of all paragraphs of one."""
    text = list(text.values()) if isinstance(text, dict) else text
    return len(text) if isinstance(text, str) else sum(map(_length, text)) if isinstance(text, list) else 0


def _answer(predictor: Predictor, rows: list[Row], names: dict[str, str]) -> list[dict[str, Any]]:
    """One result per row; if the rows cannot be answered together, each is tried alone."""
    complaints = [complaint_of(predictor, row, names) for row in rows]
    good: list[Any] = [row for row, complaint in zip(rows, complaints, strict=True) if complaint is None]
    try:
        found: list[dict[str, Any]] = predictor(good) if good else []
    except ERRORS:
        found = [_answer_alone(predictor, row) for row in good]
    answered = iter(found)
    kept = [{"id": row[name]} if (name := name_of_id(row)) else {} for row in rows]
    return [
        {**own, **(next(answered) if complaint is None else {"error": complaint})}
        for own, complaint in zip(kept, complaints, strict=True)
    ]


def name_of_id(row: Row) -> str | None:
    """The entry with a row's name; HotpotQA's files call it `_id`."""
    return next((name for name in ("id", "_id") if isinstance(row, dict) and name in row), None)


def complaint_of(predictor: Predictor, row: Row, names: dict[str, str]) -> str | None:
    """What is wrong with a row, its texts included; None if nothing is.

    Args:
        predictor: Which is to answer it.
        row: The row, or what is wrong with it.
        names: What its entries are called where it comes from.
    """
    if isinstance(row, str):
        return row
    complaint = predictor.complaint(row, names)
    if complaint is None and not is_utf_8([row.get(name) for name in names]):
        complaint = NOT_UTF_8
    return complaint


def _answer_alone(predictor: Predictor, row: dict[str, Any]) -> dict[str, Any]:
    try:
        return predictor([row])[0]
    except ERRORS as error:
        return {"error": one_line(error)[:300]}


def _identity(checkpoint: str) -> Any:
    """What tells a checkpoint from another one of the same name: its files, or its commit on the Hub."""
    folder = Path(checkpoint)
    if not folder.is_dir():
        return str(try_to_load_from_cache(checkpoint, "config.json"))  # the commit stands in its path
    files = sorted(file for file in folder.iterdir() if file.suffix in WEIGHTS)
    return [[file.name, file.stat().st_size, file.stat().st_mtime] for file in files]


def _count_done(report: dict[str, Any], partial: Path, state: Path, run: dict[str, Any]) -> None:
    """Counts the whole lines of a run that was killed; a torn last one is removed."""
    if not (partial.is_file() and state.is_file()):
        return
    if read_json(state) != json.loads(json.dumps(run)):
        raise InputError(
            f"{partial} is of a run with another input, checkpoint, version or options, got these: --overwrite begins "
            "anew"
        )
    whole = 0
    with partial.open("r+b") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            _count(report, report["lines"] + 1, json.loads(line))
        file.truncate(whole)
    report["resumed"] = report["lines"]
