# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Whatever is killed leaves the old, the new, or what goes on where it was: never a mixture of them."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from killing import fingerprint, moments, run
from sources import make_source

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small checkpoints to convert."""
    folder = tmp_path_factory.mktemp("sources")
    make_source(folder / "one")
    make_source(folder / "two", num_labels=3, head="ForSequenceClassification")
    return folder


def of_checkpoint(file: Path) -> bool:
    """Reports and cards have the date and the seconds of their conversion in them."""
    return file.name not in ("conversion_report.json", "README.md")


@pytest.mark.parametrize("overwrite", [False, True])
def test_convert_leaves_the_old_or_the_new(sources: Path, tmp_path: Path, overwrite: bool) -> None:
    """`verify` and a second conversion find nothing odd whenever the first was killed."""
    output = tmp_path / "place" / "converted"
    output.parent.mkdir()
    command = ["convert", sources / "one", output, "--max-length", 260, "--attention-window", 16]
    assert run([*command[:1], sources / "two", output, *command[3:]], output.parent)[0] == 0
    old = fingerprint(output, of_checkpoint)
    code, total = run([*command, "--overwrite"], output.parent)
    new = fingerprint(output, of_checkpoint)
    assert code == 0
    assert total > 5
    assert old != new
    found = []
    for moment in moments(total, 20):
        shutil.rmtree(output.parent)
        output.parent.mkdir()
        if overwrite:
            assert run([*command[:1], sources / "two", output, *command[3:]], output.parent)[0] == 0
            command = [*command[:7], "--overwrite"]
        assert run(command, output.parent, moment)[0] in (-9, 0)  # without an old one it touches fewer files
        found.append(fingerprint(output, of_checkpoint))
        assert found[-1] in ((old, new) if overwrite else (None, new))
    assert found[0] == (old if overwrite else None)
    assert run([*command[:7], "--overwrite"], output.parent)[0] == 0
    assert fingerprint(output, of_checkpoint) == new


def test_predict_goes_on_and_gives_the_same(sources: Path, tmp_path: Path) -> None:
    """Whatever it was killed at, the next run completes the file with the lines of a run that was never killed."""
    texts, output = tmp_path / "texts.jsonl", tmp_path / "place" / "found.jsonl"
    rows = [{"text": "the quick brown fox jumps over " * (1 + number % 7)} for number in range(600)]
    texts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = tmp_path / "model"
    convert = ["convert", sources / "two", model, "--max-length", 260, "--attention-window", 16]
    assert run(convert, tmp_path)[0] == 0
    output.parent.mkdir()
    command: list[Any] = ["predict", "classification", model, texts, "--output", output]
    code, total = run(command, output.parent)
    assert (code, total > 3) == (0, True)
    whole = output.read_text()
    for moment in moments(total, 10):
        shutil.rmtree(output.parent)
        output.parent.mkdir()
        assert run(command, output.parent, moment)[0] == -9
        assert not output.exists() or output.read_text() == whole
        if not output.exists():
            assert run(command, output.parent)[0] == 0
        assert output.read_text() == whole


WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog"]
COMMON = {
    **{"max_seq_length": 32, "per_device_train_batch_size": 2, "max_steps": 4, "save_strategy": "steps"},
    **{"save_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "logging_steps": 1, "learning_rate": 0.01},
    **{"report_to": "none", "bf16": False, "disable_tqdm": True},
}


def make_data(task: str, file: Path) -> None:
    """Something to train on, as the task reads it."""
    draw = random.Random(0)
    texts = [draw.choices(WORDS, k=12) for _ in range(24)]
    if task in ("mlm", "clm"):
        file.write_text("\n\n".join(" ".join(words) for words in texts * 3))
        return
    rows: list[dict[str, Any]] = []
    for number, words in enumerate(texts):
        text = " ".join(words)
        rows.append(
            {
                "classification": {"text": text, "label": "ab"[number % 2]},
                "qa": {"id": str(number), "question": "who", "context": text, "answers": [words[3]]},
                "token-classification": {"tokens": words, "tags": ["B-X" if word == "fox" else "O" for word in words]},
                "multiple-choice": {"question": "who", "candidates": ["fox", "dog"], "supports": [text], "answer": 0},
            }[task]
        )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def command_of(task: str, folder: Path, output: Path) -> list[Any]:
    """A training of four steps with a checkpoint after each."""
    given: dict[str, Any] = {**COMMON, "output_dir": output}
    if task == "clm":
        (folder / "clm.yaml").write_text(
            "model: {hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 16,\n"
            "  attention_window: 8, position_embedding_type: rotary}\n"
            "phases: [{max_seq_length: 32, max_steps: 2}, {max_seq_length: 64, max_steps: 2}]\n"
        )
        for name in ("eval_strategy", "eval_steps", "max_steps"):
            del given[name]
        given |= {"train_files": folder / "train.txt", "eval_stride": 8}
        return ["finetune", "clm", folder / "clm.yaml", *as_words(given)]
    given["model_name_or_path"] = folder / "model"
    if task == "mlm":
        given |= {"train_files": folder / "train.txt", "validation_files": folder / "train.txt"}
    else:
        given |= {"train_file": folder / "train.jsonl", "validation_share": 0.25}
    return ["finetune", task, *as_words(given)]


def as_words(given: dict[str, Any]) -> list[Any]:
    return [word for name, value in given.items() for word in (f"--{name}", value)]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("task", ["classification", "qa", "token-classification", "multiple-choice", "mlm", "clm"])
def test_training_goes_on_and_gives_the_same(task: str, sources: Path, tmp_path: Path) -> None:
    """Whatever it was killed at, the same command completes it: the weights of a run that was never killed."""
    make_data(task, tmp_path / ("train.txt" if task in ("mlm", "clm") else "train.jsonl"))
    convert = ["convert", sources / "one", tmp_path / "model", "--max-length", 130, "--attention-window", 16]
    assert run(convert, tmp_path)[0] == 0
    whole = tmp_path / "whole"
    code, total = run(command_of(task, tmp_path, whole), whole)
    assert code == 0
    expected = (whole / "model.safetensors").read_bytes()
    for number, moment in enumerate(moments(total, 25)):
        output = tmp_path / f"killed-{number}"
        command = command_of(task, tmp_path, output)
        assert run(command, output, moment)[0] == -9
        if (output / "results.json").exists():
            assert (output / "model.safetensors").exists()
        assert run(command, output)[0] == 0, moment
        assert (output / "model.safetensors").read_bytes() == expected, moment
        results = json.loads((output / "results.json").read_text())
        assert results["training"]["steps"] == 4
        shutil.rmtree(output)
