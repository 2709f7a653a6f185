# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer page`: marks at exact characters, nothing dropped in silence, nothing run that a text holds."""

import base64
import csv
import hashlib
import json
import random
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import test_predict
from test_cli import command  # noqa: F401
from test_predict import make_rows, read, write

from hf_longformer.conversion import InputError
from hf_longformer.finetune.page import write_page
from hf_longformer.finetune.page.marks import PART, Mark, marks_of, parts_of, shown, surroundings
from hf_longformer.finetune.predict import predict
from hf_longformer.finetune.tasks import ASKED

models = test_predict.models
SYMBOLS = ["a", "Ω", "長", "𠀀", "😀", "👩‍🔬", "e\u0301", " ", "\n", "\r\n", "\t", "<", "&", '"', "\u2028", "\u202e"]


class Blocks(HTMLParser):
    """The documents of a page, and its other scripts, as a browser takes them out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.documents: dict[str, Any] = {}
        self.code: list[str] = []
        self.policy = ""
        self._inside: dict[str, str | None] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = dict(attrs) if tag in ("script", "style") else None
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = str(dict(attrs)["content"])

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is not None and self._inside.get("type") == "application/json":
            self.documents[str(self._inside["id"])] = json.loads(data)
        elif self._inside is not None:
            self.code.append(data)


def blocks_of(file: Path) -> Blocks:
    found = Blocks()
    found.feed(file.read_text(encoding="utf-8"))
    return found


def make_page(folder: Path, rows: list[Any], results: list[Any], **options: Any) -> dict[str, Any]:
    write(folder / "in.jsonl", rows)
    write(folder / "out.jsonl", results)
    return write_page(str(folder / "in.jsonl"), folder / "out.jsonl", folder / "page.html", **options)


def words_of_marks(document: dict[str, Any]) -> list[str]:
    """What the pieces of every mark make together."""
    words = [""] * len(document["marks"])
    for part in document["parts"]:
        for piece in part:
            for mark in piece[1:] if isinstance(piece, list) else ():
                words[mark] += piece[0]
    return words


def whole_text(document: dict[str, Any]) -> str:
    return "".join(piece if isinstance(piece, str) else piece[0] for part in document["parts"] for piece in part)


def mention(text: str, words: str, occurrence: int = 0) -> dict[str, Any]:
    start = -1
    for _ in range(occurrence + 1):
        start = text.index(words, start + 1)
    return {"text": words, "start": start, "end": start + len(words)}


@pytest.mark.parametrize("seed", range(12))
def test_pieces_make_the_text_and_every_mark(seed: int) -> None:
    """Marks that nest, cross, meet, and are the same, of characters that browsers count twice."""
    draw = random.Random(seed)
    text = "".join(draw.choice(SYMBOLS) for _ in range(draw.choice((1, 40, 6000))))
    marks = []
    for _ in range(draw.choice((0, 1, 200))):
        start = draw.randrange(len(text))
        marks.append(Mark(start, draw.randint(start + 1, min(len(text), start + draw.choice((1, 9, 400)))), 0))
    marks += marks[:3]
    parts = parts_of(text, marks)
    assert "".join(words for part in parts for words, _ in part) == text
    found = [""] * len(marks)
    for part in parts:
        for words, numbers in part:
            assert words
            lengths = [marks[number].end - marks[number].start for number in numbers]
            assert lengths == sorted(lengths, reverse=True)
            for number in numbers:
                found[number] += words
    assert found == [text[mark.start : mark.end] for mark in marks]
    assert all(part[-1][0].endswith("\n") for part in parts[:-1])
    assert all(sum(len(words) for words, _ in part) >= PART for part in parts[:-1])


def test_chains_of_a_result() -> None:
    text = "Ann 😀 saw Bob. She ran; Bob, who saw her, too."
    clusters = [
        [mention(text, "Bob"), mention(text, "Bob, who saw her"), mention(text, "Bob", 1)],
        [mention(text, "She"), mention(text, "Ann 😀"), mention(text, "her"), mention(text, "her")],
        [],
    ]
    chains, marks = marks_of(text, {"clusters": clusters})
    assert [tuple(chain) for chain in chains] == [("cluster", "Ann 😀", 4), ("cluster", "Bob", 3)]
    assert [text[mark.start : mark.end] for mark in marks if mark.chain == 1] == ["Bob", "Bob", "Bob, who saw her"]
    entities = [
        {"entity_group": "PER", "score": 0.5, **mention(text, "Bob", 1), "word": "Bob"},
        {"entity": "B-LOC", "start": 0, "end": 3},
        {"entity_group": "PER", "score": 0.25, "start": 0, "end": 5},
        {"entity_group": "PER", "score": 0.25, "start": 4, "end": 4, "word": ""},
    ]
    chains, marks = marks_of(text, {"entities": entities})
    assert [tuple(chain) for chain in chains] == [("entity", "PER", 2), ("entity", "B-LOC", 1)]
    assert [mark.note for mark in marks] == ["25.0\u202f%", "50.0\u202f%", ""]


def test_surroundings_are_of_whole_words() -> None:
    text = "one two three four five six seven eight nine ten"
    start = text.index("five")
    assert surroundings(text, Mark(start, start + 4, 0)) == ("one two three four ", " six seven eight nine")
    assert surroundings("a\n\nb c", Mark(3, 4, 0)) == ("a ", " c")
    assert surroundings("長" * 99, Mark(50, 51, 0)) == ("長" * 24, "長" * 24)
    assert len(shown("word " * 99)) < 170


def test_documents_and_results_are_joined_by_line(tmp_path: Path) -> None:
    """Rows without a result, with an error, that are none; in any order."""
    rows = [
        {"id": "x", "text": "Ann ran."},
        {"text": ["Two.", "Paragraphs."]},
        "{broken",
        {"text": 5, "text_pair": [5]},
        {"text": "Bob", "text_pair": "and Ann", "question": 7},
        {"text": None, "tokens": ["New", "York", "", "won"]},
        {"id": 4, "context": "Ann is here.", "question": "Who?"},
    ]
    tokens = {"entity_group": "LOC", "score": 1.0, "word": "New York", "start": 0, "end": 8}
    results = [
        {"line": 7, "id": 4, "answer": "Ann", "probability": 0.5, "start": 0, "end": 3},
        {"line": 4, "error": "text: a text is needed, got a number"},
        {"line": 3, "error": "not JSON"},
        {"line": 5, "label": "b", "scores": {"a": 0.25, "b": 0.75}, "truncated": True, "tokens_cut": 1234},
        {"line": 6, "entities": [tokens, {"entity_group": "LOC", "word": "", "start": 9, "end": 9}]},
        {"line": 1, "id": "x", "clusters": [], "summary": "She ran.", "score": 2},
    ]
    report = make_page(tmp_path, rows, results)
    size = (tmp_path / "page.html").stat().st_size
    assert report == {"documents": 7, "failed": 2, "without": 1, "marks": 2, "empty": 1, "bytes": size}
    documents = blocks_of(tmp_path / "page.html").documents
    first, second, third, fourth, fifth, sixth, last = (documents[f"document-{line}"] for line in range(1, 8))
    assert first["facts"] == [["summary", "She ran."], ["score", "2"]]
    assert (whole_text(second), second["facts"]) == ("Two.\n\nParagraphs.", [["result", "none"]])
    assert (third["error"], fourth["error"]) == ("not JSON", "text: a text is needed, got a number")
    assert fifth["facts"][:2] == [["label", "b 75.0\u202f%"], ["probabilities", "b 75.0\u202f%, a 25.0\u202f%"]]
    assert fifth["facts"][2] == ["cut", "1,234 tokens were not read"]
    assert (fifth["text_pair"], "question" in fifth) == ("and Ann", False)
    assert (whole_text(sixth), words_of_marks(sixth)) == ("New York  won", ["New York"])
    assert sixth["facts"] == [["not marked", "1 entities that have no characters"]]
    assert (last["question"], words_of_marks(last), last["facts"]) == ("Who?", ["Ann"], [["answer", "Ann 50.0\u202f%"]])
    titles = documents["index"]
    assert titles[0] == "1: x"
    assert titles[3].endswith("(error)")
    assert titles[6] == "7: 4"


def test_answers(tmp_path: Path) -> None:
    context = "It was Ann, or Bob."
    best = [{**mention(context, name), "probability": share} for name, share in (("Bob", 0.75), ("Ann", 0.125))]
    answer = {"answer": "Bob", "probability": 0.75, "start": 15, "end": 18}
    none = {"answer": "", "probability": None, "start": None, "end": None}
    rows = [{"question": "Who?", "context": context, "text": "no document"}] * 3
    make_page(tmp_path, rows, [{"line": 1, **answer, "n_best": best}, {"line": 2, **answer}, {"line": 3, **none}])
    documents = blocks_of(tmp_path / "page.html").documents
    assert words_of_marks(documents["document-1"]) == ["Bob", "Ann"]
    assert words_of_marks(documents["document-2"]) == ["Bob"]
    assert documents["document-3"]["marks"] == []
    assert documents["document-3"]["facts"] == [["answer", "none"]]


HOSTILE = "</script><script>bad()</script><!-- <script> ]]> &lt; \u0000 \u2028 <img src=x onerror=bad()> 😀"


def test_texts_are_never_code(tmp_path: Path) -> None:
    rows = [{"id": HOSTILE, "text": HOSTILE, "text_pair": HOSTILE}, {"text": "\ud800 half"}]
    marked = {"start": 0, "end": len(HOSTILE), "entity_group": HOSTILE}
    results = [{"line": 1, "id": HOSTILE, "entities": [marked], HOSTILE: HOSTILE}, {"line": 2, "error": HOSTILE}]
    make_page(tmp_path, rows, results)
    found = blocks_of(tmp_path / "page.html")
    document = found.documents["document-1"]
    assert whole_text(document) == document["text_pair"] == document["chains"][0]["name"] == HOSTILE
    assert document["facts"] == [[HOSTILE, HOSTILE]]
    hashes = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in found.code]
    style, script = (f"{kind}-src 'sha256-{one}'" for kind, one in zip(("style", "script"), hashes, strict=True))
    assert f"default-src 'none'; {style}; {script};" in found.policy
    assert not re.search(r"https?:|//\w", (tmp_path / "page.html").read_text(encoding="utf-8"))


TEN = ["probabilities", ", ".join(f"{label} 50.0\u202f%" for label in range(8)) + ", and 2 more"]
GOOD = {"text": "Ann ran."}
ENTITY = {"entity_group": "PER", "start": 0, "end": 3, "word": "Ann"}


@pytest.mark.parametrize(
    ("row", "result", "sentence"),
    [
        (GOOD, {"clusters": [[{"start": 4, "end": 9}]]}, "must lie in the text of 8 characters, got 4 and 9"),
        (GOOD, {"clusters": [[{"start": -1, "end": 2}]]}, "must lie in the text of 8 characters, got -1 and 2"),
        (GOOD, {"clusters": [[{"start": 2, "end": 2}]]}, "must lie in the text of 8 characters, got 2 and 2"),
        (GOOD, {"clusters": [[{"start": 0.0, "end": 2}]]}, "must be whole numbers, got 0.0 and 2"),
        (GOOD, {"clusters": [[{"end": 2}]]}, "must be whole numbers, got None and 2"),
        (GOOD, {"clusters": [[[0, 2]]]}, "a cluster must be a list of objects, got"),
        (GOOD, {"clusters": {}}, "clusters must be a list of lists, got dict"),
        (GOOD, {"clusters": [[{"start": 0, "end": 3, "text": "Bob"}]]}, "must be 'Bob' in the document, got 'Ann'"),
        (GOOD, {"entities": [{**ENTITY, "word": "Bob"}]}, "must be 'Bob' in the document, got 'Ann'"),
        (GOOD, {"entities": [{"start": 0, "end": 3}]}, "must have an entity_group or an entity"),
        (GOOD, {"entities": "PER"}, "entities must be a list of objects, got PER"),
        ({"context": "Ann"}, {"answer": "Bob", "start": 0, "end": 3}, "must be 'Bob' in the document, got 'Ann'"),
        (GOOD, {"answer": "Ann", "start": 0, "end": 3}, "a document is needed as context, got text"),
        ({"id": "a", **GOOD}, {"id": "b", "label": "x"}, 'of the document with the id "a", got one of "b"'),
        ({"words": "Ann"}, {"label": "x"}, "a document is needed as text or tokens or context, got words"),
        ({"text": 5}, {"label": "x"}, "got int"),
        ("{broken", {"label": "x"}, "must be of this document, which cannot be read: not JSON"),
    ],
)
def test_results_of_other_documents_are_refused_with_their_line(
    row: Any, result: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        make_page(tmp_path, [GOOD, row], [{"line": 2, **result}])
    assert str(caught.value).startswith("line 2: ")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ([{"line": 2, "label": "x"}], r"has a result of line 2, and .* has 1 lines"),
        ([{"line": 1, "label": "x"}, {"line": 1, "label": "x"}], "one result for every line, got two for line 1"),
        ([{"label": "x"}], "result 1 of .* must have the line of its document, got None"),
        ([{"line": True}], "must have the line of its document, got True"),
        ([[1]], "got"),
        (["{"], "in line 1"),
    ],
)
def test_results_that_are_none(results: list[Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        make_page(tmp_path, [GOOD], results)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("result", "facts"),
    [
        ({"labels": ["a"], "scores": {"a": 0.75}}, [["labels", "a"], ["probabilities", "a 75.0\u202f%"]]),
        ({"labels": [], "scores": {}}, [["labels", "none"]]),
        ({"label": "a", "scores": {"a": 0.75}}, [["label", "a 75.0\u202f%"]]),
        ({"value": -1.5}, [["value", "-1.5"]]),
        (
            {"label": "3", "scores": dict.fromkeys("0123456789", 0.5)},
            [["label", "3 50.0\u202f%"], TEN],
        ),
    ],
)
def test_facts(result: dict[str, Any], facts: list[list[str]], tmp_path: Path) -> None:
    make_page(tmp_path, [GOOD], [{"line": 1, **result}])
    assert blocks_of(tmp_path / "page.html").documents["document-1"]["facts"] == facts


JUNK = [None, True, 0, -1, 2**70, 1.5, float("nan"), "", "x", "\ud800", [], [1], [[]], {}, {"start": 0, "end": 1}]
WHOLE = [
    {"id": "a", "clusters": [[{"start": 0, "end": 3, "text": "Ann"}], []]},
    {"answer": "Ann", "probability": 0.5, "start": 0, "end": 3, "n_best": [{"text": "Ann", "start": 0, "end": 3}]},
    {"entities": [{**ENTITY, "score": 0.5}]},
    {"label": "a", "labels": ["a"], "scores": {"a": 0.5, "b": 0.5}, "value": 1.5, "truncated": True, "tokens_cut": 3},
    {"error": "bad"},
]


def damaged(value: Any, draw: random.Random) -> Any:
    """A value in which something is another one, or missing."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.2:
        return draw.choice(JUNK)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    copy, key = value.copy(), draw.choice(keys)
    if draw.random() < 0.2:
        del copy[key]
    else:
        copy[key] = damaged(value[key], draw)
    return copy


