# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer predict`: a file of documents in, a file of results out, line by line, whatever happens on the way."""

import csv
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from hf_longformer.conversion.errors import InputError, one_line
from hf_longformer.conversion.files import write_json

from .prediction import ClassificationPredictor, Predictor, QuestionAnsweringPredictor

PREDICTORS: dict[str, type[Predictor]] = {
    one.task: one for one in (ClassificationPredictor, QuestionAnsweringPredictor)
}
FORMATS = {".jsonl": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv"}
# Lines are read, answered and written in pools, so that texts of one length can be batched: so many lines at most, or
# so many characters per token of a batch.
POOL_LINES, POOL_CHARACTERS = 256, 16
STANDARD_INPUT = "-"


def predict(
    task: str,
    checkpoint: str,
    input: str,
    output: Path,
    *,
    format: str | None = None,
    columns: dict[str, str] | None = None,
    overwrite: bool = False,
    say: Callable[[str], Any] = lambda line: None,
    **options: Any,
) -> dict[str, Any]:
    """Writes one JSON line for every line of a file.

    A line that cannot be answered gets an `error` instead of a result. What is written is whole: the file is made under
    another name, and a run that was killed goes on behind its last line when it is started again.

    Args:
        task: `"qa"` or `"classification"`.
        checkpoint: A folder or a Hub name.
        input: JSON lines, CSV or TSV (by the ending), or `"-"`, standard input.
        output: The file to write.
        format: `"jsonl"`, `"csv"` or `"tsv"`, if not by the ending; standard input is JSON lines without it.
        columns: Names in the file of what the task calls `text`, `text_pair`, `question` or `context`.
        overwrite: Whether to replace `output`, or to begin anew a run that was killed.
        say: Called with sentences for the user.
        **options: For the task's predictor.

    Returns:
        `lines`, how many were read; `failed`, the numbers of those that could not be answered; and `resumed`, how many
        were there already.

    Raises:
        InputError: If input, output, checkpoint or an option cannot be used.
    """
    if task not in PREDICTORS:
        raise InputError(f"a task must be one of {', '.join(PREDICTORS)}, got {task}")
    kind = format or FORMATS.get(Path(input).suffix, "jsonl" if input == STANDARD_INPUT else "")
    if kind not in FORMATS.values():
        raise InputError(f"input must end in {', '.join(FORMATS)}, or its format be given, got {input}")
    if input != STANDARD_INPUT and not Path(input).is_file():
        raise InputError(f"input must be a file, or - for standard input, got {input}")
    if output.exists() and not overwrite:
        raise InputError(f"the output must not exist, got {output}: --overwrite replaces it")
    if not output.parent.is_dir():
        raise InputError(f"the folder of the output must exist, got {output.parent}")
    predictor = PREDICTORS[task].load(checkpoint, **options)
    partial, state = (output.with_name(f".{output.name}.partial{ending}") for ending in ("", ".json"))
    run = {"task": task, "checkpoint": checkpoint, "input": _identity(input), "columns": columns, **predictor.options}
    done = 0 if overwrite else _lines_done(partial, state, run)
    if not done:
        partial.write_bytes(b"")
        write_json(state, run)
    failed = []
    with _open(input) as stream, partial.open("a", encoding="utf-8") as file, _bar(input, stream) as bar:
        lines = enumerate(_read(stream, kind, columns or {}), 1)
        for _ in itertools.islice(lines, done):
            pass
        number = done
        for pool in _pools(lines, POOL_CHARACTERS * predictor.tokens_per_batch):
            for (number, _), result in zip(pool, _answer(predictor, [row for _, row in pool]), strict=True):
                file.write(json.dumps({"line": number, **result}, ensure_ascii=False) + "\n")
                if "error" in result:
                    failed.append(number)
                    say(f"line {number}: {result['error']}")
            file.flush()
            bar()
    os.replace(partial, output)
    state.unlink()
    return {"lines": number, "failed": failed, "resumed": done}


def _pools(lines: Iterator[tuple[int, Any]], characters: int) -> Iterator[list[tuple[int, Any]]]:
    pool: list[tuple[int, Any]] = []
    size = 0
    for number, row in lines:
        pool.append((number, row))
        size += sum(len(text) for text in row.values() if isinstance(text, str)) if isinstance(row, dict) else 0
        if len(pool) == POOL_LINES or size >= characters:
            yield pool
            pool, size = [], 0
    if pool:
        yield pool


def _answer(predictor: Predictor, rows: list[Any]) -> list[dict[str, Any]]:
    """One result per row; if the rows cannot be answered together, each is tried alone."""
    complaints = [row if isinstance(row, str) else predictor.complaint(row) for row in rows]
    good = [row for row, complaint in zip(rows, complaints, strict=True) if complaint is None]
    try:
        found: list[dict[str, Any]] = predictor(good) if good else []
    except (ValueError, RuntimeError):
        found = [_answer_alone(predictor, row) for row in good]
    answered = iter(found)
    kept = [{"id": row["id"]} if isinstance(row, dict) and "id" in row else {} for row in rows]
    return [
        {**own, **(next(answered) if complaint is None else {"error": complaint})}
        for own, complaint in zip(kept, complaints, strict=True)
    ]


def _answer_alone(predictor: Predictor, row: dict[str, Any]) -> dict[str, Any]:
    try:
        return predictor([row])[0]
    except (ValueError, RuntimeError) as error:
        return {"error": one_line(error)[:300]}


def _read(stream: TextIO, kind: str, columns: dict[str, str]) -> Iterator[dict[str, Any] | str]:
    """Rows, with the task's names for their entries, or what is wrong with a line."""
    if kind == "jsonl":
        read: Iterator[Any] = (_of_json(line) for line in stream)
    else:
        read = csv.DictReader(stream, delimiter="\t" if kind == "tsv" else ",")
    for row in read:
        if isinstance(row, dict):
            for name, column in columns.items():
                if column in row:
                    row[name] = row[column]
        yield row


def _of_json(line: str) -> dict[str, Any] | str:
    try:
        row = json.loads(line)
    except ValueError as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else f"a JSON object is needed, got {type(row).__name__}"


@contextmanager
def _open(input: str) -> Iterator[TextIO]:
    if input == STANDARD_INPUT:
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
        yield sys.stdin
    else:
        with open(input, encoding="utf-8", errors="replace", newline="") as stream:
            yield stream


@contextmanager
def _bar(input: str, stream: TextIO) -> Iterator[Callable[[], None]]:
    """Progress by bytes of the input, or by nothing but time where its size is not known."""
    size = None if input == STANDARD_INPUT else Path(input).stat().st_size
    with tqdm(total=size, unit="B", unit_scale=True, file=sys.stderr, leave=False) as bar:
        yield lambda: bar.update(0 if size is None else stream.buffer.tell() - bar.n)


def _identity(input: str) -> dict[str, Any]:
    if input == STANDARD_INPUT:
        return {"name": input}
    facts = Path(input).stat()
    return {"name": str(Path(input).resolve()), "bytes": facts.st_size, "changed": facts.st_mtime}


def _lines_done(partial: Path, state: Path, run: dict[str, Any]) -> int:
    """Whole lines of a run that was killed; a torn last one is removed."""
    if not (partial.is_file() and state.is_file()):
        return 0
    if json.loads(state.read_text(encoding="utf-8")) != json.loads(json.dumps(run)):
        raise InputError(
            f"{partial} is of a run with another input, checkpoint or options, got these: --overwrite begins anew"
        )
    content = partial.read_bytes()
    whole = content.rfind(b"\n") + 1
    with partial.open("r+b") as file:
        file.truncate(whole)
    return content.count(b"\n", 0, whole)
