# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What fewer bits cost: nearest neighbours, labels, tokens or answers that change, which a mean cosine hides; and how
many of them depend on the texts that stand in the same batch.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_longformer.conversion import InputError

from .gate import Run, outputs_of
from .heads import GLOBAL

OWN_TEXT = ("benchmarks", "lighthouse.txt")  # a story that comes with the package
LONGEST_CALIBRATED = 1024  # tokens, of the long text among those that scales are measured on
FEWEST, MOST, SHORTEST, TOGETHER = 20, 600, 20, 8  # texts; characters of a sentence; texts in a batch
# What is counted, by head, and how many neighbouring sentences make a text of it, or its two halves.
UNITS = {
    "Model": "nearest neighbours",
    "ForMaskedLM": "tokens",
    "ForTokenClassification": "labels of tokens",
    "ForSequenceClassification": "labels",
    "ForQuestionAnswering": "answers",
    "ForMultipleChoice": "choices",
}

Batch = dict[str, np.ndarray]


def sentences_of(file: Path | None) -> list[str]:
    """Sentences of a text file, or of the story that comes with the package.

    Raises:
        InputError: If the file cannot be read or has too few.
    """
    place = Path(__file__).resolve().parents[1].joinpath(*OWN_TEXT) if file is None else file
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"--eval-text must be a text file in UTF-8, got {place}: {error}") from error
    if file is None:
        text = text.replace("{name}", "Harker").replace("{mask}", "Harker")
    found = [" ".join(one.split()) for one in re.split(r"(?<=[.!?;])[\"”']?\s+", text)]
    found = list(dict.fromkeys(one for one in found if len(one) >= SHORTEST))[:MOST]
    if len(found) < FEWEST:
        raise InputError(f"--eval-text must have at least {FEWEST} sentences, got {len(found)} in {place}")
    return found


def halves(sentences: list[str]) -> tuple[list[str], list[str]]:
    """Those that scales are measured on, and those that the loss is measured on."""
    return sentences[::2], sentences[1::2]


def batches_of(tokenizer: Any, head: str, config: Any, sentences: list[str], size: int) -> list[Batch]:
    """Batches of inputs for a head, of so many texts; questions, contexts and choices are neighbouring sentences."""
    following = [*sentences[1:], sentences[0]]
    texts, pairs = sentences, following if head == "ForQuestionAnswering" else []
    if head == "ForMultipleChoice":
        texts = [one for one in sentences for _ in range(2)]
        pairs = [one for both in zip(following, sentences, strict=True) for one in both]
        size *= 2
    found = []
    for start in range(0, len(texts), size):
        chosen = slice(start, start + size)
        batch = tokenizer(
            texts[chosen], pairs[chosen] or None, padding=True, truncation=True, max_length=config.max_length_tokens
        )
        batch = {name: np.asarray(values, dtype=np.int64) for name, values in batch.items()}
        batch.setdefault("token_type_ids", np.zeros_like(batch["input_ids"]))
        if head == "ForMultipleChoice":
            batch = {name: array.reshape(-1, 2, array.shape[-1]) for name, array in batch.items()}
        found.append(batch)
    return found


def calibration_batches(tokenizer: Any, head: str, config: Any, sentences: list[str]) -> list[Batch]:
    """Texts to measure scales on: sentences in batches, and one long text."""
    batches = batches_of(tokenizer, head, config, sentences, TOGETHER)
    if head == "ForMultipleChoice":
        return batches
    longest = {"truncation": True, "max_length": min(config.max_length_tokens, LONGEST_CALIBRATED)}
    whole = {name: np.asarray([ids], dtype=np.int64) for name, ids in tokenizer(" ".join(sentences), **longest).items()}
    whole.setdefault("token_type_ids", np.zeros_like(whole["input_ids"]))
    return [*batches, whole]


