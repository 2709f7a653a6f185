# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer page`: documents and what was predicted of them, joined by line, in one file for a browser."""

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from hf_longformer.conversion.errors import InputError, one_line

from ..data import is_nothing, text_of
from ..json_rows import objects_of
from ..prediction_files import NUMPY, PARQUET
from ..rows import STANDARD_INPUT, Row, is_utf_8, kind_of, open_rows
from .marks import Mark, marks_of, number_of_empty, parts_of, per_cent, shown, surroundings

COLUMNS = ("text", "text_pair", "tokens", "question", "context")
BESIDE = ("question", "text_pair")  # what is shown in front of a document and behind it
SCORES = 8  # labels of a document that are shown with their probabilities
# Entries of results that are marked in the text, or said in words of their own.
KNOWN = {
    *("line", "id", "error", "label", "labels", "scores", "value", "truncated", "tokens_cut", "clusters", "entities"),
    *("answer", "probability", "start", "end", "n_best"),
}


def write_page(
    documents: str,
    results: str,
    output: Path,
    *,
    format: str | None = None,
    columns: dict[str, str] | None = None,
    evidence_folder: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes an HTML file that needs nothing else, whole or not at all. Whatever texts hold stays text.

    Args:
        documents: What `hf-longformer predict` read.
        results: The JSON lines that it wrote.
        output: The file to write.
        format: Of the documents, if not by the ending, as for `predict`.
        columns: Names in the documents of what `COLUMNS` has.
        evidence_folder: With TriviaQA's documents.
        overwrite: Whether to replace `output`.

    Returns:
        `documents`, how many were read; `failed`, how many of them have an error instead of a result, and `without`,
        how many have neither; `marks`; `empty`, how many entities have no characters and so no mark; and `bytes` of the
        file.

    Raises:
        InputError: If a file cannot be used, or what was predicted is not of these documents; with the line.
        RuntimeError: If the page cannot be written.
    """
    kind = kind_of(documents, format, [*COLUMNS])
    _check_output(output, documents, results, overwrite)
    names = {name: (columns or {}).get(name, name) for name in COLUMNS}
    found = _read_results(Path(results))
    partial = output.with_name(f".{output.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file, open_rows(documents, kind, evidence_folder) as rows:
            report = _write(file, enumerate(rows.rows, 1), found, names)
        if found:
            raise InputError(
                f"{results} has a result of line {min(found)}, and {documents} has {report['documents']:,} lines: the "
                "results are of another file"
            )
        report["bytes"] = partial.stat().st_size
        partial.replace(output)
    except OSError as error:
        raise RuntimeError(f"{output} was not written: {one_line(error)}") from error
    finally:
        partial.unlink(missing_ok=True)
    return report


def page_of(row: dict[str, Any], result: dict[str, Any]) -> str:
    """The page of one document.

    Args:
        row: What was read, with entries named as in `COLUMNS`.
        result: What was predicted of it.

    Raises:
        InputError: If it is no document, or the result is not of it.
    """
    page = io.StringIO()
    _write(page, enumerate([row], 1), {1: result}, {name: name for name in COLUMNS})
    return page.getvalue()


def hashes() -> tuple[str, str]:
    """What a Content-Security-Policy knows the page's style and its script by."""
    return _hash(_part("css")), _hash(_part("js"))


def _check_output(output: Path, documents: str, results: str, overwrite: bool) -> None:
    if output.is_dir():
        raise InputError(f"the output must be a file, got the folder {output}")
    if output.exists() and not overwrite:
        raise InputError(f"the output must not exist, got {output}: --overwrite replaces it")
    if not output.parent.is_dir():
        raise InputError(f"the folder of the output must exist, got {output.parent}")
    read = [Path(results), *([] if documents == STANDARD_INPUT else [Path(documents)])]
    if output.resolve() in [file.resolve() for file in read]:
        raise InputError(f"the output must not be a file that is read, got {output}")


def _read_results(file: Path) -> dict[int, dict[str, Any]]:
    """The results by the line of their document."""
    if not file.is_file():
        raise InputError(f"the results must be a file of JSON lines, got {file}")
    if file.suffix.lower() in (PARQUET, NUMPY):
        raise InputError(f"the results must be JSON lines, got {file}: predict writes them to names such as a.jsonl")
    found: dict[int, dict[str, Any]] = {}
    for number, result in enumerate(objects_of(file), 1):
        if "supporting_facts" in result:
            raise InputError(
                f"a page must be of answers in one text, got result {number} of {file} with supporting facts"
            )
        line = result.get("line")
        if type(line) is not int or line < 1:
            raise InputError(f"result {number} of {file} must have the line of its document, got {line!r}")
        if line in found:
            raise InputError(f"{file} must have one result for every line, got two for line {line}")
        found[line] = result
    return found


def _write(
    file: TextIO, rows: Iterator[tuple[int, Row]], found: dict[int, dict[str, Any]], names: dict[str, str]
) -> dict[str, Any]:
    """Writes the page; every result that is used is taken from those that were found."""
    report = {"documents": 0, "failed": 0, "without": 0, "marks": 0, "empty": 0}
    before, behind = _frame()
    file.write(before)
    index = []
    for line, row in rows:
        result = found.pop(line, None)
        try:
            document = _document(row, result, names)
        except InputError as error:
            raise InputError(f"line {line}: {error}") from error
        report["documents"] += 1
        report["failed"] += "error" in document
        report["without"] += result is None
        report["marks"] += len(document["marks"])
        report["empty"] += number_of_empty(result or {})
        index.append(_title(line, document))
        file.write(_data(f"document-{line}", document))
    if not index:
        raise InputError("the documents must have a line, got none")
    file.write(_data("index", index))
    file.write(behind)
    return report


def _document(row: Row, result: dict[str, Any] | None, names: dict[str, str]) -> dict[str, Any]:
    """What the page shows of a row."""
    result = {} if result is None else result
    failed = {"error": str(result["error"])} if result.get("error") is not None else {}
    empty: dict[str, Any] = {"facts": [], "parts": [], "chains": [], "marks": []}
    if isinstance(row, str):
        if result and not failed:
            raise InputError(f"the result must be of this document, which cannot be read: {row}")
        return empty | {"error": row} | failed
    _check_identity(row, result)
    named = {} if row.get("id") in (None, "") else {"id": shown(str(row["id"]))}
    try:
        text = _text(row, result, names)
    except InputError:
        if not failed:
            raise
        return empty | named | failed
    chains, marks = marks_of(text, result)
    found = {
        "facts": _facts(result) if result else [["result", "none"]],
        "parts": [[_piece(*piece) for piece in part] for part in parts_of(text, marks)],
        "chains": [chain._asdict() for chain in chains],
        "marks": [_listed(text, mark) for mark in marks],
    }
    return named | failed | _beside(row, names) | found


def _beside(row: dict[str, Any], names: dict[str, str]) -> dict[str, str]:
    """Question and second text. What is no text there was not read, or there is an error instead of a result."""
    found = {}
    for name in BESIDE:
        with suppress(InputError):
            if not is_nothing(row.get(names[name])):
                found[name] = text_of(row[names[name]])
    return found


def _check_identity(row: dict[str, Any], result: dict[str, Any]) -> None:
    """Refuses a result of another document, where both have an `id`."""
    if "id" in row and "id" in result:
        given, said = (json.dumps(one["id"], default=str) for one in (row, result))
        if given != said:
            raise InputError(f"the result must be of the document with the id {given}, got one of {said}")


def _text(row: dict[str, Any], result: dict[str, Any], names: dict[str, str]) -> str:
    """The document of a row, as `predict` read it."""
    wanted = [names[name] for name in (("context",) if "answer" in result else ("text", "tokens", "context"))]
    column = next((name for name in wanted if not is_nothing(row.get(name))), None)
    if column is None:
        raise InputError(f"a document is needed as {' or '.join(wanted)}, got {', '.join(map(str, row)) or 'none'}")
    content = row[column]
    if column == names["tokens"] and isinstance(content, list) and all(isinstance(one, str) for one in content):
        return " ".join(content)
    return text_of(content)


def _piece(text: str, marks: list[int]) -> Any:
    return [text, *marks] if marks else text


def _listed(text: str, mark: Mark) -> list[Any]:
    return [mark.chain, mark.note, shown(text[mark.start : mark.end]), *surroundings(text, mark), mark.start, mark.end]


def _facts(result: dict[str, Any]) -> list[list[str]]:
    """What is said of a document as a whole, names and values: also what no mark and no other word is for."""
    facts: list[list[str]] = []
    scores = result["scores"] if isinstance(result.get("scores"), dict) else {}
    if "label" in result:
        label = str(result["label"])
        facts.append(["label", f"{label} {per_cent(scores.get(label))}".strip()])
    if "labels" in result:
        labels = result["labels"] if isinstance(result["labels"], list) else [result["labels"]]
        facts.append(["labels", ", ".join(map(str, labels)) or "none"])
    if "value" in result:
        facts.append(["value", str(result["value"])])
    if len(scores) > ("label" in result):  # a single one is said with its label
        facts.append(["probabilities", _probabilities(scores)])
    if "answer" in result:
        answer = shown(str(result["answer"])) or "none"
        facts.append(["answer", f"{answer} {per_cent(result.get('probability'))}".strip()])
    if result.get("truncated"):
        cut = result.get("tokens_cut")
        facts.append(["cut", f"{cut:,} tokens were not read" if isinstance(cut, int) else "some tokens were not read"])
    if number := number_of_empty(result):
        facts.append(["not marked", f"{number:,} entities that have no characters"])
    others = {name: value for name, value in result.items() if name not in KNOWN}
    return facts + [
        [name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]
        for name, value in others.items()
    ]


def _probabilities(scores: dict[str, Any]) -> str:
    """The likeliest labels."""
    numbers = {name: value for name, value in scores.items() if isinstance(value, float | int)}
    best = sorted(numbers, key=lambda name: -numbers[name])
    more = [f"and {len(scores) - SCORES:,} more"] if len(scores) > SCORES else []
    return ", ".join([f"{name} {per_cent(numbers[name])}" for name in best[:SCORES]] + more)


def _title(line: int, document: dict[str, Any]) -> str:
    """What stands in the list of documents."""
    pieces = document["parts"][0] if document["parts"] else []
    start = "".join(one if isinstance(one, str) else one[0] for one in pieces[:40])[:200]
    words = document.get("id") or document.get("question") or start
    failed = " (error)" if "error" in document else ""
    return f"{line}: {shown(words)[:60]}{failed}"


def _data(name: str, content: Any) -> str:
    """A block of JSON that no script runs and no text ends."""
    text = json.dumps(content, ensure_ascii=not is_utf_8(content), separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _frame() -> tuple[str, str]:
    """The page in front of the documents and behind them."""
    page, style, script = map(_part, ("html", "css", "js"))
    page = page.replace("STYLE_HASH", _hash(style)).replace("SCRIPT_HASH", _hash(script))
    before, _, behind = page.replace("/* style */", style).partition("<!-- documents -->\n")
    return before, behind.replace("/* script */", script)


def _part(kind: str) -> str:
    return (Path(__file__).parent / f"page.{kind}").read_text(encoding="utf-8")


def _hash(code: str) -> str:
    """What a Content-Security-Policy knows code by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}"
