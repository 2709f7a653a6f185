# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/run_token_classification.py`: tags, words as tokens, windows, scores, resuming, and what is written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from sources import make_source
from training_runs import Kill, losses
from transformers import AutoTokenizer, DataCollatorForTokenClassification
from warm import run_two

from hf_longformer import HfLongformerConfig, HfLongformerForTokenClassification
from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune import run_token_classification
from hf_longformer.finetune.data import Table
from hf_longformer.finetune.metrics import Entities
from hf_longformer.finetune.token_classification.words import (
    join_windows,
    make_windows,
    read_words,
    tag_names,
)
from hf_longformer.finetune.windows import with_prefix_space
from hf_longformer.finetune.words import cut_words, encode_words, owners_of

FILLERS = ["the", "quick", "over", "jumps", "long", "windows", "and", "need"]
NAMES = ["O", "B-ANIMAL", "B-TEXT", "I-ANIMAL"]


def document(generator: np.random.Generator, words: int) -> dict[str, list[str]]:
    """A text with animals of two words and with texts of one, which their words alone give away."""
    row: dict[str, list[str]] = {"tokens": [], "tags": []}
    while len(row["tokens"]) < words:
        kind = generator.random()
        if kind < 0.15:
            row["tokens"] += ["brown", str(generator.choice(["fox", "dog"]))]
            row["tags"] += ["B-ANIMAL", "I-ANIMAL"]
        elif kind < 0.3:
            row["tokens"].append("documents")
            row["tags"].append("B-TEXT")
        else:
            row["tokens"].append(str(generator.choice(FILLERS)))
            row["tags"].append("O")
    return row


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted language model for 260 tokens."""
    folder = tmp_path_factory.mktemp("checkpoint")
    make_source(folder / "source", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    convert(folder / "source", folder / "model", max_length=260, attention_window=16, check=False)
    return folder / "model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Texts to train on, of one and of several windows, and others to measure on."""
    generator = np.random.default_rng(0)
    for name, number in (("train", 24), ("validation", 6), ("test", 5)):
        write(tmp_path / f"{name}.jsonl", [document(generator, generator.choice([8, 20, 70])) for _ in range(number)])
    return tmp_path