def measure(model: Any, run: Run, names: tuple[str, ...], tokenizer: Any, sentences: list[str]) -> dict[str, Any]:
    """What an exported file says otherwise than the model in PyTorch, in float32.

    Args:
        model: The checkpoint.
        run: What the file makes of inputs.
        names: Of its inputs.
        tokenizer: Of the checkpoint.
        sentences: To compare on.

    Returns:
        `unit`, what is counted, `of`, how many there are, `changed`, how many are others than in PyTorch,
        `changed_by_batch`, how many are others in a batch than alone, and `texts`.
    """
    head = type(model).__name__.removeprefix("HfLongformer")

    def answers(call: Run, size: int) -> np.ndarray:
        batches = batches_of(tokenizer, head, model.config, sentences, size)
        return _decide(head, model.config, [(batch, call(inputs_of(model, batch, names))) for batch in batches])

    def in_torch(batch: Batch) -> Batch:
        with torch.no_grad():
            return outputs_of(model, {name: torch.from_numpy(array) for name, array in batch.items()})

    expected, alone, together = answers(in_torch, 1), answers(run, 1), answers(run, TOGETHER)
    return {
        "unit": UNITS[head],
        "of": len(expected),
        "changed": int((expected != together).sum()),
        "changed_by_batch": int((alone != together).sum()),
        "texts": len(sentences),
    }


def inputs_of(model: Any, batch: Batch, names: Iterable[str]) -> Batch:
    """Those of a batch that a file takes, with the model's own choice of global tokens where it takes one."""
    given = dict(batch)
    if GLOBAL in names:
        ids, mask = (torch.from_numpy(batch[name]) for name in ("input_ids", "attention_mask"))
        chosen = model.default_global_attention_mask(ids, mask)
        given[GLOBAL] = np.zeros_like(batch["input_ids"]) if chosen is None else chosen.view_as(ids).numpy()
    return {name: given[name] for name in names}


def _decide(head: str, config: Any, found: list[tuple[Batch, Batch]]) -> np.ndarray:
    """What the outputs mean, one number each."""
    if head == "Model":
        return _neighbours(np.concatenate([_embeddings(batch, outputs) for batch, outputs in found]))
    return np.concatenate([DECISIONS[head](config, batch, outputs) for batch, outputs in found])


def _embeddings(batch: Batch, outputs: Batch) -> np.ndarray:
    """The mean of the states of real tokens, of length 1."""
    real = batch["attention_mask"][..., None]
    mean = (outputs["last_hidden_state"] * real).sum(axis=1) / real.sum(axis=1)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def _neighbours(embeddings: np.ndarray) -> np.ndarray:
    similar = embeddings @ embeddings.T
    np.fill_diagonal(similar, -np.inf)
    return similar.argmax(axis=1)


def _of_tokens(config: Any, batch: Batch, outputs: Batch) -> np.ndarray:
    return outputs["logits"].argmax(axis=-1)[batch["attention_mask"] == 1].reshape(-1)


def _of_texts(config: Any, batch: Batch, outputs: Batch) -> np.ndarray:
    logits = outputs["logits"]
    if config.num_labels == 1:  # a number: to the second digit
        return np.round(logits[:, 0], 2)
    if config.problem_type == "multi_label_classification":
        return (logits > 0).reshape(-1)
    return logits.argmax(axis=-1)


def _answers(config: Any, batch: Batch, outputs: Batch) -> np.ndarray:
    """First and last token of the best answer as one number."""
    hidden = batch["attention_mask"] == 0
    start, end = (np.where(hidden, -np.inf, outputs[name]) for name in ("start_logits", "end_logits"))
    return start.argmax(axis=-1) * config.max_length_tokens + end.argmax(axis=-1)


def _choices(config: Any, batch: Batch, outputs: Batch) -> np.ndarray:
    return outputs["logits"].argmax(axis=-1)


DECISIONS: dict[str, Callable[[Any, Batch, Batch], np.ndarray]] = {
    "ForMaskedLM": _of_tokens,
    "ForTokenClassification": _of_tokens,
    "ForSequenceClassification": _of_texts,
    "ForQuestionAnswering": _answers,
    "ForMultipleChoice": _choices,
}

__all__ = ["UNITS", "calibration_batches", "halves", "inputs_of", "measure", "sentences_of"]
