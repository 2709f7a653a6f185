# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune clm --retrieval_index` and `evaluate clm`: models learn to read an index; what they gain is measured."""

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import tiny_config

from hf_longformer import HfLongformerForCausalLM, HfLongformerModel, byte_tokenizer
from hf_longformer.conversion import InputError
from hf_longformer.finetune import run_clm
from hf_longformer.finetune.clm.memory import remember
from hf_longformer.finetune.clm.texts import Chunks, Text, bits_per_character, read_texts, windows
from hf_longformer.retrieval import build_index, open_index, overlap
from hf_longformer_cli.training import show_scores

pytest.importorskip("faiss", reason="pip install 'hf-longformer[retrieval]'")
M, LENGTH = 8, 32
WORDS = ("the ", "fox ", "jumps ", "over ", "it.\n")


def write_books(folder: Path, **sizes: int) -> None:
    for number, (name, size) in enumerate(sizes.items()):
        words = random.Random(number).choices(WORDS, k=size)
        (folder / f"{name}.txt").write_text("".join(words))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Books, and an index of two of them."""
    folder = tmp_path_factory.mktemp("books")
    write_books(folder, one=150, two=90, three=70, test=50)
    (folder / "corpus").mkdir()
    for name in ("one", "two"):
        shutil.copy(folder / f"{name}.txt", folder / "corpus")
    torch.manual_seed(0)
    config = tiny_config(vocab_size=260, pad_token_id=256, max_position_embeddings=400)
    HfLongformerModel(config).save_pretrained(folder / "encoder")
    byte_tokenizer().save_pretrained(folder / "encoder")
    encoder = str(folder / "encoder")
    build_index(folder / "corpus", folder / "INDEX", encoder=encoder, tokenizer="bytes", chunk_size=M)
    return folder


@pytest.fixture
def recipe(place: Path, tmp_path: Path) -> dict[str, Any]:
    model = {
        **{"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
        **{"attention_window": 16, "position_embedding_type": "rotary", "norm_style": "pre"},
        **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    }
    return {
        **{"train_files": [str(place / "one.txt"), str(place / "three.txt")], "test_files": [str(place / "test.txt")]},
        **{"output_dir": str(tmp_path / "run"), "per_device_train_batch_size": 4, "save_strategy": "no"},
        **{"logging_steps": 1, "eval_stride": 16, "report_to": "none", "bf16": False, "disable_tqdm": True},
        **{"model": model, "phases": [{"max_seq_length": LENGTH, "max_steps": 6, "learning_rate": 0.01}]},
    }


def run(recipe: dict[str, Any], tmp_path: Path, *more: str) -> dict[str, Any]:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return run_clm.main([str(tmp_path / "recipe.yaml"), *more])


def test_models_learn_to_read_an_index(
    recipe: dict[str, Any], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Its weights move, its scores are by overlap, nothing is found in the text itself, and it is measured the same."""
    recipe |= {"retrieval_index": str(place / "INDEX"), "retrieval": {"neighbours": 3, "encoder_layers": 1}}
    results = run(recipe, tmp_path)
    said = results["retrieval"]
    assert (said["chunk_size"], said["neighbours"], said["neighbour_length"], said["encoder_layers"]) == (M, 3, 16, 1)
    assert said["not_looked_in"] == {"train": ["one"], "test": []}
    rows = results["scores"]["test"]["by_overlap"]
    number = len((place / "test.txt").read_text()) // M
    assert (rows[-1]["overlap"], rows[-1]["chunks"], rows[-1]["share"]) == (1.0, number, 1.0)
    folder = tmp_path / "run"
    model = HfLongformerForCausalLM.from_pretrained(folder).eval()
    (reader,) = [layer.chunked_crossattention for layer in model.longformer.encoder.layer][:1]
    assert reader.dense.weight.abs().min() > 0
    options = ["--model_name_or_path", str(folder), "--test_files", recipe["test_files"][0], "--do_train", "False"]
    options += ["--max_seq_length", str(LENGTH), "--eval_stride", "16", "--output_dir", str(tmp_path / "measured")]
    again = run_clm.main([*options, "--retrieval_index", str(place / "INDEX"), "--report_to", "none"])
    show_scores(again)
    assert (
        f"at most 100.0% of a chunk stands in what was found for it: {number} chunks, 100.0%" in capsys.readouterr().out
    )
    expected = results["scores"]["test"]["bits_per_character"]
    assert again["scores"]["test"]["bits_per_character"] == pytest.approx(expected, rel=1e-5)
    assert "retrieval" in json.loads((tmp_path / "measured" / "results.json").read_text())


