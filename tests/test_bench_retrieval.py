# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer bench retrieval`: its documents, its scores, its vectors, and its file of results."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_longformer.benchmarks import retrieval
from hf_longformer.benchmarks.retrieval import Cell, Encoder, load, measure, run_retrieval, score
from hf_longformer.benchmarks.retrieval_report import draw, table
from hf_longformer.benchmarks.retrieval_tasks import FACTS, FIRST, Haystack, make, number_of_documents, read_questions
from hf_longformer.conversion import InputError, convert

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
from sources import edit_json
from test_sentence_transformers import make_sentence_source

LENGTHS = (150, 300)
STORY = "The lamp was lit. Nobody came up the stairs! Was it late? The sea went on. " * 30


@pytest.fixture(scope="module", autouse=True)
def few() -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hf_longformer.benchmarks.retrieval_tasks.FEWEST", 3)
        patched.setattr("hf_longformer.benchmarks.retrieval_tasks.DOCUMENTS", 4)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    make_sentence_source(folder, dense=False)
    return folder / "sentences"


@pytest.fixture(scope="module")
def converted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long") / "converted"
    convert(source, folder, max_length=400, attention_window=16)
    return folder


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("questions") / "q.json"
    paragraphs = [
        {"context": f"{STORY} {name}", "qas": [{"question": f"who is {name} {number}?"} for number in range(3)]}
        for name in ("fox", "dog", "mouse")
    ]
    file.write_text(json.dumps({"data": [{"title": "a", "paragraphs": paragraphs}]}))
    return file


class TestTasks:
    @pytest.mark.parametrize("task", ["passkey", "needle"])
    @pytest.mark.parametrize("length", [128, 700])
    def test_documents_say_what_is_asked_once(self, task: str, length: int, source: Path):
        tokenizer = load(source).tokenizer
        texts = make(task, length, 0, tokenizer, Haystack(STORY, tokenizer))
        assert len(texts.documents) == len(texts.queries) == number_of_documents(length)
        for number, (document, query) in enumerate(zip(texts.documents, texts.queries, strict=True)):
            assert length * 0.8 < len(tokenizer(document)["input_ids"]) <= length
            words = query.rstrip("?").split()
            names = [f"{a} {b}" for a, b in itertools.pairwise(words) if a[0].isupper() and b[0].isupper()]
            (name,) = [one for one in names if one.split()[0] in FIRST]
            said = [index for index, text in enumerate(texts.documents) if name in text]
            assert said == [number]
        assert texts.answers.tolist() == list(range(len(texts.queries)))

    def test_seeds_and_lengths_differ_and_are_repeated(self, source: Path):
        tokenizer = load(source).tokenizer
        haystack = Haystack(STORY, tokenizer)
        one, again, other = (make("needle", 300, seed, tokenizer, haystack) for seed in (0, 0, 1))
        assert one.documents == again.documents
        assert one.documents != other.documents

    def test_facts_are_put_between_sentences(self):
        for depth in np.linspace(0, 1, 30):
            whole = Haystack.put(STORY, "Here. ", float(depth))
            before = whole[: whole.index("Here. ")].rstrip()
            assert not before or before[-1] in ".!?"
            assert whole.replace("Here. ", "", 1).split() == STORY.split()
        assert all("{name}" in said and "{name}" in asked for said, asked in FACTS.items())

    def test_text_begins_again(self, source: Path):
        tokenizer = load(source).tokenizer
        haystack = Haystack("the quick brown fox. ", tokenizer)
        taken = haystack.take(50, random.Random(0))
        assert len(tokenizer(taken, add_special_tokens=False)["input_ids"]) >= 45

    def test_questions(self, questions: Path):
        found = read_questions([questions, questions], 5)
        assert (len(found.documents), len(found.queries)) == (6, 5)
        for query, answer in zip(found.queries, found.answers, strict=True):
            assert query.split()[2] in found.documents[answer]

    def test_distractors_are_searched_and_not_asked(self, questions: Path, tmp_path: Path):
        (tmp_path / "d.json").write_text(questions.read_text().replace("fox", "cat"))
        found = read_questions([questions], 100, [tmp_path / "d.json"])
        assert (len(found.documents), len(found.queries)) == (6, 9)
        assert set(found.answers) == {0, 1, 2}

    @pytest.mark.parametrize("content", ["{", "[]", '{"data": [{}]}', '{"data": []}'])
    def test_other_files_are_refused(self, content: str, tmp_path: Path):
        (tmp_path / "q.json").write_text(content)
        with pytest.raises(InputError, match="--questions must"):
            read_questions([tmp_path / "q.json"], 5)


