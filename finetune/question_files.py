# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of SQuAD, TriviaQA and HotpotQA: questions with documents and answers."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from os.path import isfile
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Sequence, Value
from transformers.utils import logging

from hf_longformer import __version__
from hf_longformer.conversion.errors import InputError, one_line

from .data import ROW, Table, is_nothing, text_of
from .words import WITHOUT_SPACES

logger = logging.get_logger(__name__)
TEXTS = Sequence(Value("string"))
AT_SCRIPT = f"(?<={WITHOUT_SPACES})|(?={WITHOUT_SPACES})"  # a place beside such a character
FEATURES = Features(
    {
        "id": Value("string"),  # several documents of one question share it
        "question": Value("string"),
        "context": Value("string"),
        "answers": TEXTS,  # gold ones; none if the question has none
        "spans": Sequence(Sequence(Value("int64"), 2)),  # characters of the context: first, and behind the last
        ROW: Value("int64"),
    }
)


def read_nested(file: Path, evidence: str | None = None) -> Table:
    """The questions of a file in the format of SQuAD 1.1, SQuAD 2.0, TriviaQA or HotpotQA.

    Args:
        file: The JSON file.
        evidence: The folder with TriviaQA's documents.

    Raises:
        InputError: If it is missing or in none of the formats.
    """
    content = _load(file)
    state = {"state": state_of([file])}  # or a stale cache would be taken
    if "Data" in content:
        if evidence is None or not Path(evidence).is_dir():
            raise InputError(
                f"{file.name} is in TriviaQA's format: --evidence_folder must hold its documents, got {evidence}"
            )
        if left_out := len(_pages(content)) - len(_pages(content, verified=True)):
            logger.warning(
                f"{left_out:,} documents of {file.name} are not part of the verified evaluation, and are left out"
            )
        return table_of(
            file.name, _of_triviaqa, {"file": str(file), "evidence": evidence, "state": state_of_all(file, evidence)}
        )
    kind = _of_hotpotqa if "supporting_facts" in (content["data"] or [{}])[0] else _of_squad
    return table_of(file.name, kind, {"file": str(file), **state})


def is_nested(file: Path) -> bool:
    """Whether it is one JSON object with all questions, not a table."""
    if file.suffix != ".json" or not file.is_file():
        return file.suffix == ".json"
    with file.open(encoding="utf-8", errors="replace") as stream:
        start = stream.read(1_000_000).lstrip()
    if start.startswith("["):
        return '"supporting_facts"' in start
    return re.match(r'\{\s*"(version|data|Data|Domain|VerifiedEval|Version|Split)"', start) is not None


def state_of(files: Iterable[Path]) -> str:
    """What is other after every change of one of some files, whatever their times were set to, and of this package."""
    found = [
        (str(file), *(getattr(file.stat(), f"st_{name}") for name in ("size", "mtime_ns", "ctime_ns")))
        for file in files
    ]
    return hashlib.sha256(repr((__version__, found)).encode()).hexdigest()


def state_of_all(file: Path, evidence: str | None) -> str:
    """The same of a file with questions and, if it is in TriviaQA's format, of the documents that it names."""
    content = _load(file)
    documents = (
        [] if evidence is None or "Data" not in content else [one for _, _, one in _documents(content, evidence)]
    )
    return state_of([file, *documents])


def questions_of(file: Path, evidence: str | None = None) -> Iterator[dict[str, Any]]:
    """The questions of such a file, one after the other, with `id`, `question` and `context`; arguments as above.

    Raises:
        InputError: As above.
    """
    rows = read_nested(file, evidence).rows.select_columns(["id", "question", "context"])
    return iter(rows)