def test_damaged_results_are_shown_or_refused(tmp_path: Path) -> None:
    draw, refused = random.Random(0), 0
    row = {"id": "a", "text": "Ann ran.", "context": "Ann ran.", "question": "Who?"}
    for _ in range(600):
        result, other = damaged(draw.choice(WHOLE), draw), damaged(row, draw)
        if isinstance(result, dict):
            given = other if isinstance(other, dict) and draw.random() < 0.2 else row
            try:
                make_page(tmp_path, [given], [{"line": 1, **result}], overwrite=True)
            except InputError:
                refused += 1
    assert 100 < refused < 500


@pytest.mark.parametrize("ending", [".parquet", ".npy"])
def test_tables_are_refused_as_results(ending: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    results = tmp_path / f"results{ending}"
    results.write_bytes(b"PAR1\x80")
    with pytest.raises(InputError, match="the results must be JSON lines, got"):
        write_page(str(tmp_path / "rows.jsonl"), str(results), tmp_path / "page.html")


def test_answers_with_evidence_are_refused(tmp_path: Path) -> None:
    """Their characters are those of a sentence, not of a document."""
    context = [["Ann", ["She ran."]]]
    result = {"line": 1, "answer": "ran", "title": "Ann", "sentence": 0, "start": 4, "end": 7, "supporting_facts": []}
    with pytest.raises(InputError, match=r"answers in one text, got result 1 of .* with supporting facts"):
        make_page(tmp_path, [{"question": "?", "context": context}], [result])


@pytest.mark.parametrize("task", [task for task, prediction in ASKED.items() if not prediction.as_they_stand])
def test_what_predict_writes(task: str, models: Path, tmp_path: Path) -> None:
    rows = [*make_rows(task, 5), "{broken"]
    for row in rows[:5]:
        row["context" if task == "qa" else "text"] = (
            "😀 𠀀 " + row["context" if task == "qa" else "text"] + " naïve 長い"
        )
    if task == "token-classification":  # words, some of them without characters
        rows[4] = {"id": "words", "tokens": ["", "the", "😀", "", "dog"] * 9}
    file = write(tmp_path / "in.jsonl", rows)
    options: dict[str, Any] = {"n_best": 3} if task == "qa" else {}
    predict(task, str(models / task), str(file), tmp_path / "out.jsonl", stride=10, **options)
    report = write_page(str(file), tmp_path / "out.jsonl", tmp_path / "page.html")
    assert (report["documents"], report["failed"], report["without"]) == (6, 1, 0)
    documents = blocks_of(tmp_path / "page.html").documents
    wanted = 0
    for result in read(tmp_path / "out.jsonl")[:5]:
        document = documents[f"document-{result['line']}"]
        mentions = [one for cluster in result.get("clusters", []) for one in cluster] + result.get("n_best", [])
        words = [one["text"] for one in mentions] + [one["word"] for one in result.get("entities", [])]
        assert sorted(words_of_marks(document)) == sorted(filter(None, words))
        assert document["facts"] or task in ("coref", "token-classification")
        wanted += len(document["marks"])
    assert report["marks"] == wanted
    assert wanted > 0 or task in ("classification", "summarization")


def test_page_from_the_command_line(command: Callable[..., Any], tmp_path: Path) -> None:  # noqa: F811
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "body"], ["1", "Ann ran."], ["2", "Bob"]])
    write(tmp_path / "out.jsonl", [{"line": 1, "id": "1", "entities": [ENTITY]}, {"line": 2, "error": "too long"}])
    given = ("page", tmp_path / "in.csv", tmp_path / "out.jsonl", tmp_path / "page.html")
    refused = command(*given)
    assert (refused.code, (tmp_path / "page.html").exists()) == (2, False)
    assert "line 1: a document is needed as text or tokens or context, got id, body" in refused.sentence
    done = command(*given, "--text-column", "body")
    assert done.code == 0
    assert "2 documents, 1 of them with an error, 1 marks, in " in done.out
    before = (tmp_path / "page.html").read_bytes()
    again = command(*given, "--text-column", "body")
    assert (again.code, "--overwrite replaces it" in again.sentence) == (2, True)
    assert command(*given, "--text-column", "body", "--overwrite").code == 0
    assert (tmp_path / "page.html").read_bytes() == before
    for output, sentence in {
        tmp_path / "out.jsonl": "must not be a file that is read",
        tmp_path: "must be a file, got the folder",
        tmp_path / "nowhere" / "page.html": "the folder of the output must exist",
    }.items():
        found = command(*given[:3], output, "--text-column", "body", "--overwrite")
        assert (found.code, sentence in found.sentence) == (2, True), found
    assert command("page", tmp_path / "in.csv", tmp_path / "none", tmp_path / "other.html").code == 2


def test_a_page_that_cannot_be_written(
    command: Callable[..., Any],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    write(tmp_path / "in.jsonl", [GOOD])
    write(tmp_path / "out.jsonl", [{"line": 1, "entities": [ENTITY]}])
    monkeypatch.setattr(Path, "replace", full)
    done = command("page", tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "page.html")
    assert done.code == 1
    assert "page.html was not written: " in done.sentence
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