class TestScores:
    DOCUMENTS = (np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [0.6, 0.8]]), np.array([[0.6, 0.8]]))

    @pytest.mark.parametrize(
        ("query", "answer", "rank"),
        [([1.0, 0.0], 0, 1), ([1.0, 0.0], 1, 3), ([0.0, 1.0], 1, 1), ([0.0, 1.0], 2, 2), ([0.6, 0.8], 1, 2)],
    )
    def test_ranks(self, query: list[float], answer: int, rank: int):
        found = score(np.array([query]), self.DOCUMENTS, np.array([answer]))
        assert found == {"recall_at_1": float(rank == 1), "mrr": pytest.approx(1 / rank)}


class TestVectors:
    def test_one_vector_is_that_of_sentence_transformers(self, source: Path, converted: Path):
        for folder in (source, converted):
            encoder = load(folder)
            text = "the quick brown fox " * 9
            expected = encoder.model.encode([text])
            np.testing.assert_allclose(encoder.of_tokens([encoder.tokens(text)]), expected, atol=1e-6)
        whole, late = encoder.of_document(encoder.tokens(text), 10**6)
        np.testing.assert_allclose(whole, expected, atol=1e-6)
        assert late.shape == whole.shape

    def test_order_and_company_of_rows_do_not_matter(self, source: Path):
        encoder = load(source)
        rows = [encoder.tokens("fox dog " * number) for number in (1, 30, 2, 7)]
        alone = np.concatenate([encoder.of_tokens([row]) for row in rows])
        np.testing.assert_allclose(encoder.of_tokens(rows), alone, atol=1e-6)

    def test_late_chunks_are_means_of_the_document_s_states(self, converted: Path):
        encoder = load(converted)
        tokens = encoder.tokens(STORY)[:237]
        with torch.inference_mode():
            ids = torch.tensor([[*encoder.first, *tokens, *encoder.last]])
            states = encoder.model[0].auto_model(ids).last_hidden_state[0, 1:-1]
        _, late = encoder.of_document(tokens, 100)
        for number, part in enumerate(states.split(100)):
            expected = torch.nn.functional.normalize(part.mean(dim=0), dim=0)
            np.testing.assert_allclose(late[number], expected, atol=1e-6)
        assert len(late) == 3
        alone = encoder.of_tokens([tokens[:100]])
        assert np.abs(alone - late[0]).max() > 1e-4  # the rest of the document is in it

    def test_chunks_of_the_source(self, source: Path):
        encoder, texts = load(source), read_questions_of(STORY)
        found = measure(encoder, texts, 98, Cell("questions", 0, 0, "source"))
        rows = [encoder.tokens(text) for text in texts.documents]
        chunks = [
            np.concatenate([encoder.of_tokens([row[a : a + 98]]) for a in range(0, len(row), 98)]) for row in rows
        ]
        queries = encoder.of_tokens([encoder.tokens(text) for text in texts.queries])
        for way, vectors in {
            "first chunk": [part[:1] for part in chunks],
            "best chunk": chunks,
            "mean of chunks": [part.mean(axis=0, keepdims=True) / np.linalg.norm(part.mean(axis=0)) for part in chunks],
        }.items():
            assert {**found[way], **score(queries, vectors, texts.answers)} == found[way]
            assert found[way]["vectors"] == sum(map(len, vectors))
        assert found["first chunk"]["cut"] == sum(len(row) - 98 for row in rows)
        assert found["best chunk"]["cut"] == 0

    def test_another_pooling_is_refused(self):
        class Pooling(torch.nn.Module):
            pooling_mode = "cls"

        with pytest.raises(InputError, match="whose pooling is the mean, got cls"):
            Encoder(torch.nn.Sequential(Pooling()), "x")


def read_questions_of(text: str) -> retrieval.Retrieval:
    documents = [text, text + " the quick brown fox" * 20, "dog " * 200]
    return retrieval.Retrieval(documents, ["fox", "dog"], np.array([1, 2]))