def test_a_trained_model_is_given_a_memory(recipe: dict[str, Any], place: Path, tmp_path: Path) -> None:
    """It begins as what it was: measured before anything is learned, with an index and without."""
    plain = run(recipe, tmp_path)["scores"]["test"]
    assert "by_overlap" not in plain
    base, index = ["--model_name_or_path", str(tmp_path / "run")], ["--retrieval_index", str(place / "INDEX")]
    measure = ["--do_train", "False", "--test_files", recipe["test_files"][0], "--max_seq_length", str(LENGTH)]
    measure += ["--eval_stride", "16", "--report_to", "none", "--output_dir", str(tmp_path / "measured")]
    with_index = run_clm.main([*base, *index, *measure])["scores"]["test"]
    assert with_index["tokens"] == plain["tokens"]
    assert with_index["bits_per_character"] == pytest.approx(plain["bits_per_character"], rel=1e-6)
    del recipe["model"]
    recipe["output_dir"] = str(tmp_path / "more")
    learned = run(recipe, tmp_path, *base, *index)
    assert learned["retrieval"]["neighbours"] == 2
    model = HfLongformerForCausalLM.from_pretrained(tmp_path / "more")
    assert model.config.retrieval["chunk_size"] == M
    recipe |= {"output_dir": str(tmp_path / "most"), "retrieval": {"neighbours": 1}}
    with pytest.raises(InputError, match="has learned to read with"):
        run(recipe, tmp_path, "--model_name_or_path", str(tmp_path / "more"), *index)
    del recipe["retrieval"]
    with pytest.raises(InputError, match="give --retrieval_index, got none"):
        run(recipe, tmp_path, "--model_name_or_path", str(tmp_path / "more"))


def test_an_index_that_does_not_fit_is_refused(recipe: dict[str, Any], place: Path, tmp_path: Path) -> None:
    recipe["retrieval_index"] = str(place / "INDEX")
    for change, message in (
        ({"retrieval": {"chunk_size": 4}}, "the recipe's chunk_size must be the index's 8, got 4"),
        ({"retrieval": [1]}, "must be a mapping"),
        ({"retrieval": {"neighbour": 4}}, "retrieval knows chunk_size, neighbours"),
        ({"retrieval_index": str(place)}, "an index is a folder that"),
        ({"retrieval_index": None, "retrieval": {"neighbours": 4}}, "without it"),
        ({"phases": [{"max_seq_length": 30, "max_steps": 1}]}, "a multiple of the index's chunks of 8 tokens, got 30"),
    ):
        changed = {**recipe, **change}
        with pytest.raises(InputError, match=message):
            run({name: value for name, value in changed.items() if value is not None}, tmp_path)
    assert not (tmp_path / "run" / "results.json").exists()


def make(place: Path) -> tuple[HfLongformerForCausalLM, Text]:
    torch.manual_seed(0)
    config = tiny_config(vocab_size=260, is_decoder=True, position_embedding_type="rotary", initializer_range=0.3)
    config.retrieval, config.attention_window = {"chunk_size": M, "encoder_layers": 1}, 10
    model = HfLongformerForCausalLM(config).eval()
    for layer in model.longformer.encoder.layer:
        if layer.chunked_crossattention is not None:
            torch.nn.init.normal_(layer.chunked_crossattention.dense.weight, std=0.3)
    text = read_texts([str(place / "test.txt"), str(place / "two.txt")], byte_tokenizer(), is_bytes=True)
    remember(open_index(place / "INDEX"), {"test": text}, model.config, None)
    return model, text


def test_bits_are_those_of_one_pass(place: Path) -> None:
    """Of windows that begin where chunks do, token by token; and by overlap from the losses of chunks."""
    model, text = make(place)
    size = 150  # no multiple of a chunk
    part = Text(text.ids[:size], size, neighbours=text.neighbours)
    nats, found = np.zeros(size), bits_per_character(model, part, 40, 20, batch_size=2)
    starts = []
    for start, stop, first in windows(size, 40, 20, M):
        starts.append(start)
        ids = torch.from_numpy(text.ids[start:stop].astype(np.int64))[None]
        given = [torch.from_numpy(one)[None] for one in text.neighbours.of(start // M, stop // M)]
        with torch.no_grad():
            logits = model(ids, neighbour_ids=given[0], neighbour_mask=given[1]).logits[0]
        losses = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
        nats[first:stop] = losses[first - 1 - start :]
    assert starts == [0, 24, 40, 64, 80, 104, 112]
    assert found["tokens"] == size - 1
    assert found["bits_per_token"] == pytest.approx(nats.sum() / (size - 1) / math.log(2), rel=1e-5)
    number = size // M
    shares = overlap(text.ids[: number * M].reshape(number, M), *text.neighbours.of(0, number))
    row = found["by_overlap"][2]
    kept = shares <= row["overlap"]
    scored = M * kept.sum() - kept[0]
    assert row["chunks"] == kept.sum()
    if kept.any():
        expected = nats[: number * M].reshape(number, M).sum(axis=1)[kept].sum() / scored / math.log(2)
        assert row["bits_per_token"] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(InputError, match="must have a chunk of 8 in front of those that are scored"):
        bits_per_character(model, part, 40, 36)


def test_rows_of_training_have_what_was_found(place: Path) -> None:
    _, text = make(place)
    chunks = Chunks(text, LENGTH, M)
    row = chunks[2]
    number = LENGTH // M
    assert row["neighbour_ids"].shape == row["neighbour_mask"].shape == (number, 2, 2 * M)
    ids, _ = text.neighbours.of(2 * number, 3 * number)
    assert torch.equal(row["neighbour_ids"], torch.from_numpy(ids))
    start = len((place / "test.txt").read_text())
    documents = text.neighbours.index
    for chunk in range(-(-start // M), len(text.ids) // M):
        assert {documents.document_of(one)["id"] for one in text.neighbours.found[chunk]} == {"one"}
