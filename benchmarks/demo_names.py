# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Masks that are filled with a name from far away: the story, the words that can be names, and the training."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import (
    AutoModelForMaskedLM,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

PADDING = {"labels": -100}  # 0 for the rest
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
    checkpoint: Path,
    folder: Path,
    rows: list[dict[str, torch.Tensor]],
    seed: int,
    *,
    steps: int,
    progress: str | None = None,
    **options: Any,
) -> PreTrainedModel:
    """A masked language model after a short training, every row seen once.

    Args:
        checkpoint: Where it starts.
        folder: For `Trainer`; nothing is kept in it.
        rows: `input_ids`, `global_attention_mask` and `labels`, `(S,)` each; and, if they are not of one length,
            `attention_mask`.
        seed: Of the order of rows, and of dropout.
        steps: Of training; the rows are shared among them.
        progress: What a bar on standard error says; None for no bar.
        **options: Fields of the model's configuration.
    """
    set_seed(seed)
    settings: dict[str, Any] = {"max_steps": steps, "per_device_train_batch_size": len(rows) // steps}
    settings |= {"learning_rate": 1e-3, "warmup_steps": 0.25, "save_strategy": "no", "report_to": "none"}
    settings |= {"logging_strategy": "no"} if progress is None else {"logging_steps": 10}
    arguments = TrainingArguments(str(folder), disable_tqdm=True, seed=seed, **settings)
    model = AutoModelForMaskedLM.from_pretrained(checkpoint, dtype=torch.float32, **options)
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=_collate)
    trainer.remove_callback(PrinterCallback)
    if progress is not None:
        trainer.add_callback(_Progress(progress))
    trainer.train()
    return model.eval()


def _collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
    longest = max(len(row["labels"]) for row in rows)
    padded = [
        {name: pad(tensor, (0, longest - len(tensor)), value=PADDING.get(name, 0)) for name, tensor in row.items()}
        for row in rows
    ]
    return {**default_data_collator(padded), "masked_only": True}  # logits of masks only


class _Progress(TrainerCallback):
    """A bar of steps and their loss, where `Trainer`'s own would also print."""

    def __init__(self, label: str) -> None:
        self.label = label

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=state.max_steps, file=sys.stderr, desc=self.label, unit="step", leave=False)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs is not None and "loss" in logs:
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.2f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.close()
