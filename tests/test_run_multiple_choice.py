# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/run_multiple_choice.py`: questions, markers, chunks, scores of candidates, resuming, results."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset
from sources import make_source
from training_runs import Kill, losses
from transformers import AutoTokenizer
from warm import run_two

from hf_longformer import HfLongformerConfig, HfLongformerForTokenClassification
from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune import run_multiple_choice
from hf_longformer.finetune.data import Table, read_table
from hf_longformer.finetune.multiple_choice.chunks import (
    MARKERS,
    ChunkCollator,
    add_markers,
    candidate_scores,
    make_chunks,
    measure,
    read_questions,
)

RECIPE = Path(run_multiple_choice.__file__).parent / "recipes" / "wikihop-base.yaml"
FILLERS = ["the", "and", "long", "over", "lo", "er", "window", "do"]  # of few tokens


def question(generator: np.random.Generator, supports: int) -> dict[str, Any]:
    """Of two to four candidates, the one with a fox in it is right."""
    words = [str(word) for word in generator.permutation(FILLERS)]
    candidates = words[: int(generator.integers(2, 5))]
    right = int(generator.integers(len(candidates)))
    candidates[right] += " fox"
    texts = [" ".join(str(word) for word in generator.choice(FILLERS, 10)) for _ in range(supports)]
    asked = "who " * int(generator.integers(1, 4))
    return {"question": asked, "candidates": candidates, "supports": texts, "answer": candidates[right]}


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_splits(folder: Path, **numbers: int) -> None:
    generator = np.random.default_rng(0)
    for name, number in numbers.items():
        write(folder / f"{name}.jsonl", [question(generator, (0, 1, 6)[index % 3]) for index in range(number)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted language model for 260 tokens."""
    folder = tmp_path_factory.mktemp("checkpoint")
    make_source(folder / "source", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    convert(folder / "source", folder / "model", max_length=260, attention_window=16, check=False)
    return folder / "model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Questions to train on, with supports of none, one and several chunks, and others to measure on."""
    write_splits(tmp_path, train=24, validation=8, test=7)
    return tmp_path


def arguments(folder: Path, model: Path, output: str = "run", **options: Any) -> list[str]:
    given = {
        "model_name_or_path": model,
        "train_file": folder / "train.jsonl",
        "validation_file": folder / "validation.jsonl",
        "output_dir": folder / output,
        "max_seq_length": 100,
        "max_steps": 12,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 4,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "report_to": "none",
        "bf16": False,
        "disable_tqdm": True,
        **options,
    }
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def table_of(*rows: dict[str, Any]) -> Table:
    return Table(Dataset.from_list([{**row, "row": number} for number, row in enumerate(rows, 1)]), "data")


def read(table: Table, supports: str | None = "supports") -> Table:
    return read_questions(table, "question", "candidates", supports, "answer")


def test_training_finds_answers_and_the_checkpoint_finds_them_again(folder: Path, model: Path) -> None:
    write_splits(folder, train=300, validation=40, test=7)  # fewer are learnt by heart
    options = {"max_steps": 90, "save_steps": 90, "eval_steps": 90, "per_device_train_batch_size": 16}
    options |= {"test_file": folder / "test.jsonl", "per_device_eval_batch_size": 3}
    results = run_multiple_choice.main(arguments(folder, model, **options))
    assert results["scores"]["validation"]["accuracy"] > 0.7
    assert results["scores"]["validation"]["chance"] < 0.4
    assert results["chunks"]["test"] > results["rows"]["test"] == 7
    written = json.loads((folder / "run" / "results.json").read_text())
    assert written["scores"] == results["scores"]
    assert {"command", "seed", "versions", "processor", "date", "leaks"} <= written.keys()
    assert (folder / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"

    rows, predicted = lines(folder / "test.jsonl"), lines(folder / "run" / "test-predictions.jsonl")
    assert [line["row"] for line in predicted] == [1, 2, 3, 4, 5, 6, 7]
    assert [line["gold"] for line in predicted] == [row["answer"] for row in rows]
    right = [line["predicted"] == line["gold"] for line in predicted]
    assert results["scores"]["test"]["accuracy"] == np.mean(right)

    tokenizer = AutoTokenizer.from_pretrained(folder / "run")
    loaded = HfLongformerForTokenClassification.from_pretrained(folder / "run").eval()
    assert loaded.config.global_attention == "question"
    questions = make_chunks(read(read_table(str(folder / "test.jsonl"))), tokenizer, length=100)
    for row in questions:  # one by one and without padding: what is beside a question does not count
        scores = torch.stack([chunk_scores(loaded, tokenizer, chunk) for chunk in row["chunks"]]).mean(dim=0)
        line = predicted[row["row"] - 1]
        torch.testing.assert_close(scores.softmax(dim=-1), torch.tensor(line["scores"]), atol=1e-5, rtol=1e-4)
        assert rows[row["row"] - 1]["candidates"][int(scores.argmax())] == line["predicted"]


@torch.no_grad()
def chunk_scores(model: Any, tokenizer: Any, chunk: list[int]) -> torch.Tensor:
    """Of one chunk, with the global attention that the configuration asks for."""
    input_ids = torch.tensor([chunk])
    logits = model(input_ids, attention_mask=torch.ones_like(input_ids)).logits[0, :, 0]
    return logits[input_ids[0] == tokenizer.convert_tokens_to_ids("[ent]")]


def test_killed_run_goes_on_with_the_same_losses(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_multiple_choice.main(arguments(folder, model, "whole"))
    with monkeypatch.context() as patch:
        patch.setattr("hf_longformer.finetune.training.StopOnBadLoss", Kill)
        with pytest.raises(KeyboardInterrupt):
            run_multiple_choice.main(arguments(folder, model))
    results = run_multiple_choice.main(arguments(folder, model))
    assert results["training"]["resumed_from"] == "checkpoint-4"
    assert losses(folder / "run") == pytest.approx(losses(folder / "whole"), rel=1e-6)
    assert len(set(losses(folder / "run"))) == 12
    assert results["scores"] == whole["scores"]


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(folder: Path, model: Path) -> None:
    """With other numbers of chunks in either half of a batch, and a last batch to measure that is not full."""
    common = {"train_sampling_strategy": "sequential", "max_steps": 4, "optim": "sgd", "learning_rate": 0.1}
    run_multiple_choice.main(
        arguments(folder, model, "one", per_device_train_batch_size=6, per_device_eval_batch_size=6, **common)
    )
    script = Path(run_multiple_choice.__file__)
    command = ["python", script]
    common |= {"per_device_train_batch_size": 3, "per_device_eval_batch_size": 3, "ddp_backend": "gloo"}
    command += arguments(folder, model, "two", **common)
    done = run_two(command)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((folder / name / "results.json").read_text()) for name in ("one", "two"))
    assert two["processes"] == 2
    assert losses(folder / "two") == pytest.approx(losses(folder / "one"), rel=1e-4)
    of_one, of_two = (lines(folder / name / "validation-predictions.jsonl") for name in ("one", "two"))
    assert len(of_one) == len(of_two) == 8
    for line, other in zip(of_one, of_two, strict=True):
        assert line["scores"] == pytest.approx(other["scores"], abs=1e-4)
    assert two["scores"] == one["scores"]


def test_questions_without_supports(folder: Path, model: Path) -> None:
    """As in SWAG and RACE: one chunk each, by texts, indices and letters."""
    for name in ("train", "validation"):
        rows = lines(folder / f"{name}.jsonl")
        for number, row in enumerate(rows):
            index = row["candidates"].index(row["answer"])
            row["answer"] = "ABCD"[index] if number % 2 else row["answer"]
            del row["supports"]
        write(folder / f"{name}.jsonl", rows)
    results = run_multiple_choice.main(arguments(folder, model, max_steps=1, save_steps=1, eval_steps=1))
    assert results["chunks"] == results["rows"] == {"train": 24, "validation": 8}
    tokenizer = AutoTokenizer.from_pretrained(folder / "run")
    table = read(read_table(str(folder / "train.jsonl")), None)
    assert all("fox" in row["candidates"][row["answer"]] for row in table.rows)
    (chunk,) = make_chunks(table_of(table.rows[0]), tokenizer, length=100)[0]["chunks"]
    assert chunk[-1] == tokenizer.sep_token_id
    assert chunk.count(tokenizer.sep_token_id) == 1
    given = arguments(folder, model, supports_column="passages", output_dir=folder / "other")
    with pytest.raises(InputError, match=r"train.jsonl must have a column passages, got"):
        run_multiple_choice.main(given)


def test_chunks_left_out_in_training_only(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all chunks of a step are read at once; in evaluation only as many as were asked for."""
    seen = set()

    def record(*inputs: Any, at_once: int | None, **named: Any) -> Any:
        seen.add((torch.is_grad_enabled(), at_once))
        return candidate_scores(*inputs, at_once=at_once, **named)

    monkeypatch.setattr("hf_longformer.finetune.multiple_choice.chunks.candidate_scores", record)
    options = {"max_steps": 1, "save_steps": 1, "eval_steps": 1}
    every = run_multiple_choice.main(arguments(folder, model, "every", **options))["chunks"]
    few = run_multiple_choice.main(arguments(folder, model, "few", max_chunks=1, **options))["chunks"]
    assert few["train"] == 24 < every["train"]
    assert few["validation"] == every["validation"] > 8
    assert seen == {(True, None), (False, 4)}


ROW = {"question": "who", "candidates": ["the fox", "the dog"], "supports": ["long"], "answer": "the fox"}
BAD_ROWS = [
    ({"answer": "the cat"}, r"must have one of its candidates \(the fox, the dog\) in answer, got the cat"),
    ({"answer": None}, "must have one of its candidates .* got None"),
    ({"answer": "C"}, "must have one of its candidates .* got C"),
    ({"candidates": []}, r"must have a list of texts in candidates, got '\[\]'"),
    ({"candidates": None}, "must have a list of texts in candidates, got 'None'"),
    ({"candidates": ["the fox", None]}, "must have a list of texts in candidates"),
    ({"supports": [None]}, "must have a text or a list of texts in supports"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_ROWS)
def test_bad_row(changes: dict[str, Any], message: str, folder: Path, model: Path) -> None:
    write(folder / "validation.jsonl", [ROW, ROW | changes])
    with pytest.raises(InputError, match=f"row 2 of validation.jsonl {message}"):
        run_multiple_choice.main(arguments(folder, model))
    assert not (folder / "run").exists()


@pytest.mark.parametrize("answer", [2, -1])
def test_bad_index(answer: int, folder: Path, model: Path) -> None:
    write(folder / "train.jsonl", [ROW | {"answer": 1}, ROW | {"answer": answer}])
    with pytest.raises(InputError, match=f"row 2 of train.jsonl must have one of its candidates .* got {answer}"):
        run_multiple_choice.main(arguments(folder, model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_seq_length": 12}, "row 1 of .*: question and candidates must leave room .* within 12 tokens, got"),
        ({"global_attention": "none"}, "--global_attention must be question here, got none"),
        ({"max_chunks": 0}, "--max_chunks must be at least 1, got 0"),
        ({"label_smoothing_factor": 0.1}, "--label_smoothing_factor must be 0 for multiple-choice"),
        ({"max_seq_length": 261}, "between 3 and the model's 260 tokens, got 261"),
        ({"candidates_column": "choices"}, "must have a column choices, got"),
    ],
)
def test_bad_argument(options: dict[str, Any], message: str, folder: Path, model: Path) -> None:
    with pytest.raises(InputError, match=message):
        run_multiple_choice.main(arguments(folder, model, **options))


def test_answers_by_text_index_and_letter() -> None:
    """A candidate's text before all else."""
    assert read(table_of(ROW, ROW | {"answer": " the dog "}, ROW | {"answer": "B"})).rows["answer"] == [0, 1, 1]
    assert read(table_of(ROW | {"answer": 0}, ROW | {"answer": 1})).rows["answer"] == [0, 1]
    letters = {"candidates": ["B", "A"]}
    assert read(table_of(ROW | letters | {"answer": "A"}, ROW | letters | {"answer": "B"})).rows["answer"] == [1, 0]
    table = table_of(ROW | {"answer": 1}, ROW | {"answer": 0})
    table.rows = table.rows.cast_column("answer", ClassLabel(names=["the dog", "the fox"]))
    assert read(table).rows["answer"] == [0, 1]
    table.rows = table.rows.cast_column("answer", ClassLabel(names=["0", "1"]))
    assert read(table).rows["answer"] == [1, 0]
    one_text = {"supports": "over the dog", "question": None}
    assert read(table_of(ROW | one_text)).rows[0]["supports"] == ["over the dog"]
    assert read(table_of(ROW | one_text)).rows[0]["question"] == ""


@pytest.fixture
def marked(model: Path) -> tuple[Any, Any]:
    """Model and tokenizer with markers."""
    torch.manual_seed(0)
    loaded = HfLongformerForTokenClassification.from_pretrained(model, num_labels=1, global_attention="question")
    tokenizer = AutoTokenizer.from_pretrained(model)
    add_markers(loaded, tokenizer)
    return loaded.eval(), tokenizer


def test_markers_are_added_once(marked: tuple[Any, Any], tmp_path: Path) -> None:
    model, tokenizer = marked
    rows = model.get_input_embeddings().num_embeddings
    assert rows == len(tokenizer) == model.config.vocab_size
    assert tokenizer.tokenize("[q] the [ent]")[0] == "[q]"
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    loaded = HfLongformerForTokenClassification.from_pretrained(tmp_path)
    add_markers(loaded, again)
    assert loaded.get_input_embeddings().num_embeddings == rows
    assert again.convert_tokens_to_ids(list(MARKERS)) == tokenizer.convert_tokens_to_ids(list(MARKERS))
    assert HfLongformerConfig.from_pretrained(tmp_path).vocab_size == rows
    loaded.resize_token_embeddings(rows + 9)  # some checkpoints have rows to spare
    add_markers(loaded, again)
    assert loaded.config.vocab_size == rows + 9


def test_chunks_hold_all_supports_behind_question_and_candidates(marked: tuple[Any, Any]) -> None:
    """And what looks like a marker or a separator in a text is text."""
    tokenizer = marked[1]
    row = {
        "question": "who [ent]",
        "candidates": ["the fox", "a </s> dog", ""],
        "supports": ["the quick </s> fox [q]", "", "over the lazy dog"],
        "answer": 1,
    }
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    begins_q, ends_q, begins, ends = tokenizer.convert_tokens_to_ids(list(MARKERS))
    ids = {
        text: tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        for text in (row["question"], *row["candidates"], *row["supports"])
    }
    head = [first, begins_q, *ids["who [ent]"], ends_q]
    for candidate in row["candidates"]:
        head += [begins, *ids[candidate], ends]
    head.append(last)
    assert head.count(last) == 1
    whole = [*ids[row["supports"][0]], last, *ids[row["supports"][2]]]
    assert whole.count(last) == 1
    for length in (len(head) + 2, len(head) + 8, 200):
        chunks = make_chunks(read(table_of(row)), tokenizer, length=length)[0]["chunks"]
        assert all(chunk[: len(head)] == head and chunk[-1] == last and len(chunk) <= length for chunk in chunks)
        assert [token for chunk in chunks for token in chunk[len(head) : -1]] == whole
        assert len(chunks) == -(-len(whole) // (length - len(head) - 1))
    with pytest.raises(InputError, match=f"row 1 of data: .* got {len(head)} tokens"):
        make_chunks(read(table_of(row)), tokenizer, length=len(head) + 1)
    bare = read(table_of(row | {"supports": []}))
    assert make_chunks(bare, tokenizer, length=len(head))[0]["chunks"] == [head]
    with pytest.raises(InputError, match="row 1 of data"):
        make_chunks(bare, tokenizer, length=len(head) - 1)


@pytest.mark.parametrize("side", ["right", "left"])
def test_scores_are_means_over_chunks(side: str, marked: tuple[Any, Any]) -> None:
    """Of questions with other numbers of chunks and of candidates, on any side of padding, and with gradients alike."""
    model, tokenizer = marked
    tokenizer.padding_side = side
    generator = np.random.default_rng(5)
    table = read(table_of(*(question(generator, number) for number in (5, 0, 2, 9))))
    questions = make_chunks(table, tokenizer, length=60)
    counts = [len(row["chunks"]) for row in questions]
    assert len(set(counts)) > 2
    batch = ChunkCollator(tokenizer)(list(questions))
    assert batch["labels"].tolist() == questions["labels"]
    separators = (batch["input_ids"] == tokenizer.sep_token_id).cumsum(dim=1)
    real = batch["attention_mask"].bool()
    assert torch.equal(batch["global_attention_mask"].bool(), (separators == 0) & real)
    with torch.no_grad():
        found = candidate_scores(model, **batch).logits
        torch.testing.assert_close(candidate_scores(model, **batch, at_once=2).logits, found)
        for row, scores in zip(questions, found, strict=True):
            means = torch.stack([chunk_scores(model, tokenizer, chunk) for chunk in row["chunks"]]).mean(dim=0)
            torch.testing.assert_close(scores[: len(means)], means, atol=1e-4, rtol=1e-4)
            assert (scores[len(means) :] == -torch.inf).all()
    loss = torch.nn.functional.cross_entropy(candidate_scores(model, **batch).logits, batch["labels"])
    loss.backward()
    gradient = model.classifier.weight.grad
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_accuracy_counts_candidates_that_are_there() -> None:
    """Padding may be greater than any score."""
    table = read(table_of(ROW, {**ROW, "candidates": ["a", "b", "c"], "answer": "c"}))
    questions = Dataset.from_dict({"row": [2, 1]})
    scores = np.asarray([[-300.0, -200.0, -250.0], [-300.0, -301.0, -100.0]], dtype=np.float32)
    found, written = measure(questions, scores, table)
    assert found == {"accuracy": 0.5, "chance": pytest.approx(5 / 12)}
    assert [line["row"] for line in written] == [1, 2]
    assert [line["predicted"] for line in written] == ["the fox", "b"]
    assert [line["gold"] for line in written] == ["the fox", "c"]
    assert written[0]["scores"] == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))])


@pytest.mark.parametrize("mask", [None, "___MASK{}___"])
def test_wikihop_as_it_is_published(mask: str | None, model: Path, tmp_path: Path) -> None:
    """A list with `id`, `query` and, in dev.json, `annotations`; also with candidates behind masks."""
    candidates = ["get ready", "motown", "the temptations"]
    if mask:
        candidates = [mask.format(number) for number in (7, 12, 3)]
    support = f"Get Ready is a song by {candidates[2]} , released on {candidates[1]} ."
    row = {"id": "WH_dev_0", "query": "record_label get ready", "candidates": candidates, "answer": candidates[1]}
    row |= {"supports": [support, "Another ."], "annotations": [["follows", "likely"], ["follows", "multiple"]]}
    (tmp_path / "dev.json").write_text(json.dumps([row, {**row, "id": "WH_dev_1"}]))
    table = read_questions(read_table(str(tmp_path / "dev.json")), "query", "candidates", "supports", "answer")
    assert table.rows[0] == {
        "question": "record_label get ready",
        "candidates": candidates,
        "supports": [support, "Another ."],
        "answer": 1,
        "id": "WH_dev_0",
        "row": 1,
    }
    tokenizer = AutoTokenizer.from_pretrained(model)
    add_markers(HfLongformerForTokenClassification.from_pretrained(model, num_labels=1), tokenizer)
    questions = make_chunks(table, tokenizer, length=260)
    (chunk,) = questions[0]["chunks"]
    choices = "".join(f"[ent]{candidate}[/ent]" for candidate in candidates)
    expected = f"<s>[q]record_label get ready[/q]{choices}</s>{support}</s>Another .</s>"
    assert tokenizer.decode(chunk).replace(" ", "") == expected.replace(" ", "")
    _, written = measure(questions, np.zeros((2, 3), dtype=np.float32), table)
    assert [(line["id"], line["gold"]) for line in written] == [(f"WH_dev_{n}", candidates[1]) for n in range(2)]


def test_recipe_runs(folder: Path, model: Path) -> None:
    """As it is, but for what fits a test: with the columns of WikiHop's own files."""
    rows = [{**row, "query": row.pop("question")} for row in lines(folder / "train.jsonl")]
    (folder / "train.json").write_text(json.dumps(rows))
    small = ["--max_steps", "1", "--gradient_accumulation_steps", "2", "--max_seq_length", "100", "--bf16", "False"]
    small += ["--report_to", "none", "--output_dir", str(folder / "run"), "--model_name_or_path", str(model)]
    results = run_multiple_choice.main([str(RECIPE), *small, "--train_file", str(folder / "train.json")])
    assert results["training"]["steps"] == 1
    assert results["rows"] == {"train": 22, "validation": 2}
