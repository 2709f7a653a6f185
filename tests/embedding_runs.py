# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""A small sentence encoder, documents of which a few words matter, and the words that ask for them."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

from sources import make_source

from hf_longformer.conversion import convert

SOURCE_LENGTH = 100  # tokens
TOPICS = [
    " ".join(pair) for pair in itertools.combinations(["quick", "brown", "lazy", "dog", "encoders", "windows"], 2)
]


def make_encoder(folder: Path, **settings: Any) -> Path:
    """A BERT with random weights, mean pooling and normalisation, converted to 400 tokens."""
    import sentence_transformers

    make_source(folder / "encoder", "bert", "Model", **settings)
    modules = sentence_transformers.sentence_transformer.modules
    encoder = modules.Transformer(str(folder / "encoder"), max_seq_length=SOURCE_LENGTH)
    parts = [encoder, modules.Pooling(24, "mean"), modules.Normalize()]
    model = sentence_transformers.SentenceTransformer(modules=parts, device="cpu")
    model.save(str(folder / "sentences"))
    convert(folder / "sentences", folder / "model", max_length=400, attention_window=16)
    return folder / "model"


def document(topic: str, number: int, words: int = 130) -> str:
    """Words at random, and among them those that matter, several times."""
    chance = random.Random(f"{topic} {number}")
    found = [chance.choice(["the", "over", "fox", "jumps", "long", "need", "and"]) for _ in range(words)]
    for _ in range(words // 12):
        found.insert(chance.randrange(len(found)), topic)
    return " ".join(found)


def write_pairs(file: Path, numbers: range, names: tuple[str, str] = ("anchor", "positive"), **more: Any) -> Path:
    """Pairs of topics and documents as JSON lines, in columns of these names, in their order."""
    rows = []
    for number in numbers:
        for topic in TOPICS:
            texts = {"anchor": topic, "positive": document(topic, number)}
            roles = {"query": "anchor", "question": "anchor", "text": "positive", "document": "positive"}
            rows.append({name: texts[roles.get(name, name)] for name in names} | more)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def arguments(folder: Path, output: str = "run", **options: Any) -> list[str]:
    """Of a short training."""
    given = {
        "model_name_or_path": folder / "model",
        "train_files": folder / "train.jsonl",
        "validation_files": folder / "valid.jsonl",
        "output_dir": folder / output,
        "max_seq_length": 300,
        "max_steps": 12,
        "per_device_train_batch_size": 8,
        "learning_rate": 0.005,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 4,
        "eval_strategy": "no",
        "report_to": "none",
        "bf16": False,
        "disable_tqdm": True,
        **options,
    }
    words = []
    for name, value in given.items():
        if value is not None:
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return words
