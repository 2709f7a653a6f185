# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/run_clm.py`: bytes, phases, overlapping windows, benchmarks, and what is written."""

import hashlib
import json
import math
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings, strategies
from transformers import AutoTokenizer, pipeline

from hf_longformer import HfLongformerConfig, HfLongformerForCausalLM, byte_tokenizer
from hf_longformer.conversion import InputError
from hf_longformer.finetune import run_clm
from hf_longformer.finetune.clm import task
from hf_longformer.finetune.clm.texts import (
    BENCHMARKS,
    Chunks,
    Text,
    bits_per_character,
    read_texts,
    split_benchmark,
    windows,
)
from hf_longformer.finetune.training import StopOnBadLoss

MODEL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "attention_window": 8,
    "position_embedding_type": "relative",
    "norm_style": "pre",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
PHASES = [
    {"max_seq_length": 32, "max_steps": 20, "learning_rate": 0.01, "attention_window": [4, 8]},
    {"max_seq_length": 64, "max_steps": 6, "learning_rate": 0.005, "attention_window": [8, 16]},
]


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    draw = random.Random(0)
    words = ["the ", "fox ", "jumps ", "over ", "it.\n"]
    for name, number in (("train", 2000), ("valid", 200)):
        (tmp_path / f"{name}.txt").write_text("".join(draw.choices(words, k=number)))
    return {
        "train_files": [str(tmp_path / "train.txt")],
        "validation_files": [str(tmp_path / "valid.txt")],
        "output_dir": str(tmp_path / "run"),
        "per_device_train_batch_size": 4,
        "save_strategy": "steps",
        "save_steps": 4,
        "logging_steps": 1,
        "eval_stride": 16,
        "report_to": "none",
        "bf16": False,
        "disable_tqdm": True,
        "model": dict(MODEL),
        "phases": [dict(phase) for phase in PHASES],
    }


def run(recipe: dict[str, Any], tmp_path: Path, *more: str) -> dict[str, Any]:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return run_clm.main([str(tmp_path / "recipe.yaml"), *more])


def test_phases_train_one_behind_the_other(recipe: dict[str, Any], tmp_path: Path) -> None:
    results = run(recipe, tmp_path, "--test_files", recipe["validation_files"][0])
    first, second = (phase["scores"]["validation"]["bits_per_character"] for phase in results["phases"])
    assert second < first < 6  # of 8 to begin with
    assert results["scores"]["test"] == results["scores"]["validation"]
    assert results["training"]["steps"] == 26
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    assert written["scores"] == results["scores"]
    model = HfLongformerForCausalLM.from_pretrained(tmp_path / "run").eval()
    assert model.config.attention_windows == [8, 16]
    text = read_texts(recipe["validation_files"], byte_tokenizer(), is_bytes=True)
    measured = bits_per_character(model, text, 64, 16, batch_size=8)
    assert measured == pytest.approx(results["scores"]["validation"], rel=1e-5)
    generate = pipeline("text-generation", model=str(tmp_path / "run"))
    said = generate("the fox ", max_new_tokens=20, do_sample=False)[0]["generated_text"]
    assert said.startswith("the fox ")
    assert len(said) > 20


def test_card_has_every_phase_and_no_base(recipe: dict[str, Any], tmp_path: Path) -> None:
    """What a phase sets is said of that phase only; a model that begins from nothing, also one that was killed between
    phases, names none that it came from.
    """
    recipe["weight_decay"] = 0.02
    run(recipe, tmp_path)
    folder = tmp_path / "run"
    for _ in range(2):
        results = json.loads((folder / "results.json").read_text())
        assert [one["phase"]["learning_rate"] for one in results["phases"]] == [0.01, 0.005]
        assert [one["phase"]["max_steps"] for one in results["phases"]] == [20, 6]
        assert results["hyperparameters"]["weight_decay"] == 0.02
        assert not {"learning_rate", "max_steps"} & results["hyperparameters"].keys()
        assert results["base"] == ""
        card = (folder / "README.md").read_text()
        assert "pipeline_tag: text-generation" in card
        assert "# HfLongformerForCausalLM, trained to predict the next token" in card
        assert "``" not in card.replace("```", "")
        assert "| phase 2 | max seq length 64, attention window [8, 16], max steps 6, learning rate 0.005 |" in card
        shutil.rmtree(folder / "phase-2")
        (folder / "results.json").unlink()
        run(recipe, tmp_path)