def arguments(folder: Path, model: Path, output: str = "run", **options: Any) -> list[str]:
    given = {
        "model_name_or_path": model,
        "train_file": folder / "train.jsonl",
        "validation_file": folder / "validation.jsonl",
        "output_dir": folder / output,
        "max_seq_length": 40,
        "stride": 10,
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


def test_training_finds_entities_and_the_checkpoint_finds_them_again(folder: Path, model: Path) -> None:
    options = {"max_steps": 160, "save_steps": 80, "eval_steps": 80, "test_file": folder / "test.jsonl"}
    results = run_token_classification.main(arguments(folder, model, **options))
    assert results["labels"] == NAMES
    assert results["windows"]["test"] > results["rows"]["test"] == 5
    assert results["scores"]["validation"]["f1"] > 0.9
    assert set(results["scores"]["test"]["f1_per_kind"]) == {"ANIMAL", "TEXT"}
    written = json.loads((folder / "run" / "results.json").read_text())
    assert written["scores"] == results["scores"]
    assert {"command", "seed", "versions", "processor", "date", "leaks"} <= written.keys()
    assert (folder / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"

    rows, predicted = lines(folder / "test.jsonl"), lines(folder / "run" / "test-predictions.jsonl")
    assert [line["row"] for line in predicted] == [1, 2, 3, 4, 5]
    assert [line["gold"] for line in predicted] == [row["tags"] for row in rows]
    assert all(len(line["tags"]) == len(line["gold"]) for line in predicted)
    pairs = {"predictions": [line["tags"] for line in predicted], "references": [row["tags"] for row in rows]}
    assert Entities(keep_in_memory=True).compute(**pairs) == results["scores"]["test"]

    tokenizer = AutoTokenizer.from_pretrained(folder / "run")
    loaded = HfLongformerForTokenClassification.from_pretrained(folder / "run").eval()
    assert loaded.config.id2label == dict(enumerate(NAMES))
    layered = [{**row, "tags": [row["tags"]], "row": number} for number, row in enumerate(rows, 1)]
    table = Table(Dataset.from_list(layered), "test.jsonl")
    windows = make_windows(table, NAMES, tokenizer, length=40, stride=10)
    batch = DataCollatorForTokenClassification(tokenizer)(
        [{name: row[name] for name in ("input_ids", "labels")} for row in windows]
    )
    with torch.no_grad():
        found = loaded(batch["input_ids"], batch["attention_mask"]).logits.argmax(dim=-1)
    joined = join_windows(windows, found.numpy(), batch["labels"].numpy(), NAMES)
    assert joined == {line["row"]: [line["tags"]] for line in predicted}


def test_killed_run_goes_on_with_the_same_losses(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_token_classification.main(arguments(folder, model, "whole"))
    with monkeypatch.context() as patch:
        patch.setattr("hf_longformer.finetune.training.StopOnBadLoss", Kill)
        with pytest.raises(KeyboardInterrupt):
            run_token_classification.main(arguments(folder, model))
    results = run_token_classification.main(arguments(folder, model))
    assert results["training"]["resumed_from"] == "checkpoint-4"
    assert losses(folder / "run") == pytest.approx(losses(folder / "whole"), rel=1e-6)
    assert len(set(losses(folder / "run"))) == 12
    assert results["scores"] == whole["scores"]


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(folder: Path, model: Path) -> None:
    """With activation checkpointing, and with other numbers of words in either half of a batch."""
    common = {"train_sampling_strategy": "sequential", "max_steps": 4, "optim": "sgd", "learning_rate": 0.3}
    common |= {"checkpoint_above": 30, "per_device_eval_batch_size": 3}
    run_token_classification.main(arguments(folder, model, "one", per_device_train_batch_size=6, **common))
    script = Path(run_token_classification.__file__)
    command = ["python", script]
    command += arguments(folder, model, "two", per_device_train_batch_size=3, ddp_backend="gloo", **common)
    done = run_two(command)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((folder / name / "results.json").read_text()) for name in ("one", "two"))
    assert two["processes"] == 2
    assert losses(folder / "two") == pytest.approx(losses(folder / "one"), rel=1e-4)
    name = "validation-predictions.jsonl"
    assert lines(folder / "two" / name) == lines(folder / "one" / name)
    assert two["scores"] == one["scores"]


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ("B-ANIMAL E-ANIMAL O", ""),
        ("B-ANIMAL L-ANIMAL U-ANIMAL", ""),
        ("B-ANIMAL I-ANIMAL E-MAIL", ""),
        ("B-ANIMAL E-ANIMAL U-ANIMAL", "got E-ANIMAL, U-ANIMAL beside B- and I-, which count as kinds"),
    ],
)
def test_tags_of_no_scheme_are_said(tags: str, said: str, folder: Path, model: Path, caplog: Any) -> None:
    write(folder / "train.jsonl", [{"tokens": ["brown", "fox", "the"], "tags": tags.split()}] * 4)
    options = {"validation_file": folder / "train.jsonl", "test_file": folder / "train.jsonl", "max_steps": 1}
    run_token_classification.main(arguments(folder, model, **options))
    assert said in caplog.text
    assert ("entities are read in BIO" in caplog.text) == bool(said)


@pytest.mark.parametrize("kind", ["none", "cls"])
def test_global_attention_is_saved_with_the_model(kind: str, folder: Path, model: Path) -> None:
    run_token_classification.main(arguments(folder, model, global_attention=kind, max_steps=1, eval_strategy="no"))
    assert HfLongformerConfig.from_pretrained(folder / "run").global_attention == kind
    loaded = HfLongformerForTokenClassification.from_pretrained(folder / "run").eval()
    input_ids = torch.arange(5, 65)[None]
    mask = torch.zeros_like(input_ids)
    mask[0, 0] = kind == "cls"
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids).logits, loaded(input_ids, global_attention_mask=mask).logits)
        assert not torch.allclose(loaded(input_ids).logits, loaded(input_ids, global_attention_mask=1 - mask).logits)


def test_empty_rows_are_skipped_and_shares_are_split_off(folder: Path, model: Path, caplog: Any) -> None:
    generator = np.random.default_rng(1)
    rows = [document(generator, 12) for _ in range(10)]
    write(folder / "train.jsonl", [*rows[:4], {"tokens": [], "tags": []}, *rows[4:], {"tokens": None, "tags": None}])
    given = arguments(folder, model, max_steps=1, validation_share=0.2)
    where = given.index("--validation_file")
    results = run_token_classification.main(given[:where] + given[where + 2 :])
    assert results["rows"] == {"train": 8, "validation": 2}
    assert results["skipped"] == {"train": 2}
    assert "for no words: rows 5, 12 of train.jsonl" in caplog.text