@pytest.fixture(scope="module")
def measured(source: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("measured") / "r.json"
    run_retrieval(output, source=source, questions=[questions], lengths=LENGTHS, seeds=(0, 1))
    assert (output.with_name("r-models") / "converted-300").is_dir()
    return output.read_text()


class TestResults:
    def test_all_is_there(self, measured: str):
        cells = json.loads(measured)["cells"]
        assert len(cells) == 5 * (2 * 2 * 2 + 1)
        assert {cell["way"] for cell in cells if cell["encoder"] == "converted"} == {"one vector", "late chunks"}
        late, best = (
            next(c["vectors"] for c in cells if (c["way"], c["length"]) == (way, 300))
            for way in ("late chunks", "best chunk")
        )
        assert late == best == 4 * 4  # as many of both

    def test_what_is_there_is_not_measured_again(
        self, measured: str, source: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        results = json.loads(measured)
        results["cells"] = [cell for cell in results["cells"] if (cell["task"], cell["seed"]) != ("needle", 1)]
        (tmp_path / "r.json").write_text(json.dumps(results))
        asked = []
        monkeypatch.setattr(retrieval, "measure", lambda *given: asked.append(given[-1]) or measure(*given))
        settings = {"source": source, "questions": [questions], "lengths": LENGTHS, "seeds": (0, 1)}
        again = run_retrieval(tmp_path / "r.json", **settings)
        assert {(cell.task, cell.seed) for cell in asked} == {("needle", 1)}
        key = lambda cell: [cell[name] for name in ("encoder", "task", "length", "seed", "way")]  # noqa: E731
        figures = [
            [(cell["recall_at_1"], cell["mrr"]) for cell in sorted(one["cells"], key=key)]
            for one in (again, json.loads(measured))
        ]
        assert figures[0] == figures[1]

    def test_a_converted_source_is_that_of_the_results(self, source: Path, tmp_path: Path):
        report = tmp_path / "r-models" / "converted-150" / "conversion_report.json"
        for lengths, seeds, is_new in (((150,), (0,), True), ((150,), (0, 1), False), ((150,), (0,), True)):
            run_retrieval(tmp_path / "r.json", source=source, lengths=lengths, seeds=seeds)
            assert (json.loads(report.read_text())["source"] == "sentences") == is_new
            edit_json(report, source="another one")
            if seeds == (0, 1):
                (tmp_path / "r.json").unlink()  # what another source left must not be taken

    def test_table_and_picture(self, measured: str, tmp_path: Path):
        results = json.loads(measured)
        lines = table(results).splitlines()
        assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
        assert lines[0].endswith("| best chunk of the source | converted, one vector | converted, late chunks |")
        assert any(line.startswith("| passkey | 150 | 4 | ") for line in lines)
        assert any(line.startswith("| questions | their own | 3 | ") for line in lines)
        assert "converted reads fewer tokens than documents of questions have" in lines[-1]
        draw(results, tmp_path / "r.png")
        assert (tmp_path / "r.png").stat().st_size > 10_000

    def test_other_settings_and_damage_are_refused(self, measured: str, source: Path, tmp_path: Path):
        results = json.loads(measured)
        (tmp_path / "r.json").write_text(json.dumps(results))
        with pytest.raises(InputError, match="with other questions"):
            run_retrieval(tmp_path / "r.json", source=source, lengths=LENGTHS)
        results["cells"][0]["mrr"] = "high"
        (tmp_path / "r.json").write_text(json.dumps(results))
        with pytest.raises(InputError, match="must hold results of this command"):
            run_retrieval(tmp_path / "r.json", source=source, lengths=LENGTHS)


class TestCommandLine:
    def test_table_picture_and_results(self, bench, source: Path, converted: Path, tmp_path: Path):
        words = ("--source", source, "--checkpoint", converted, "--lengths", "150,300")
        code, out, error = bench("retrieval", *words, "--output", tmp_path / "r.json")
        assert (code, error) == (0, "")
        assert "| needle | 300 | 4 | " in out
        assert f"picture in {tmp_path / 'r.png'}" in out
        assert not (tmp_path / "r-models").exists()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--windows", "8"], "`bench retrieval` does not take --windows: "),
            (["--depths", "8"], "`bench retrieval` does not take --depths: "),
            (["--lengths", "150,150"], "--lengths must name nothing twice"),
            (["--lengths", "64,300"], "--lengths must be at least 128"),
            (["--lengths", "500"], "--lengths must be at most 400, which converted reads, got 500"),
            (["--checkpoint", "nowhere"], "an encoder must be a folder with a config.json, got nowhere"),
            (["--questions", "nowhere"], "--questions must be files in SQuAD's form, got nowhere"),
            (["--distractors", "nowhere"], "--distractors are searched for the answers of --questions, got none"),
            (["--books", "nowhere"], "--books must be a folder with text in .txt files, got 0 in nowhere"),
            (["--output", "nowhere/r.json"], "--output must be a file in a folder that exists"),
        ],
    )
    def test_bad_input_is_one_sentence(
        self, bench, arguments: list[str], words: str, source: Path, converted: Path, tmp_path: Path
    ):
        defaults = {"--output": tmp_path / "r.json", "--checkpoint": converted, "--lengths": "300"}
        more = [one for name, value in defaults.items() if name not in arguments for one in (name, value)]
        code, out, error = bench("retrieval", "--source", source, *arguments, *more)
        assert (code, out) == (2, "")
        assert words in error
        assert not (tmp_path / "r.json").exists()
