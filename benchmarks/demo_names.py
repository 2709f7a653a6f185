# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Masks that are filled with a name from far away: the story, the words that can be names, and the training."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForMaskedLM,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

STORY = Path(__file__).with_name("lighthouse.txt")


def story_paragraphs() -> list[str]:
    """A story: the first paragraph calls a lighthouse keeper `{name}`, the last one calls him `{mask}`."""
    return STORY.read_text(encoding="utf-8").strip().split("\n\n")


def name_words(tokenizer: Any) -> list[str]:
    """Capitalised words of one token."""
    words = [word[1:] for word in sorted(tokenizer.get_vocab()) if len(word) > 4 and word[0] == "Ġ"]
    return [word for word in words if word.istitle() and word.isalpha()]


def row_of_text(
    tokenizer: Any, ids: torch.Tensor, name: str, tokens: int, *, is_global: bool = True
) -> dict[str, torch.Tensor]:
    """What a model reads of a text `(S,)`: its last tokens, `(tokens,)` each, masks to be filled with a name,
    and global unless told otherwise.
    """
    ids = torch.cat([ids[:1], ids[1:][1 - tokens :]])
    is_mask = ids == tokenizer.mask_token_id
    labels = torch.where(is_mask, tokenizer.convert_tokens_to_ids(f"Ġ{name}"), -100)
    return {"input_ids": ids, "global_attention_mask": (is_mask & is_global).long(), "labels": labels}


@torch.inference_mode()
def logits_of_last_mask(model: PreTrainedModel, row: dict[str, torch.Tensor]) -> torch.Tensor:
    """`(vocab_size,)`."""
    last = int((row["labels"] >= 0).nonzero()[-1])
    return model(**{key: tensor[None] for key, tensor in row.items() if key != "labels"}).logits[0, last]


def train_on_masks(
    checkpoint: Path, folder: Path, rows: list[dict[str, torch.Tensor]], seed: int, *, steps: int, **options: Any
) -> PreTrainedModel:
    """A masked language model after a short training, every row seen once.

    Args:
        checkpoint: Where it starts.
        folder: For `Trainer`; nothing is kept in it.
        rows: `input_ids`, `global_attention_mask` and `labels`, `(S,)` each.
        seed: Of the order of rows, and of dropout.
        steps: Of training; the rows are shared among them.
        **options: Fields of the model's configuration.
    """
    set_seed(seed)
    settings: dict[str, Any] = {"max_steps": steps, "per_device_train_batch_size": len(rows) // steps}
    settings |= {"learning_rate": 1e-3, "warmup_steps": 0.25, "save_strategy": "no", "report_to": "none"}
    arguments = TrainingArguments(str(folder), logging_strategy="no", disable_tqdm=True, seed=seed, **settings)
    model = AutoModelForMaskedLM.from_pretrained(checkpoint, dtype=torch.float32, **options)
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=_collate)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return model.eval()


def _collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
    return {**default_data_collator(rows), "masked_only": True}  # logits of masks only