BAD_ROWS = [
    ({"tokens": ["the", "fox"], "tags": ["O"]}, "row 2 of {file} must have as many .* got 1 and 2"),
    ({"tokens": [], "tags": ["O"]}, "row 2 of {file} must have as many .* got 1 and 0"),
    ({"tokens": ["the"], "tags": ["B-CAR"]}, r"row 2 of {file} must have tags .*\(O, B-ANIMAL, .*got B-CAR"),
    ({"tokens": ["the"], "tags": [None]}, "row 2 of {file} must have tags .* got None"),
    ({"tokens": [None], "tags": ["O"]}, "row 2 of {file} must have words in tokens, got None"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_bad_row(row: dict[str, Any], message: str, folder: Path, model: Path) -> None:
    write(folder / "validation.jsonl", [{"tokens": ["the"], "tags": ["O"]}, row])
    with pytest.raises(InputError, match=message.format(file="validation.jsonl")):
        run_token_classification.main(arguments(folder, model))
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"tokens": "the fox", "tags": ["O", "B"]}], "row 1 of train.jsonl must have a list in tokens, got 'the fox'"),
        ([{"tokens": ["the"], "tags": "O"}], "column tags of train.jsonl must hold lists .* got none"),
        ([{"tokens": ["the"], "tags": ["O"]}], "at least two different tags, .* got O"),
        ([{"tokens": ["the", "a"], "tags": [0, 1]}], "holds numbers for tags, .* write the tags as texts"),
        ([{"words": ["the"], "tags": ["O"]}], "must have a column tokens, got words, tags"),
        ([{"tokens": ["the"], "ner": ["O"]}], "must have a column tags, got tokens, ner"),
    ],
)
def test_bad_table(rows: list[dict[str, Any]], message: str, folder: Path, model: Path) -> None:
    write(folder / "train.jsonl", [*rows, *({**row, "tags": ["O", "B"]} for row in rows if "words" in row)])
    with pytest.raises(InputError, match=message):
        run_token_classification.main(arguments(folder, model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 38}, "--stride must be 0 or more, and less than a window .* got 38"),
        ({"stride": -1}, "got -1"),
        ({"max_seq_length": 261}, "between 3 and the model's 260 tokens, got 261"),
    ],
)
def test_bad_argument(options: dict[str, Any], message: str, folder: Path, model: Path) -> None:
    with pytest.raises(InputError, match=message):
        run_token_classification.main(arguments(folder, model, **options))


def test_names_of_a_data_set_that_numbers_its_tags() -> None:
    """All of them, in its order, also those that no row has; every split by its own numbers."""
    train = labelled(["I-X", "O", "B-X", "B-Y"], [[0, 2], [1, 1]])
    names = tag_names(train, ["tags"])
    assert names == ["O", "I-X", "B-X", "B-Y"]
    assert read_words(train, "tokens", ["tags"], names).rows["tags"] == [[["I-X", "B-X"]], [["O", "O"]]]
    other = labelled(["O", "B-Y", "B-Z"], [[1, 0]])
    assert read_words(other, "tokens", ["tags"], names).rows["tags"] == [[["B-Y", "O"]]]
    with pytest.raises(InputError, match=r"row 1 of data must have tags .* got B-Z"):
        read_words(labelled(["O", "B-Y", "B-Z"], [[2, 0]]), "tokens", ["tags"], names)
    with pytest.raises(InputError, match="got -1"):
        read_words(labelled(["O", "B-Y"], [[-1, 0]]), "tokens", ["tags"], names)


