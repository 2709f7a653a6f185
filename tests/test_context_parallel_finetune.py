# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`--context_parallel_size` of the training scripts: processes that share texts train and measure as one would."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from sources import make_source
from training_runs import log_of
from warm import run, run_several

from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune import (
    run_classification,
    run_clm,
    run_coref,
    run_mlm,
    run_multiple_choice,
    run_qa,
    run_token_classification,
)
from hf_longformer.finetune.division import check_division

FILLERS = ["the", "quick", "over", "jumps", "long", "windows", "and", "need"]
SCRIPTS = {
    "classification": run_classification,
    "mlm": run_mlm,
    "multiple-choice": run_multiple_choice,
    "qa": run_qa,
    "token-classification": run_token_classification,
}


def rows_of(task: str, number: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Rows with texts of 10 to 40 words, in each of which one is an animal."""
    rows: list[dict[str, Any]] = []
    for index in range(number):
        words = generator.choice(FILLERS, int(generator.integers(10, 40))).tolist()
        place, animal = int(generator.integers(len(words))), str(generator.choice(["fox", "dog"]))
        words[place] = animal
        text = " ".join(words)
        rows.append(
            {
                "classification": {"text": text, "label": animal},
                "mlm": {"text": text},
                "multiple-choice": {
                    "question": "the long",
                    "supports": [text],
                    "candidates": ["fox", "dog"],
                    "answer": animal,
                    "id": str(index),
                },
                "qa": {
                    "id": str(index),
                    "question": "need the",
                    "context": text,
                    "answers": {"text": [animal], "answer_start": [text.index(animal)]},
                },
                "token-classification": {
                    "tokens": words,
                    "tags": ["B-ANIMAL" if word == animal else "O" for word in words],
                },
            }[task]
        )
    return rows


def arguments(task: str, folder: Path, output: str, **options: Any) -> list[str]:
    """A few steps; rows of one length class, so that the last batch is smaller than the others."""
    plural = "s" if task == "mlm" else ""
    given: dict[str, Any] = {
        "model_name_or_path": folder / "model",
        f"train_file{plural}": folder / f"{task}-train.jsonl",
        f"validation_file{plural}": folder / f"{task}-validation.jsonl",
        "output_dir": folder / f"{task}-{output}",
        "num_train_epochs": 2,
        "learning_rate": 0.3,
        "optim": "sgd",
        "max_grad_norm": 1.0,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 3,
        "checkpoint_above": 30,
        "logging_steps": 1,
        "save_strategy": "epoch",
        "report_to": "none",
        "bf16": False,
        "disable_tqdm": True,
        "max_seq_length": 60,
        "load_best_model_at_end": False,
        **options,
    }
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted model without dropout, and files of all tasks."""
    folder = tmp_path_factory.mktemp("shared")
    make_source(folder / "source", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    convert(folder / "source", folder / "model", max_length=130, attention_window=8, check=False)
    generator = np.random.default_rng(0)
    for task in SCRIPTS:
        for split, number in (("train", 10), ("validation", 5)):
            lines = "".join(json.dumps(row) + "\n" for row in rows_of(task, number, generator))
            (folder / f"{task}-{split}.jsonl").write_text(lines)
    return folder


def words_of(text: str) -> tuple[str, list[float]]:
    """A text without its numbers, and these."""
    number = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
    return number.sub("#", text), [float(one) for one in number.findall(text)]


def numbers(scores: Any) -> list[float]:
    """All numbers in what JSON holds, in order."""
    if isinstance(scores, dict):
        return [number for name in sorted(scores) for number in numbers(scores[name])]
    return [float(scores)] if isinstance(scores, int | float) else []


def check_equal(task: str, folder: Path, one: str, other: str) -> None:
    """Losses of every step and evaluation, scores, predictions and weights."""
    first, second = (folder / f"{task}-{name}" for name in (one, other))
    for name in ("loss", "eval_loss"):
        losses = [[entry[name] for entry in log_of(run) if name in entry] for run in (first, second)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4, abs=2e-4), name
        assert len(losses[0]) > 1
    found = [json.loads((run / "results.json").read_text()) for run in (first, second)]
    assert numbers(found[1]["scores"]) == pytest.approx(numbers(found[0]["scores"]), rel=1e-4)
    if task == "mlm":
        assert numbers(found[1]["after"]) == pytest.approx(numbers(found[0]["after"]), rel=1e-4)
    for file in first.glob("validation-*"):
        text, other_text = (run.joinpath(file.name).read_text() for run in (first, second))
        assert words_of(text)[0] == words_of(other_text)[0]
        assert words_of(text)[1] == pytest.approx(words_of(other_text)[1], rel=1e-3, abs=1e-4)
    weights = [load_file(run / "model.safetensors") for run in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    before = load_file(folder / "model" / "model.safetensors")
    for name, weight in weights[0].items():
        assert weights[1][name].sub(weight).abs().max() < 2e-5, name
    changed = [name for name in before.keys() & weights[0].keys() if not before[name].equal(weights[0][name])]
    assert len(changed) > 20


def train(task: str, folder: Path, processes: int, output: str, **options: Any) -> None:
    options |= {"ddp_backend": "gloo"} if processes > 1 else {}
    words = ["python", SCRIPTS[task].__file__, *arguments(task, folder, output, **options)]
    done = run(words) if processes == 1 else run_several(processes, words)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "task", [pytest.param(name, marks=[] if name == "mlm" else pytest.mark.slow) for name in SCRIPTS]
)
def test_two_processes_share_texts(task: str, folder: Path) -> None:
    train(task, folder, 1, "one")
    train(task, folder, 2, "two", context_parallel_size=2)
    check_equal(task, folder, "one", "two")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"tokens_per_batch": 120}])
def test_four_processes_share_texts_two_by_two(options: dict[str, Any], folder: Path) -> None:
    """As two processes that share none."""
    task, kind = "token-classification", "-".join(options)
    train(task, folder, 2, f"pair{kind}", **options)
    train(task, folder, 4, f"four{kind}", context_parallel_size=2, **options)
    check_equal(task, folder, f"pair{kind}", f"four{kind}")


def test_what_cannot_be_shared_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = arguments("classification", folder, "no", context_parallel_size=2)
    with pytest.raises(InputError, match="must divide the number of processes, got 2 and 1: start as many"):
        run_classification.main(asked)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InputError, match="--torch_compile takes whole texts"):
        check_division("qa", True, SimpleNamespace(context_parallel_size=2, torch_compile=True))
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(InputError, match="must be 1 for coref, whose texts are not divided, got 2"):
        run_coref.main(arguments("classification", folder, "no", context_parallel_size=2))
    files = ["--train_files", str(folder / "mlm-train.jsonl"), "--output_dir", str(folder / "no")]
    with pytest.raises(InputError, match="must be 1 for clm, whose texts are not divided, got 2"):
        run_clm.main([*files, "--context_parallel_size", "2"])
    with pytest.raises(InputError, match="--context_parallel_size must be at least 1, got 0"):
        run_classification.main(arguments("classification", folder, "no", context_parallel_size=0))
