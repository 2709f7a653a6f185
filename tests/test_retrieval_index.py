# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer index build` and `index search`, and what is found in an index: exactly the nearest, with what
follows, nothing of the same document, and nothing of an index that is damaged or for something else.
"""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_config, tiny_tokenizer
from safetensors.numpy import load_file, save_file

import hf_longformer_cli as cli
from hf_longformer import HfLongformerForCausalLM, HfLongformerForMaskedLM, HfLongformerModel, byte_tokenizer
from hf_longformer.conversion import InputError
from hf_longformer.retrieval import build_index, by_overlap, find_neighbours, open_index, overlap, read_corpus
from hf_longformer.retrieval.corpus import digest_of_text

pytest.importorskip("faiss", reason="pip install 'hf-longformer[retrieval]'")
M = 16
SENTENCES = (
    *("The ship sailed at dawn. ", "A dog slept by the fire. "),
    *("Snow fell on the hills. ", "He wrote her a letter. "),
)


def book(*numbers: int) -> str:
    return "".join(SENTENCES[number] for number in numbers)


BOOKS = {"one": book(0, 1, 2, 3, 0), "two": book(3, 3, 1), "three": "Nothing else"}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, and letters as tokens: texts that are alike have embeddings that are. A language model, whose
    pooler is another one whenever it is loaded, and is not used.
    """
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = tiny_config(vocab_size=260, pad_token_id=256, max_position_embeddings=400)
    HfLongformerForMaskedLM(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for name, text in BOOKS.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def built(encoder: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "INDEX"
    build_index(corpus, folder, encoder=str(encoder), tokenizer="bytes", chunk_size=M)
    return folder


@pytest.fixture
def index(built: Path) -> Any:
    return open_index(built)


def as_tokens(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)


def test_an_index_holds_every_token_once(index: Any) -> None:
    """In chunks that follow one another in their document, the last with what is left; read again with what follows."""
    documents = {one["id"]: one for one in index.record["documents"]}
    assert {name: one["tokens"] for name, one in documents.items()} == {name: len(BOOKS[name]) for name in BOOKS}
    assert len(index) == sum(-(-len(text) // M) for text in BOOKS.values())
    found, mask = index.neighbours(np.arange(len(index)), 2 * M)
    for chunk in range(len(index)):
        name = index.document_of(chunk)["id"]
        first = next(one for one in range(len(index)) if index.document_of(one)["id"] == name)
        start = (chunk - first) * M
        assert bytes(found[chunk][mask[chunk]].astype(np.uint8)).decode() == BOOKS[name][start : start + 2 * M]
    assert not index.neighbours(np.array([-1]), M)[1].any()
    assert documents["one"]["sha256"] == digest_of_text("\ufeff" + BOOKS["one"].replace("\n", "\r\n"))


def test_the_nearest_are_found(index: Any) -> None:
    """Beside all inner products, worked out here; every chunk is its own nearest."""
    embeddings = index.tensors["embeddings"]
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, rtol=1e-5)
    found, scores = index.search(embeddings, 3)
    products = embeddings.astype(np.float64) @ embeddings.T.astype(np.float64)
    np.testing.assert_allclose(scores, -np.sort(-products, axis=1)[:, :3], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(products, found, axis=1), scores, atol=1e-5)
    chunks = [index.neighbours(np.array(chunk), M) for chunk in range(len(index))]
    again = index.embed([ids[mask] for ids, mask in chunks])
    np.testing.assert_allclose(again, embeddings, atol=1e-5)


def test_documents_can_be_left_out(index: Any) -> None:
    without = index.documents_like(["one"], [])
    found, scores = index.search(index.tensors["embeddings"], len(index), without)
    left = [chunk for chunk in range(len(index)) if index.document_of(chunk)["id"] != "one"]
    assert {int(chunk) for chunk in found.flatten() if chunk >= 0} == set(left)
    assert ((found >= 0).sum(axis=1) == len(left)).all()
    assert not scores[found < 0].any()
    with pytest.raises(ValueError, match="embeddings must be finite"):
        index.search(np.full((1, index.record["size"]), np.nan, dtype=np.float32), 1)


def test_neighbours_of_a_text_are_of_other_documents(built: Path, tmp_path: Path) -> None:
    """By name, and by what they say under another name; a chunk that two documents share is kept from both."""
    shutil.copytree(built, tmp_path / "INDEX")
    index = open_index(tmp_path / "INDEX")
    texts = [("one", "another " * 9), ("renamed", BOOKS["two"]), ("new", BOOKS["one"])]
    ids, documents, start = as_tokens("".join(text for _, text in texts)), [], 0
    for name, text in texts:
        documents.append({"start": start, "stop": start + len(text), "id": name, "sha256": digest_of_text(text)})
        start += len(text)
    found = find_neighbours(index, ids, documents, 4, 2 * M)
    assert found.excluded == ["one", "two"]
    assert found.found.shape == (len(ids) // M, 4)
    for chunk, numbers in enumerate(found.found):
        inside = [one for one in documents if one["start"] < (chunk + 1) * M and one["stop"] > chunk * M]
        names = {{"renamed": "two", "new": "one"}.get(one["id"], one["id"]) for one in inside}
        assert not names & {index.document_of(number)["id"] for number in numbers if number >= 0}
        assert numbers[0] >= 0
    ids_of_neighbours, mask = found.of(2, 5)
    assert ids_of_neighbours.shape == mask.shape == (3, 4, 2 * M)
    (file,) = (tmp_path / "INDEX.neighbours").glob("*.safetensors")
    index.embed = None  # nothing is looked for twice
    assert np.array_equal(find_neighbours(index, ids, documents, 4, 2 * M).found, found.found)
    save_file({"found": np.zeros_like(found.found)}, file)  # and what is not what was written is not read
    again = open_index(tmp_path / "INDEX")
    assert np.array_equal(find_neighbours(again, ids, documents, 4, 2 * M).found, found.found)
    find_neighbours(again, ids[: 3 * M], documents, 4, 2 * M)
    assert len(list((tmp_path / "INDEX.neighbours").iterdir())) == 2


def test_generation_reads_an_index(index: Any) -> None:
    """A model that looks in an index writes what passes over the whole text say."""
    torch.manual_seed(0)
    config = tiny_config(vocab_size=260, eos_token_id=None, is_decoder=True, initializer_range=0.3)
    config.position_embedding_type = "rotary"
    config.retrieval = {"chunk_size": M, "neighbours": 2}
    model = HfLongformerForCausalLM(config).double().eval()
    for layer in model.longformer.encoder.layer:
        if layer.chunked_crossattention is not None:
            torch.nn.init.normal_(layer.chunked_crossattention.dense.weight, std=0.3)
    model.set_retriever(index.retriever(config, without=["three"]))
    prompt = torch.from_numpy(as_tokens("A dog slept by a"))[None]
    found = model.generate(prompt, max_new_tokens=40, do_sample=False)
    with torch.no_grad():
        logits = model(found, **model.neighbours_of(found)).logits
    assert torch.equal(logits[:, M - 1 : -1].argmax(dim=-1), found[:, M:])
    with pytest.raises(InputError, match="chunks of 8 tokens, as the model reads, got 16"):
        index.retriever(tiny_config(is_decoder=True, retrieval={"chunk_size": 8}, vocab_size=260))
    with pytest.raises(InputError, match=r"must have config.retrieval to read neighbours"):
        index.retriever(tiny_config())
    with pytest.raises(InputError, match=r"which are less than 99, got 121: build it with the model's"):
        index.retriever(tiny_config(is_decoder=True, retrieval={"chunk_size": M}))
    with pytest.raises(InputError, match="got those of another tokenizer, bytes"):
        index.check_tokenizer(tiny_tokenizer())


def longest_run(one: list[int], other: list[int]) -> int:
    """By all pairs of places."""
    return max(
        (
            size
            for i in range(len(one))
            for j in range(len(other))
            for size in range(1, min(len(one) - i, len(other) - j) + 1)
            if one[i : i + size] == other[j : j + size]
        ),
        default=0,
    )


def test_overlap_is_the_longest_run_in_common() -> None:
    generator = np.random.default_rng(0)
    chunks, neighbours = generator.integers(3, size=(9, 6)), generator.integers(3, size=(9, 2, 8))
    mask = generator.random(neighbours.shape) < 0.9
    mask[0] = False
    neighbours[1, 1, 1:7] = chunks[1]
    mask[1, 1] = True
    found = overlap(chunks, neighbours, mask)
    for row in range(9):
        runs = [longest_run(list(chunks[row]), list(np.where(mask[row, k], neighbours[row, k], -1))) for k in range(2)]
        assert found[row] == max(runs) / 6
    assert (found[0], found[1]) == (0.0, 1.0)
    assert overlap(chunks[:0], neighbours[:0], mask[:0]).shape == (0,)


def test_losses_by_overlap() -> None:
    rows = by_overlap(np.array([1.0, 2.0, 6.0]), np.array([2, 2, 2]), np.array([0.3, 0.5, 1.0]))
    assert [(row["overlap"], row["chunks"]) for row in rows] == [(0.125, 0), (0.25, 0), (0.5, 2), (0.75, 2), (1.0, 3)]
    assert rows[0]["bits_per_token"] is None
    assert rows[2]["bits_per_token"] == pytest.approx(0.75 / np.log(2))
    assert rows[4]["bits_per_token"] == pytest.approx(1.5 / np.log(2))


def test_a_corpus_is_read(tmp_path: Path) -> None:
    rows = [{"text": "a", "id": "x"}, {"text": "b"}, {"text": "c", "id": 7}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert [(one.id, one.text) for one in read_corpus(tmp_path / "rows.jsonl")] == [("x", "a"), ("2", "b"), ("7", "c")]
    (tmp_path / "one.txt").write_text("only", encoding="utf-8")
    assert [one.id for one in read_corpus(tmp_path / "one.txt")] == [one.id for one in read_corpus(tmp_path)] == ["one"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a", "id": 1}\n{"text": "b", "id": "1"}', "an id of its own, got two of '1'"),
        ("a.jsonl", '{"id": 1}', "must have a text, got NoneType as text in row 1"),
        ("a.jsonl", '{"text": "a", "id": [1]}', "id in row 1 of .* must be a text or a whole number"),
        ("a.jsonl", '{"text": " "}', "must have text in it, got none in row 1"),
        ("a.jsonl", "", "must have documents in it, got none"),
        ("a.txt", "\n", "must have text in it, got none"),
        ("a.csv", "text", "must end in .txt or .jsonl"),
        ("a.txt", b"\xff\xfe", "must be UTF-8 text, got byte 0 that is not"),
    ],
)
def test_a_corpus_that_cannot_be_read(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        list(read_corpus(file))
    with pytest.raises(InputError, match="a folder of them, or JSON lines, got"):
        list(read_corpus(tmp_path / "nothing.txt"))


def edit(folder: Path, **entries: Any) -> None:
    record = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    (folder / "index.json").write_text(json.dumps({**record, **entries}), encoding="utf-8")


def cut_tensors(folder: Path) -> None:
    content = (folder / "chunks.safetensors").read_bytes()
    (folder / "chunks.safetensors").write_bytes(content[:-8])


def other_tensors(folder: Path) -> None:
    import hashlib

    tensors = load_file(folder / "chunks.safetensors")
    save_file({**tensors, "starts": tensors["starts"][:-1]}, folder / "chunks.safetensors")
    edit(folder, sha256=hashlib.sha256((folder / "chunks.safetensors").read_bytes()).hexdigest())


def other_tokenizer(folder: Path) -> None:
    tiny_tokenizer().save_pretrained(folder / "tokenizer")


DAMAGES = {
    "nothing": (lambda folder: shutil.rmtree(folder), "a folder that `hf-longformer index build` writes"),
    "record": (lambda folder: (folder / "index.json").write_text("{"), "must be a readable JSON file"),
    "entry": (lambda folder: edit(folder, chunk_size="16"), "index.json must have chunk_size, got '16'"),
    "form": (lambda folder: edit(folder, form=9), "must be of form 1, got 9"),
    "cut": (cut_tensors, "is not what was written beside index.json"),
    "no tensors": (lambda folder: (folder / "chunks.safetensors").unlink(), "cannot be read"),
    "other": (other_tensors, "are not of one index"),
    "no tokenizer": (lambda folder: shutil.rmtree(folder / "tokenizer"), "cannot be read"),
    "another tokenizer": (
        lambda folder: tiny_tokenizer().save_pretrained(folder / "tokenizer"),
        "are not of one index",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_indexes_are_refused(name: str, built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "INDEX"
    shutil.copytree(built, folder)
    damage, message = DAMAGES[name]
    damage(folder)
    with pytest.raises(InputError, match=message):
        open_index(folder)


def test_another_encoder_is_refused(index: Any, encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder, tmp_path / "other")
    torch.manual_seed(1)
    HfLongformerModel.from_pretrained(encoder).apply(
        lambda module: torch.nn.init.normal_(module.weight) if isinstance(module, torch.nn.Linear) else None
    ).save_pretrained(tmp_path / "other")
    index.record["encoder"]["name"] = str(tmp_path / "other")
    with pytest.raises(InputError, match="must be searched with the encoder that it was made with"):
        index.embed([np.arange(5)])
    index.encoder, index.record["encoder"]["name"] = None, str(tmp_path / "gone")
    with pytest.raises(InputError, match="cannot be loaded"):
        index.embed([np.arange(5)])


def test_a_killed_build_leaves_the_old_index(
    built: Path, corpus: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "INDEX"
    shutil.copytree(built, folder)
    before = (folder / "index.json").read_bytes()

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("hf_longformer.retrieval.build.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            build_index(corpus, folder, encoder=str(encoder), tokenizer="bytes", chunk_size=4, overwrite=True)
    assert [one.name for one in tmp_path.iterdir()] == ["INDEX"]
    assert (folder / "index.json").read_bytes() == before
    build_index(corpus, folder, encoder=str(encoder), tokenizer="bytes", chunk_size=4, overwrite=True)
    assert open_index(folder).chunk_size == 4


@pytest.fixture
def command(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command line in this process."""

    def run(*words: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["hf-longformer", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        lines = [line for line in said.err.replace("\r", "\n").splitlines() if line.startswith("hf-longformer:")]
        return SimpleNamespace(code=stopped.value.code or 0, out=said.out, err=said.err, sentences=lines)

    return run


def test_commands(command: Any, built: Path, corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Exit codes, what is said, and no folder where something is wrong."""
    output = tmp_path / "INDEX"
    words = ("index", "build", corpus, output, "--encoder", encoder)
    done = command(*words, "--chunk_size", M)
    assert (done.code, done.out.strip()) == (0, f"wrote 14 chunks of 3 documents, 16 tokens each, to {output}")
    assert json.loads((output / "index.json").read_text())["sha256"] == open_index(built).digest
    refused = command(*words)
    assert (refused.code, "--overwrite replaces it" in refused.err) == (2, True)
    assert command(*words, "--overwrite").code == 0
    assert command("index", "build", corpus, corpus.parent, "--encoder", encoder, "--overwrite").code == 2
    for wrong in (("--encoder", tmp_path), ("--tokenizer", tmp_path)):
        refused = command("index", "build", corpus, tmp_path / "new", "--encoder", encoder, *wrong)
        assert (refused.code, len(refused.sentences)) == (2, 1)
    assert not (tmp_path / "new").exists()
    shown = command("index", "search", built, "The ship sailed ", "-k", 2)
    assert shown.code == 0
    assert shown.out.splitlines()[0] == "1.000  one  The ship sailed  … at dawn. A dog s"
    few = command("index", "search", built, "snow", "-k", 99)
    assert (few.code, len(few.out.splitlines())) == (0, 14)
    assert "no more than 14 chunks" in few.err
    assert command("index", "search", tmp_path, "snow").code == 2
    assert command("index", "search", built, " ").code == 2