def labelled(names: list[str], tags: list[list[int]]) -> Table:
    kinds = {"tokens": Sequence(Value("string")), "tags": Sequence(ClassLabel(names=names)), "row": Value("int64")}
    columns = {"tokens": [["the"] * len(row) for row in tags], "tags": tags, "row": [*range(1, len(tags) + 1)]}
    return Table(Dataset.from_dict(columns, Features(kinds)), "data")


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "bert"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_every_word_is_predicted_once_from_its_own_token(family: str, side: str, tmp_path: Path) -> None:
    """Also words of many tokens, of none, and that look like special tokens; whatever side is padded."""
    make_source(tmp_path, family)
    tokenizer = with_prefix_space(AutoTokenizer.from_pretrained(tmp_path, padding_side=side))
    generator = np.random.default_rng(3)
    words = [*FILLERS, "", " ", "\u200b", "é😀", "</s>", "a" * 30, "[SEP]", "documents"]
    texts = [[str(generator.choice(words)) for _ in range(number)] for number in (1, 3, 50, 120)] + [[""], ["a" * 90]]
    names = [f"T{number:03}" for number in range(120)]
    rows = [{"tokens": text, "tags": [names[: len(text)]], "row": 2 * n} for n, text in enumerate(texts)]
    for length, stride in ((20, 0), (20, 9), (20, 17), (64, 30), (1000, 5)):
        windows = make_windows(Table(Dataset.from_list(rows), "data"), names, tokenizer, length=length, stride=stride)
        assert all(
            3 <= len(ids) == size <= length for ids, size in zip(windows["input_ids"], windows["length"], strict=True)
        )
        counts = {row["row"]: np.zeros(len(row["tokens"]), dtype=int) for row in rows}
        for window in windows:
            for word in window["words"]:
                counts[window["row"]][word] += word >= 0
        assert all((count == 1).all() for count in counts.values())
        batch = DataCollatorForTokenClassification(tokenizer)(
            [{name: row[name] for name in ("input_ids", "labels")} for row in windows]
        )
        # A model that is always right: what is found of a word is found at its own token.
        found = batch["labels"].numpy().clip(min=0)
        joined = join_windows(windows, found, batch["labels"].numpy(), names)
        assert joined == {row["row"]: row["tags"] for row in rows}


def test_labels_stand_at_the_first_token_of_every_word(tmp_path: Path) -> None:
    make_source(tmp_path, "bert")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    row = {"tokens": ["the", "axe", "", "dog"], "tags": [["O", "B", "I", "O"]], "row": 7}
    window = make_windows(Table(Dataset.from_list([row]), "data"), ["O", "B", "I"], tokenizer, length=20, stride=0)[0]
    pieces = tokenizer.convert_ids_to_tokens(window["input_ids"])
    assert pieces == ["[CLS]", "the", "a", "##x", "##e", "[UNK]", "dog", "[SEP]"]
    assert window["labels"] == [-100, 0, 1, -100, -100, 2, 0, -100]
    assert window["words"] == [0, 1, 2, 3]
    assert window["row"] == 7


def test_words_are_read_as_behind_a_space(tmp_path: Path) -> None:
    """By a byte-level tokenizer, also when it was saved and loaded; others stay as they are."""
    make_source(tmp_path / "roberta")
    tokenizer = with_prefix_space(AutoTokenizer.from_pretrained(tmp_path / "roberta"))
    whole = tokenizer("the quick documents", add_special_tokens=False)["input_ids"]
    assert encode_words(tokenizer, [["the", "quick", "documents"]])[0][0] == whole
    tokenizer.save_pretrained(tmp_path / "saved")
    assert (
        encode_words(AutoTokenizer.from_pretrained(tmp_path / "saved"), [["the", "quick", "documents"]])[0][0] == whole
    )
    make_source(tmp_path / "bert", "bert")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bert")
    assert with_prefix_space(tokenizer) is tokenizer
    assert not tokenizer.add_prefix_space


def test_windows_begin_with_words_and_words_go_to_the_middle() -> None:
    starts = [0, 3, 4, 8, 9, 15]  # words of 3, 1, 4, 1, 6 and 5 tokens
    windows = cut_words(20, starts, room=10, stride=4)
    assert windows == [(0, 10), (4, 14), (9, 19), (15, 20)]
    # Distances of first tokens from the nearer edge: token 8 has 1 in the first window, 4 in the second.
    assert owners_of(windows, starts) == [0, 0, 0, 1, 1, 2]
    assert cut_words(5, [0], room=10, stride=4) == [(0, 5)]
    assert cut_words(25, [0], room=10, stride=4) == [(0, 10), (6, 16), (12, 22), (18, 25)]  # one long word
