# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What tests of summaries share: a tiny encoder-decoder, documents with summaries, and arguments."""

import random
from pathlib import Path
from typing import Any

import torch
from classification_runs import write_rows
from sources import roberta_tokenizer

from hf_longformer import HfLongformerEncoderDecoderConfig, HfLongformerForConditionalGeneration

ENCODER: dict[str, Any] = {
    **{"vocab_size": 301, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 37},
    **{"attention_window": 16, "max_position_embeddings": 130, "hidden_dropout_prob": 0.0, "initializer_range": 0.3},
}
DECODER: dict[str, Any] = {
    **{"vocab_size": 301, "d_model": 24, "decoder_layers": 2, "decoder_attention_heads": 3, "decoder_ffn_dim": 37},
    **{"max_position_embeddings": 130, "dropout": 0.0, "init_std": 0.3},
}
FILLER = ["over", "jumps", "need", "longer", "and"]
SUMMARIES = {"fox": "the quick brown fox", "windows": "longer windows"}  # by the first word


def make_summariser(folder: Path, **generation: Any) -> HfLongformerForConditionalGeneration:
    """An encoder-decoder with random weights, which writes 12 tokens unless it is told otherwise, and its tokenizer."""
    torch.manual_seed(0)
    model = HfLongformerForConditionalGeneration(HfLongformerEncoderDecoderConfig(encoder=ENCODER, decoder=DECODER))
    for name, value in ({"max_new_tokens": 12, "num_beams": 2} | generation).items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    roberta_tokenizer(folder / "tokenizer").save_pretrained(folder)
    return model.eval()


def make_rows(number: int, seed: int = 0) -> list[dict[str, Any]]:
    """Documents of 5 to 40 words, the first of which says what the summary is."""
    draw = random.Random(seed)
    rows = []
    for index in range(number):
        word = list(SUMMARIES)[index % 2]
        words = draw.choices(FILLER, k=draw.choice((4, 12, 39)))
        words.insert(0, word)
        rows.append({"id": index, "text": " ".join(words), "summary": SUMMARIES[word]})
    return rows


def arguments(model: Path, folder: Path, output: str = "run", **options: Any) -> list[str]:
    """A command line; with files of 24, 6 and 6 documents, if there are no others in the folder."""
    given: dict[str, Any] = {"model_name_or_path": model, "output_dir": folder / output}
    for seed, (split, number) in enumerate({"train": 24, "validation": 6, "test": 6}.items()):
        file = folder / f"{split}.jsonl"
        given[f"{split}_file"] = file if file.exists() else write_rows(file, make_rows(number, seed))
    given |= {"learning_rate": 0.01, "logging_steps": 1, "max_steps": 8, "max_new_tokens": 10, "num_beams": 1}
    given |= {"save_strategy": "steps", "save_steps": 4, "eval_strategy": "steps", "eval_steps": 4}
    given |= {"report_to": "none", "bf16": False, "disable_tqdm": True, **options}
    return [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
