# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What tests of `finetune/run_classification.py` share: a tiny model, texts to classify, arguments, and logs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from sources import make_source

from hf_longformer.conversion import convert

FILLER = ["the", "brown", "over", "jumps", "documents", "need", "encoders", "windows"]
MARKS = {"neg": "lazy", "pos": "fox"}  # the word that decides


def make_model(folder: Path) -> Path:
    """A converted language model without dropout."""
    make_source(folder / "source", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    convert(folder / "source", folder / "model", max_length=260, attention_window=16, check=False)
    return folder / "model"


def arguments(model: Path, folder: Path, output: str = "run", **options: Any) -> list[str]:
    """A command line; with forty texts to train on, if no others are given."""
    given = {
        "model_name_or_path": model,
        "output_dir": folder / output,
        "max_seq_length": 64,
        "num_train_epochs": 1,
        "learning_rate": 0.003,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 16,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": False,
        "disable_tqdm": True,
        **options,
    }
    if "train_file" not in options and "dataset_name" not in options:
        given["train_file"] = write_rows(folder / "train.jsonl", make_rows(40))
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def make_rows(number: int, seed: int = 0, before: int = 0, times: int = 1, flip: bool = False) -> list[dict[str, Any]]:
    """Texts of filler in which, behind `before` words at least, one word says what label they have, so many times."""
    generator = np.random.default_rng(seed)
    rows = []
    for index in range(number):
        label = ("neg", "pos")[index % 2]
        words = generator.choice(FILLER, before + int(generator.integers(3, 12))).tolist()
        for _ in range(times):
            words.insert(before + int(generator.integers(0, 3)), MARKS[label])
        rows.append({"text": " ".join(words), "label": {"neg": "pos", "pos": "neg"}[label] if flip else label})
    return rows


def write_rows(file: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as JSON lines."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def read_lines(file: Path) -> list[Any]:
    """What stands in the lines of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text().splitlines()]
