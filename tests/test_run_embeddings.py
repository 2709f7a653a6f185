# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/run_embeddings.py`: rows read by name, losses, teachers, positions, segments, and what is written."""

import json
import math
import shutil
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from embedding_runs import SOURCE_LENGTH, TOPICS, arguments, document, make_encoder, write_pairs
from safetensors.torch import load_file
from sources import edit_json, make_source
from training_runs import Kill, losses

import hf_longformer_cli as cli
from hf_longformer.conversion import InputError

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from hf_longformer.finetune import run_embeddings
from hf_longformer.finetune.embeddings.batches import PairBatchSampler, PairCollator
from hf_longformer.finetune.embeddings.documents import make_pairs, sections_of, sentences_of
from hf_longformer.finetune.embeddings.evaluation import RetrievalEvaluator
from hf_longformer.finetune.embeddings.loss import RankingLoss
from hf_longformer.finetune.embeddings.pairs import Texts, keys_of, read_texts, roles_of
from hf_longformer.finetune.embeddings.positions import source_length
from hf_longformer.finetune.embeddings.predictor import Embedder
from hf_longformer.finetune.embeddings.segments import SegmentCutter
from hf_longformer.finetune.embeddings.teacher import make_teacher
from hf_longformer.finetune.predict import predict

WEIGHTS = "model.safetensors"
POSITIONS = "embeddings.position_embeddings.weight"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted sentence encoder without dropout, and pairs to train on and others to measure on."""
    folder = tmp_path_factory.mktemp("embeddings")
    dropout = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.1)
    make_encoder(folder, **dropout)
    write_pairs(folder / "train.jsonl", range(4))
    write_pairs(folder / "valid.jsonl", range(10, 11))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """The same, in a folder to write to."""
    shutil.copytree(made / "model", tmp_path / "model")
    for name in ("train.jsonl", "valid.jsonl"):
        shutil.copy(made / name, tmp_path / name)
    return tmp_path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def load(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def write_rows(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_short_training_finds_more(folder: Path, capsys: pytest.CaptureFixture) -> None:
    results = run_embeddings.main(arguments(folder, max_steps=24))
    scores = results["scores"]
    assert scores["validation"]["recall@1"] > scores["validation before training"]["recall@1"] + 0.3
    assert json.loads((folder / "run" / "results.json").read_text()) == json.loads(json.dumps(results))

    model, texts = load(folder / "run"), [document(TOPICS[0], 3), "the lazy dog"]
    vectors = model.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)  # its modules are there
    assert model.max_seq_length == 400  # the model's, not the training's
    rows = write_rows(folder / "texts.jsonl", [{"text": text} for text in texts])
    predict("embeddings", str(folder / "run"), str(rows), folder / "out.jsonl")
    lines = [json.loads(line)["embedding"] for line in (folder / "out.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(lines, vectors, atol=1e-6)

    trained = weights(folder / "run")
    assert json.loads((folder / "run" / "config.json").read_text())["global_projections"] == "synced"
    name = "encoder.layer.0.attention.self.query"
    assert torch.equal(trained[f"{name}_global.weight"], trained[f"{name}.weight"])
    assert not torch.equal(trained[f"{name}.weight"], weights(folder / "model")[f"{name}.weight"])
    card = (folder / "run" / "README.md").read_text()
    for line in (
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        "encode_query",
        "recall@1",
    ):
        assert line in card, line
    assert not list((folder / "run").rglob("*.bin"))
    assert not (folder / "run" / "eval").exists()


def test_evaluate_says_the_same_of_a_trained_folder(folder: Path, monkeypatch, capsys) -> None:
    results = run_embeddings.main(arguments(folder, max_steps=4))
    given = arguments(folder, "measured", model_name_or_path=folder / "run", train_files=None)
    monkeypatch.setattr(sys, "argv", ["hf-longformer", "evaluate", "embeddings", *given])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert f"recall@1 {results['scores']['validation']['recall@1']:.4g}" in capsys.readouterr().out
    measured = json.loads((folder / "measured" / "results.json").read_text())
    assert measured["scores"] == {"validation": results["scores"]["validation"]}


@pytest.mark.parametrize(
    "options",
    [
        {"hard_negatives": 2, "hard_negatives_margin": 0, "segments": 48},
        {"teacher": "chunk-maximum", "chunk_size": 40, "matryoshka_dims": [24, 8]},
    ],
    ids=["negatives and segments", "teacher"],
)
def test_a_run_goes_on_as_if_nothing_had_been(folder: Path, options: dict[str, Any], monkeypatch) -> None:
    run_embeddings.main(arguments(folder, "whole", **options))
    with monkeypatch.context() as patch:
        patch.setattr("hf_longformer.finetune.training.StopOnBadLoss", Kill)
        with pytest.raises(KeyboardInterrupt):
            run_embeddings.main(arguments(folder, **options))
    results = run_embeddings.main(arguments(folder, **options))
    assert results["training"]["resumed_from"] == "checkpoint-4"
    assert losses(folder / "run") == losses(folder / "whole")
    assert equal(weights(folder / "run"), weights(folder / "whole"))
    again = run_embeddings.main(arguments(folder, **options))  # finished: nothing is done
    assert again == json.loads((folder / "run" / "results.json").read_text())


def test_the_best_model_is_kept(folder: Path) -> None:
    steps = {"eval_strategy": "steps", "eval_steps": 4, "learning_rate": 0.05, "save_total_limit": 5}
    results = run_embeddings.main(arguments(folder, **steps))
    state = json.loads((folder / "run" / "checkpoint-12" / "trainer_state.json").read_text())
    measured = [entry["eval_ndcg@10"] for entry in state["log_history"] if "eval_ndcg@10" in entry]
    assert len(measured) == 4  # before, and three times
    best = Path(state["best_model_checkpoint"]).name
    assert results["scores"]["validation"]["ndcg@10"] == pytest.approx(max(measured[1:]))
    kept, saved = (
        {name: one for name, one in weights(place).items() if "_global." not in name}
        for place in (folder / "run", folder / "run" / best)
    )
    assert equal(kept, saved)  # and global projections are the local ones again


def test_columns_are_read_by_name_and_not_by_order(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_embeddings.main(arguments(folder))
    others = {
        "swapped": write_pairs(folder / "swapped.jsonl", range(4), ("positive", "anchor")),
        "renamed": write_pairs(folder / "renamed.jsonl", range(4), ("text", "question"), url="x", score=1),
    }
    for name, file in others.items():
        run_embeddings.main(arguments(folder, name, train_files=file))
        assert equal(weights(folder / name), weights(folder / "run")), name
    assert "renamed.jsonl, since their names mean nothing here: url, score" in caplog.text


def test_roles_stand_in_one_table() -> None:
    columns = ["negative_10", "document", "negative", "query", "negative_2", "title"]
    assert roles_of(columns, "a") == {
        "anchor": "query",
        "positive": "document",
        "negative_1": "negative",
        "negative_2": "negative_2",
        "negative_3": "negative_10",
    }
    assert roles_of(["title", "text", "id"], "a") == {"positive": "text", "title": "title"}
    for columns, message in {
        ("query", "question", "text"): "one column for every anchor, got query and question",
        ("query", "answer", "text"): "one column for every positive, got answer and text",
        ("query", "url"): "must have a column with documents",
        ("text", "negative"): "must have queries for its negatives",
    }.items():
        with pytest.raises(InputError, match=message):
            roles_of(list(columns), "a.csv")


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "json"])
def test_tables_of_every_format_are_read(tmp_path: Path, ending: str) -> None:
    rows = [{"positive": "a, b", "id": "1", "question": "c"}, {"positive": "d", "id": "2", "question": "e"}]
    table, file = Dataset.from_list(rows), str(tmp_path / f"rows.{ending}")
    if ending == "parquet":
        table.to_parquet(file)
    elif ending == "json":
        Path(file).write_text(json.dumps(rows))
    else:
        table.to_csv(file, index=False, sep={"csv": ",", "tsv": "\t"}[ending])
    texts = read_texts([file, file], training=True)
    assert texts.dataset().column_names == ["anchor", "positive"]
    assert texts.rows == [{"anchor": "c", "positive": "a, b"}, {"anchor": "e", "positive": "d"}] * 2


def test_rows_with_an_empty_text_are_counted_and_in_measurements_refused(tmp_path: Path, caplog) -> None:
    rows = [{"query": "a", "text": "b"}, {"query": " ", "text": "c"}, {"query": "d", "text": None}]
    file = str(write_rows(tmp_path / "rows.jsonl", rows))
    texts = read_texts([file], training=True)
    assert (texts.rows, texts.skipped) == ([{"anchor": "a", "positive": "b"}], 2)
    assert "skipped 2 rows" in caplog.text
    with pytest.raises(InputError, match="must have its document, got none in row 3"):
        read_texts([file], training=False)
    file = str(write_rows(tmp_path / "rows.jsonl", rows[:2]))
    assert read_texts([file], training=False).only_searched == ["c"]


def test_every_query_must_have_its_document() -> None:
    with pytest.raises(InputError, match="must have a document, got none of query 2"):
        RetrievalEvaluator({"1": "a", "2": "b"}, {"1": "c"}, {"1": {"1"}})
    with pytest.raises(InputError, match="must be among those that are searched, got 3"):
        RetrievalEvaluator({"1": "a"}, {"1": "c"}, {"1": {"1", "3"}})


def test_no_text_stands_twice_in_a_batch() -> None:
    random = np.random.default_rng(0)
    keys = [[100 + number, int(random.integers(30))] for number in range(101)]
    sampler = PairBatchSampler(keys, 8, seed=1)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == 13
        assert sorted(index for batch in batches for index in batch) == list(range(101))
        assert {len(batch) for batch in batches} <= {6, 7, 8}
        for batch in batches:
            assert len({keys[index][1] for index in batch}) == len(batch)
        epochs.append(batches)
    assert epochs[0] != epochs[1]
    sampler.set_epoch(1)
    assert list(sampler) == epochs[1]


def test_what_must_stand_twice_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert sorted(map(len, PairBatchSampler([[1, 2]] * 6, 4))) == [3, 3]
    assert "epoch 1: 4 pairs share a text with another one of their batch" in caplog.text


TEXT = (
    "The first sentence is about foxes. The second one is about dogs!\n\nA heading of its own\n\nVersion 3.5 is about "
    "“windows.” Short. Is the last one about encoders?"
)


def test_sentences_end_where_they_end() -> None:
    assert [TEXT[start:end] for start, end in sentences_of(TEXT)] == [
        "The first sentence is about foxes.",
        "The second one is about dogs!",
        "A heading of its own",
        "Version 3.5 is about “windows.”",
        "Is the last one about encoders?",
    ]
    assert [len(section) for section in sections_of("\n\n".join(["a" * 600] * 5))] == [1202, 1202, 600]


def test_pairs_are_made_of_documents() -> None:
    texts = Texts(
        [{"positive": TEXT, "title": "Foxes"}, {"positive": "One sentence that is alone.", "title": ""}], False
    )
    titles = make_pairs(texts, "titles", 0)
    assert (titles.rows, titles.skipped) == ([{"anchor": "Foxes", "positive": TEXT}], 1)
    cloze = make_pairs(texts, "inverse-cloze", 0, keep_passage=0, queries=3)
    assert (len(cloze.rows), cloze.skipped) == (3, 1)
    assert len({row["anchor"] for row in cloze.rows}) == 3
    for row in cloze.rows:
        assert row["anchor"] not in row["positive"]
        assert len(row["positive"]) >= len(TEXT) - len(row["anchor"]) - 2
    kept = make_pairs(texts, "inverse-cloze", 0, keep_passage=1, queries=3)
    assert [row["anchor"] for row in kept.rows] == [row["anchor"] for row in cloze.rows]
    assert {row["positive"] for row in kept.rows} == {TEXT}
    turned = make_pairs(Texts(texts.rows[::-1], False), "inverse-cloze", 0, keep_passage=1, queries=3)
    assert turned.rows == kept.rows
    assert make_pairs(texts, "inverse-cloze", 1, keep_passage=1, queries=3).rows != kept.rows
    long = "\n\n".join(f"{number} " + "a" * 1000 for number in range(5))
    (pair,) = make_pairs(Texts([{"positive": long}], False), "neighbouring-sections", 0).rows
    assert int(pair["positive"][0]) == int(pair["anchor"][0]) + 1
    with pytest.raises(InputError, match="needs documents with two sections"):
        make_pairs(texts, "neighbouring-sections", 0)


def test_documents_alone_are_trained_on(folder: Path) -> None:
    rows = [{"text": f"{document(topic, 0, 40)}. {document(topic, 1, 40)}."} for topic in TOPICS]
    file = write_rows(folder / "documents.jsonl", rows)
    given = {"train_files": file, "pairs": "inverse-cloze", "queries_per_document": 2, "max_steps": 2, "save_steps": 2}
    teacher = {"teacher": "late-interaction", "teacher_weight": 1, "chunk_size": 30}
    results = run_embeddings.main(arguments(folder, **given, **teacher))
    assert results["rows"]["train"] == 2 * len(TOPICS)
    assert (folder / "run" / "teacher" / "documents.npy").is_file()
    measured = {"validation_files": file, "train_files": None, "do_train": False, "pairs": "inverse-cloze"}
    assert run_embeddings.main(arguments(folder, "measured", **measured))["rows"] == {"validation": len(TOPICS)}


def test_what_is_beyond_the_limit_is_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = run_embeddings.main(arguments(folder, max_seq_length=64, max_steps=1))
    model = load(folder / "model")
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    over = [max(0, len(model.tokenizer(row["positive"])["input_ids"]) - 64) for row in rows]
    assert results["cut"]["train"] == {"pairs": len(rows), "tokens": sum(over)}
    assert "not read, since beyond the limit, in validation: 15 pairs" in caplog.text


def test_prompts_are_trained_with_and_saved(folder: Path) -> None:
    prompts = {"query_prompt": "need: ", "document_prompt": "long: "}
    run_embeddings.main(arguments(folder, **prompts, max_steps=2))
    run_embeddings.main(arguments(folder, "without", max_steps=2))
    assert losses(folder / "run") != losses(folder / "without")
    model = load(folder / "run")
    assert (model.prompts["query"], model.prompts["document"]) == ("need: ", "long: ")
    text = TOPICS[0]
    np.testing.assert_array_equal(model.encode(text), model.encode_document(text))  # what `predict` does, too
    np.testing.assert_allclose(model.encode_query(text), model.encode(f"need: {text}", prompt=""), atol=1e-6)
    run_embeddings.main(arguments(folder, "again", model_name_or_path=folder / "run", max_steps=1))
    assert load(folder / "again").prompts == model.prompts


def test_cut_embeddings_are_trained_and_named(folder: Path) -> None:
    run_embeddings.main(arguments(folder, matryoshka_dims=[24, 8], max_steps=2))
    assert Embedder.load(str(folder / "run")).sizes == [8, 24]


def tokens(model: SentenceTransformer, texts: list[str]) -> dict[str, torch.Tensor]:
    return dict(model.tokenizer(texts, padding=True, return_tensors="pt"))


@pytest.mark.parametrize("room", [100, 2000], ids=["twice", "once"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_is_what_it_says_and_so_are_its_gradients(folder: Path, weight: float, room: int) -> None:
    model = load(folder / "model").eval()
    queries, documents = TOPICS[:4], [document(topic, 0, 20 + 20 * number) for number, topic in enumerate(TOPICS[:8])]
    batch = [tokens(model, queries), tokens(model, documents[:4]), tokens(model, documents[4:])]
    teacher = torch.rand(4, 8)
    loss, passes = RankingLoss(model, weight, 0.1, scale=10.0, mini_batch_num_tokens=room), []
    model[0].register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    labels = torch.cat([torch.arange(4.0)[:, None], teacher], dim=1)
    found = loss(batch, labels if weight else None)
    found.backward()
    assert passes.count(False) == (0 if room == 2000 else passes.count(True))
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()
    vectors = [model(dict(one))["sentence_embedding"] for one in batch]
    scores = 10.0 * vectors[0] @ torch.cat(vectors[1:]).T
    wanted = torch.softmax(teacher / 0.1, dim=1)
    divergence = (wanted * (wanted.log() - scores.log_softmax(dim=1))).sum(dim=1).mean()
    ranking = MultipleNegativesRankingLoss(model, scale=10.0)([dict(one) for one in batch], None)
    expected = weight * divergence + (1 - weight) * ranking
    expected.backward()
    torch.testing.assert_close(found.detach(), expected.detach())
    assert gradients
    for name, one in model.named_parameters():
        if one.grad is not None:
            torch.testing.assert_close(gradients[name], one.grad, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("room", [100, 2000], ids=["twice", "once"])
def test_queries_may_share_a_document(folder: Path, room: int) -> None:
    model = load(folder / "model").eval()
    queries, documents = TOPICS[:5], [document(topic, 0) for topic in TOPICS[:2]]
    own = [0, 1, 0, 0, 1]
    loss = RankingLoss(model, scale=10.0, mini_batch_num_tokens=room)
    found = loss([tokens(model, queries), tokens(model, documents)], torch.tensor(own, dtype=torch.float32)[:, None])
    found.backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()
    asked, read = (model(tokens(model, texts))["sentence_embedding"] for texts in (queries, documents))
    expected = torch.nn.functional.cross_entropy(10.0 * asked @ read.T, torch.tensor(own))
    expected.backward()
    torch.testing.assert_close(found.detach(), expected.detach())
    for name, one in model.named_parameters():
        if one.grad is not None:
            torch.testing.assert_close(gradients[name], one.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_queries_of_a_document_stand_in_one_batch() -> None:
    keys = [[100 + number, number % 30] for number in range(285)]
    sampler = PairBatchSampler(keys, 4, seed=1, together=3)
    orders = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == 27  # 15 documents of 10 queries in 4 groups, 15 of 9 in 3, by fours
        assert sorted(index for batch in batches for index in batch) == list(range(285))
        for batch in batches:
            counts = Counter(keys[index][1] for index in batch)
            assert len(counts) <= 4
            assert max(counts.values()) <= 3
        orders.append(batches)
    assert orders[0] != orders[1]


class Scores:
    """A teacher whose scores say what was asked."""

    def scores(self, queries: list[int], documents: list[int]) -> torch.Tensor:
        return torch.tensor([[100.0 * query + document for document in documents] for query in queries])


@pytest.mark.parametrize("teacher", [None, Scores()], ids=["without", "with a teacher"])
def test_a_shared_document_is_read_once(folder: Path, teacher: Scores | None) -> None:
    model = load(folder / "model")
    texts = [("fox", "lazy dog", 0, 7), ("dog", "windows", 1, 8), ("a", "lazy dog", 2, 7)]
    rows = [
        {
            "anchor": model.tokenizer(query)["input_ids"],
            "positive": model.tokenizer(text)["input_ids"],
            "keys": list(keys),
        }
        for query, text, *keys in texts
    ]
    batch = PairCollator(model.tokenizer, ["anchor", "positive"], teacher=teacher, together=True)(rows)
    assert (len(batch["anchor_input_ids"]), len(batch["positive_input_ids"])) == (3, 2)
    scores = [[7, 8], [107, 108], [207, 208]] if teacher else [[]] * 3
    assert batch["label"].tolist() == [[own, *more] for own, more in zip([0, 1, 0], scores, strict=True)]


def test_a_document_is_asked_several_times_at_once(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    shared = [{"anchor": query, "positive": rows[0]["positive"]} for query in ("fox", "dog", "a")]
    write_rows(folder / "more.jsonl", rows[:4] + shared)
    run_embeddings.main(arguments(folder, train_files=[folder / "more.jsonl"], queries_at_once=4, max_steps=2))
    assert all(math.isfinite(loss) for loss in losses(folder / "run"))
    with pytest.raises(InputError, match="--queries_at_once must be 1 where queries have negatives of their own"):
        run_embeddings.main(arguments(folder, "other", queries_at_once=4, hard_negatives=1, max_steps=2))
    given = {"train_files": write_rows(folder / "own.jsonl", [row | {"negative": "the dog"} for row in rows])}
    with pytest.raises(InputError, match="--queries_at_once must be 1 where queries have negatives of their own"):
        run_embeddings.main(arguments(folder, "own", queries_at_once=4, max_steps=2, **given))


def test_teachers_say_what_their_definitions_say(folder: Path) -> None:
    model = load(folder / "model")
    embedder = Embedder(model, model.tokenizer)
    queries, documents = (
        {1: "lazy dog", 5: "windows"},
        {2: document("lazy dog", 0), 3: "over the fox", 9: document("a", 1)},
    )
    size, first, last = 30, embedder.first, embedder.last

    def chunks(text: str) -> list[list[int]]:
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [first + ids[start : start + size - 2] + last for start in range(0, len(ids), size - 2)]

    def outputs(ids: list[int]) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            return model({"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids))})

    def states(ids: list[int]) -> torch.Tensor:
        return torch.nn.functional.normalize(outputs(ids)["token_embeddings"][0, 1:-1], dim=1)

    def vector(ids: list[int]) -> torch.Tensor:
        return outputs(ids)["sentence_embedding"]

    for kind in ("chunk-maximum", "late-interaction"):
        teacher = make_teacher(embedder, kind, queries, documents, ("", ""), size, 64)
        teacher.save(folder / kind)
        found = teacher.load(folder / kind).scores([5, 1], [3, 2, 9])
        torch.testing.assert_close(found, teacher.scores([5, 1], [3, 2, 9]), atol=0, rtol=0)
        for row, query in enumerate((queries[5], queries[1])):
            for column, text in enumerate((documents[3], documents[2], documents[9])):
                (asked,) = chunks(query)
                if kind == "chunk-maximum":
                    expected = max(float(vector(asked) @ vector(ids).T) for ids in chunks(text))
                else:
                    tokens_of_text = torch.cat([states(ids) for ids in chunks(text)])
                    expected = float((states(asked) @ tokens_of_text.T).max(dim=1).values.mean())
                assert float(found[row, column]) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("optimizer", [{}, {"optim": "sgd", "optim_args": "momentum=0.9"}], ids=["adamw", "sgd"])
def test_new_positions_leave_short_texts_as_they_were(folder: Path, optimizer: dict[str, str]) -> None:
    rate = {"learning_rate": 0.5, "weight_decay": 0.5, "train": "new-positions", **optimizer}
    assert source_length(str(folder / "model")) == 130
    results = run_embeddings.main(arguments(folder, **rate))
    assert results["train"] == "new-positions"
    before, after = load(folder / "model"), load(folder / "run")
    short = [document(topic, 5, 5 + 9 * number) for number, topic in enumerate(TOPICS[:12])]
    assert max(len(ids) for ids in before.tokenizer(short)["input_ids"]) > SOURCE_LENGTH
    assert max(len(ids) for ids in before.tokenizer(short)["input_ids"]) <= 130
    np.testing.assert_array_equal(after.encode(short), before.encode(short))
    long = [document(topic, 5, 150) for topic in TOPICS[:3]]
    assert np.abs(after.encode(long) - before.encode(long)).max() > 1e-3
    one, other = weights(folder / "model"), weights(folder / "run")
    different = {name for name in one if not torch.equal(one[name], other[name])}
    assert different == {POSITIONS}
    first = 131  # the padding's row, and 130 of the source
    assert torch.equal(one[POSITIONS][:first], other[POSITIONS][:first])
    assert json.loads((folder / "run" / "config.json").read_text())["global_projections"] == "copied"
    assert source_length(str(folder / "run")) == 130  # of which a further training knows, too


def test_segments_keep_their_places() -> None:
    cutter = SegmentCutter(34, (1, 1), first_position=2, seed=3)
    short = [7, *range(10, 40), 9]
    assert cutter(short, 1) == {"input_ids": short, "position_ids": list(range(2, 34))}
    long = [7, *range(100, 300), 9]
    found = cutter(long, 1)
    places = [position - 2 for position in found["position_ids"]]
    assert [long[place] for place in places] == found["input_ids"]
    assert places == sorted(set(places))
    assert (places[0], places[-1], len(places)) == (0, 201, 34)
    assert sum(after - before > 1 for before, after in pairwise(places)) > 2
    assert cutter(long, 1) == found != cutter(long, 2)
    cutter.set_epoch(1)
    assert cutter(long, 1) != found


def test_segments_reach_the_model_with_their_positions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_longformer import HfLongformerModel

    seen = []
    forward = HfLongformerModel.forward

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("position_ids") is not None:
            seen.append((kwargs["position_ids"], kwargs["attention_mask"]))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(HfLongformerModel, "forward", spy)
    run_embeddings.main(arguments(folder, segments=40, max_steps=1, validation_files=None))
    assert seen
    assert all(positions.shape[1] <= 40 for positions, _ in seen)
    assert max(int((positions * mask).max()) for positions, mask in seen) > 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_files": None}, "something to train on is needed: give --train_files, got none"),
        ({"train_files": "no.jsonl"}, "a table must be a file with something in it, got no.jsonl"),
        ({"tokens_per_batch": 100}, "memory is bounded by --mini_batch_tokens, got 100"),
        ({"train_sampling_strategy": "group_by_length"}, "--train_sampling_strategy must be random"),
        ({"dataloader_drop_last": True}, "leave --dataloader_drop_last out"),
        ({"pairs": "titles"}, "--pairs makes queries where there are none, got queries in"),
        ({"queries_per_document": 2}, "--queries_per_document needs --pairs, got 2"),
        ({"matryoshka_dims": [24, 25]}, "--matryoshka_dims must lie between 1 and 24, got 25"),
        ({"hard_negatives": 60}, "--hard_negatives 60 needs so many documents"),
        ({"teacher_weight": 2}, "--teacher_weight must be at most 1, got 2"),
        ({"temperature": 0}, "--temperature must be more than 0, got 0"),
        ({"segments": 3}, "--segments must be at least 16, got 3"),
        (
            {"teacher": "chunk-maximum", "chunk_size": 8, "document_prompt": "the quick brown fox jumps over"},
            "--chunk_size",
        ),
        ({"max_seq_length": 500}, "--max_seq_length must lie between 3 and the model's 400 tokens, got 500"),
        ({"label_smoothing_factor": 0.1}, "--label_smoothing_factor must be 0 for embeddings"),
        ({"context_parallel_size": 2}, "--context_parallel_size must be 1 for embeddings"),
        ({"metric_for_best_model": "recall@5"}, "--metric_for_best_model must be one of loss, ndcg@10"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_done_is_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        run_embeddings.main(arguments(folder, **options))
    assert not (folder / "run" / "run.json").exists()  # another try has the folder


def test_positions_of_an_unknown_source_are_refused(folder: Path) -> None:
    (folder / "model" / "conversion_report.json").unlink()
    with pytest.raises(InputError, match="must know how long the texts of the source were"):
        run_embeddings.main(arguments(folder, train="new-positions"))
    edit_json(folder / "model" / "config.json", global_attention="cls")
    assert keys_of([{"a": "x", "b": "y"}, {"a": "y", "b": "z"}], ["a", "b"]) == [[0, 1], [1, 2]]


def test_stock_encoder_is_refused(tmp_path: Path) -> None:
    """Which would be trained as stock Longformer, with modules or without."""
    make_source(tmp_path / "model", "longformer", "Model")
    write_pairs(tmp_path / "train.jsonl", range(1))
    with pytest.raises(InputError, match="needs a checkpoint of this package, got one of longformer in"):
        run_embeddings.main(arguments(tmp_path, validation_files=None, max_seq_length=60))