def test_killed_run_goes_on_inside_its_phase(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second phase, after its first checkpoint; the first phase is not trained again."""
    whole = run({**recipe, "output_dir": str(tmp_path / "whole")}, tmp_path)

    class Kill(StopOnBadLoss):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 5 and "phase-2" in args.output_dir:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hf_longformer.finetune.training.StopOnBadLoss", Kill)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, tmp_path)
    trained = []
    train = task.train

    def train_and_tell(trainer: Any, arguments: Any) -> Any:
        trained.append(arguments.output_dir)
        return train(trainer, arguments)

    monkeypatch.setattr("hf_longformer.finetune.clm.task.train", train_and_tell)
    results = run(recipe, tmp_path)
    assert [Path(folder).name for folder in trained] == ["phase-2"]
    assert results["phases"][1]["training"]["resumed_from"] == "checkpoint-4"
    for one, other in zip(results["phases"], whole["phases"], strict=True):
        assert one["scores"]["validation"] == pytest.approx(other["scores"]["validation"], rel=1e-4)
    again = run(recipe, tmp_path)
    assert len(trained) == 1
    assert again["scores"]["validation"] == pytest.approx(results["scores"]["validation"])


def test_other_tokenizer_counts_characters(recipe: dict[str, Any], tmp_path: Path) -> None:
    from sources import roberta_tokenizer

    roberta_tokenizer(tmp_path / "tokenizer").save_pretrained(tmp_path / "tokenizer")
    recipe |= {"tokenizer": str(tmp_path / "tokenizer"), "phases": [{"max_seq_length": 32, "max_steps": 2}]}
    found = run(recipe, tmp_path)["scores"]["validation"]
    tokens = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")(
        Path(recipe["validation_files"][0]).read_text(), add_special_tokens=False
    )["input_ids"]
    characters = len(Path(recipe["validation_files"][0]).read_text())
    assert found["bits_per_character"] == pytest.approx(found["bits_per_token"] * len(tokens) / characters)


@settings(deadline=None, max_examples=200)
@given(strategies.text(alphabet=strategies.characters(exclude_categories=["Cs"])))
def test_byte_tokenizer_gives_every_text_back(text: str) -> None:
    tokenizer = TOKENIZER
    for one in (text, f"<s>{text}</s> <pad>"):
        ids = tokenizer(one)["input_ids"]
        assert ids == list(one.encode())
        assert tokenizer.decode(ids) == one


TOKENIZER = byte_tokenizer()


def test_byte_tokenizer_is_saved_and_loaded(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "a <s> ,b .\n\x00 é"
    assert loaded(text)["input_ids"] == list(text.encode())
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert len(loaded) == 260
    assert loaded.pad_token_id == 256


SIZES = [(100, 10, 3), (100, 10, 9), (7, 10, 3), (11, 10, 5), (2, 2, 1)]


@pytest.mark.parametrize(("tokens", "length", "stride"), SIZES)
def test_every_token_is_scored_once_with_full_context(tokens: int, length: int, stride: int) -> None:
    found = list(windows(tokens, length, stride))
    scored = [token for _, stop, first in found for token in range(first, stop)]
    assert scored == list(range(1, tokens))
    for start, stop, first in found:
        assert stop - start == min(length, tokens)
        assert first - start >= length - stride or start == 0


@pytest.mark.parametrize("batch_size", [1, 4])
def test_bits_are_those_of_the_formula(batch_size: int) -> None:
    torch.manual_seed(0)
    model = HfLongformerForCausalLM(HfLongformerConfig(**MODEL, vocab_size=260, is_decoder=True)).eval()
    ids = np.random.default_rng(0).integers(0, 256, 90, dtype=np.uint8)
    found = bits_per_character(model, Text(ids, 45), length=20, stride=7, batch_size=batch_size)
    total = 0.0
    with torch.no_grad():
        for position in range(1, 90):
            # the window in which the token is scored
            start = 0 if position < 20 else min(70, 7 * math.ceil((position - 19) / 7))
            logits = model(torch.from_numpy(ids[start:position].astype(np.int64))[None]).logits[0, -1]
            total -= float(logits.log_softmax(dim=-1)[int(ids[position])]) / math.log(2)
    assert found["tokens"] == 89
    assert found["bits_per_token"] == pytest.approx(total / 89, rel=1e-5)
    assert found["bits_per_character"] == pytest.approx(2 * found["bits_per_token"])


def test_benchmark_is_split_as_everybody_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(random.Random(0).choices(range(97, 123), k=1000))
    monkeypatch.setitem(BENCHMARKS, "text8", hashlib.md5(content, usedforsecurity=False).hexdigest())
    with zipfile.ZipFile(tmp_path / "text8.zip", "w") as archive:
        archive.writestr("text8", content)
    texts = split_benchmark(tmp_path / "text8.zip")
    assert {split: len(text.ids) for split, text in texts.items()} == {"train": 900, "validation": 50, "test": 50}
    assert b"".join(text.ids.tobytes() for text in texts.values()) == content
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"with the published MD5, got 1,000 of text8 with [0-9a-f]{32}"):
        split_benchmark(tmp_path / "text8.zip")
    (tmp_path / "enwik8.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"must be text8.zip or enwik8.zip"):
        split_benchmark(tmp_path / "enwik8.zip")


def test_chunks_are_the_text_in_order() -> None:
    chunks = Chunks(Text(np.arange(25, dtype=np.uint8), 25), 10)
    assert [chunks[index]["input_ids"].tolist() for index in range(len(chunks))] == [[*range(10)], [*range(10, 20)]]
    with pytest.raises(InputError, match="must have the 26 tokens of a chunk, got 25"):
        Chunks(Text(np.arange(25, dtype=np.uint8), 25), 26)


def test_tables_and_archives_are_no_texts(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "the quick brown fox"}\n')
    with pytest.raises(InputError, match=r"texts are files that are read as they are, got .*texts.jsonl: write"):
        read_texts([str(tmp_path / "texts.jsonl")], byte_tokenizer(), True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phases": []}, "phases must be a list with a mapping for every phase"),
        ({"phases": [{"max_steps": 3}]}, "phase 1 must have a max_seq_length of at least 2 tokens, got None"),
        ({"phases": [PHASES[0], {"max_seq_len": 3}]}, r"line \d+ of .*recipe.yaml .* got max_seq_len: did you mean"),
        ({"phases": [{"max_seq_length": 32, "attention_window": [5, 8]}]}, "phase 1 .* even number"),
        ({"model": {**MODEL, "attention_windoww": 8}}, "attention_windoww; did you mean 'attention_window'"),
        ({"train_files": []}, "give --train_files or --benchmark, got neither"),
        ({"train_files": ["nowhere.txt"]}, "must be files with something in them, got nowhere.txt"),
        ({"phases": [{"max_seq_length": 10**6}]}, "must have the 1,000,000 tokens of a chunk"),
        ({"model_name_or_path": "somewhere"}, "a recipe has model: or --model_name_or_path, got both"),
        ({"label_smoothing_factor": 0.1}, "--label_smoothing_factor must be 0 for clm"),
        ({"eval_stride": 0}, "--eval_stride must be at least 1, got 0"),
        ({"phases": [PHASES[0], {**PHASES[1], "learning_rate": float("nan")}]}, "phase 2 .* must be a finite number"),
        ({"phases": [{**PHASES[0], "learning_rate": "much"}]}, "phase 1 .*could not convert"),
        ({"phases": [{**PHASES[0], "per_device_train_batch_size": 0}]}, "phase 1 .*must be at least 1, got 0"),
        ({"stages": []}, r"line \d+ of .* got stages"),
    ],
)
def test_damaged_recipe(change: dict[str, Any], message: str, recipe: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run({**recipe, **change}, tmp_path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    """Is no matter for bytes."""
    (tmp_path / "a.txt").write_bytes(b"abc\xff")
    assert read_texts([str(tmp_path / "a.txt")], TOKENIZER, is_bytes=True).ids.tolist() == [97, 98, 99, 255]
    with pytest.raises(InputError, match=r"must be UTF-8 text, got byte 3 that is not"):
        read_texts([str(tmp_path / "a.txt")], TOKENIZER, is_bytes=False)