def table_of(name: str, generator: Any, arguments: dict[str, Any], features: Features = FEATURES) -> Table:
    """The rows that a generator makes, kept on disk by what it is given.

    Args:
        name: What they are called in errors.
        generator: A function that yields rows.
        arguments: Its arguments.
        features: Of the rows.

    Raises:
        InputError: If there are none, or what they are made of is not in the format of its kind.
    """
    try:
        is_empty = next(generator(**arguments), None) is None
        rows = None if is_empty else Dataset.from_generator(generator, features=features, gen_kwargs=arguments)
    except InputError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, InputError):
            raise cause from error
        raise InputError(
            f"{name} is not in the format of its kind: {type(cause).__name__} {one_line(cause)}"
        ) from error
    if rows is None:
        raise InputError(f"{name} must have questions, got none")
    return Table(rows, name)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {one_line(error)}") from error
    if isinstance(content, list):
        content = {"data": content}  # HotpotQA's
    questions = content.get("data", content.get("Data")) if isinstance(content, dict) else None
    if not isinstance(questions, list) or not all(isinstance(one, dict) for one in questions):
        raise InputError(f"{file} must be in the format of SQuAD, TriviaQA or HotpotQA, got {type(content).__name__}")
    return content


def _of_squad(file: str, state: str) -> Iterator[dict[str, Any]]:
    number = 0
    for article in _load(Path(file))["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                number += 1
                answers = [] if asked.get("is_impossible") else asked.get("answers", [])
                texts, starts = [one["text"] for one in answers], [one.get("answer_start") for one in answers]
                context = paragraph["context"]
                yield question_row(
                    name_of_question(asked.get("id"), number), asked["question"], context, texts, starts, number
                )


def _pages(content: dict[str, Any], verified: bool = False) -> list[tuple[dict[str, Any], str, str]]:
    """The questions of a file in TriviaQA's format with each of their documents: of which kind, and the file's name.

    Args:
        content: Of the file.
        verified: Whether to leave out what the official scorer does: of a file that is for the verified evaluation the
            questions that are no part of it, and of the web the documents.

    Raises:
        InputError: If documents are no such list.
    """
    chosen = verified and content.get("VerifiedEval")
    of_documents = chosen and content.get("Domain") == "Web"
    found = []
    for asked in content["Data"]:
        for kind, name in (("wikipedia", "EntityPages"), ("web", "SearchResults")):
            pages = asked.get(name) or []
            if not isinstance(pages, list) or not all(
                isinstance(page, dict) and isinstance(page.get("Filename"), str) for page in pages
            ):
                raise InputError(f"{name} must be a list of documents with a Filename each, got {str(pages)[:60]}")
            if not chosen or asked.get("QuestionPartOfVerifiedEval", True):
                kept = [page for page in pages if not of_documents or page.get("DocPartOfVerifiedEval", True)]
                found += [(asked, kind, page["Filename"]) for page in kept]
    return found


def _documents(content: dict[str, Any], evidence: str) -> Iterator[tuple[dict[str, Any], str, Path]]:
    """The questions of a file in TriviaQA's format with each of their documents: its name, and where it is."""
    for asked, kind, name in _pages(content, verified=True):
        places = [Path(evidence) / kind / name, Path(evidence) / name]
        document = next((path for path in places if isfile(path)), None)  # also if the name is none
        if document is None:
            raise InputError(f"the document {name} of {asked.get('QuestionId')} must be in {evidence}")
        yield asked, name, document


def _of_triviaqa(file: str, evidence: str, state: str) -> Iterator[dict[str, Any]]:
    """Named as the official scorer has it: all documents of a question of Wikipedia are asked together, and every one
    of the web alone. Its gold answers are those of `NormalizedAliases`, and of people where there are any; looked for
    in documents are those that are written as people do, too.
    """
    content = _load(Path(file))
    is_web = content.get("Domain") == "Web"
    for number, (asked, page, document) in enumerate(_documents(content, evidence), 1):
        context = document.read_text(encoding="utf-8", errors="replace")
        name = name_of_question(asked["QuestionId"], number)
        name = f"{name}--{page}" if is_web else name
        answer = asked.get("Answer") or {}
        written, normal, human = (answer.get(key, []) for key in ("Aliases", "NormalizedAliases", "HumanAnswers"))
        texts = [text for text in dict.fromkeys([*written, *normal, *human]) if text.strip()]
        row = question_row(name, asked["Question"], context, texts, [None] * len(texts), number)
        yield row | {"answers": list(dict.fromkeys([*normal, *human])) if normal else texts}


def _of_hotpotqa(file: str, state: str) -> Iterator[dict[str, Any]]:
    """All paragraphs of a question as one document, behind "yes no": so that these answers stand in it too."""
    for number, asked in enumerate(_load(Path(file))["data"], 1):
        paragraphs = [f"{title}. {''.join(sentences)}" for title, sentences in paragraphs_of(asked["context"])]
        context = "\n".join(["yes no", *paragraphs])
        yield question_row(
            name_of_question(asked["_id"], number), asked["question"], context, [asked["answer"]], [None], number
        )


def paragraphs_of(context: Any) -> list[tuple[str, list[str]]]:
    """The paragraphs of a question of HotpotQA, each a title and its sentences.

    Args:
        context: `[[title, [sentence, …]], …]`, as HotpotQA's own files have it, or `{"title": [title, …], "sentences":
            [[sentence, …], …]}`, as the Hub has it.

    Raises:
        InputError: If it is in neither form.
    """
    pairs = context
    if isinstance(context, dict):
        pairs = pairs_of(context, "title", "sentences")
    if isinstance(pairs, list) and all(map(_is_paragraph, pairs)):
        return [(title, list(sentences)) for title, sentences in pairs]
    raise InputError(
        f"paragraphs are needed, each a title and a list of sentences, got {type(context).__name__} {str(context)[:60]}"
    )


def pairs_of(columns: dict[str, Any], first: str, second: str) -> list[tuple[Any, Any]] | None:
    """What stands side by side in two columns; None if they are no lists of one length."""
    one, other = (columns.get(name) for name in (first, second))
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return list(zip(one, other, strict=True))
    return None


def _is_paragraph(pair: Any) -> bool:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
        return False
    return isinstance(pair[1], list) and all(isinstance(sentence, str) for sentence in pair[1])


def name_of_question(given: Any, number: int) -> str:
    """The `id` of a question: what was given, or, if nothing was, the number of its row."""
    return str(number) if is_nothing(given) or given == "" else str(given)


def question_row(
    name: str, question: str, context: str, texts: list[str], starts: list[int | None], number: int
) -> dict[str, Any]:
    """A row; answers whose place is not given are looked for, and all their matches count.

    Raises:
        InputError: If question or context is no text.
    """
    try:
        question, context = text_of(question), text_of(context)
    except InputError as error:
        raise InputError(f"question {number} ({name}) cannot be used: {error}") from error
    found = zip(texts, starts, strict=True)
    spans = [
        (start, start + len(text))
        for text, start in found
        if text and start is not None and context[start : start + len(text)] == text
    ]
    if all(start is None for start in starts):
        spans = matches(context, texts)
    spans = list(dict.fromkeys(spans))  # annotators agree; the first stays the first
    return {"id": name, "question": question, "context": context, "answers": texts, "spans": spans, ROW: number}


def matches(context: str, texts: Iterable[str]) -> list[tuple[int, int]]:
    """Where any of some texts stands in a context, as whole words and whatever the letter case: characters, the first
    and behind the last. Scripts without spaces have no whole words to look for.
    """
    longest_first = sorted({text.strip() for text in texts if text.strip()}, key=len, reverse=True)
    if not longest_first:
        return []
    pattern = "|".join(re.escape(text) for text in longest_first)
    found = re.finditer(rf"(?:(?<!\w)|{AT_SCRIPT})(?:{pattern})(?:(?!\w)|{AT_SCRIPT})", context, flags=re.IGNORECASE)
    return [match.span() for match in found]
