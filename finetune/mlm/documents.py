# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Continued pretraining on masked words: pieces of documents, masks, and a loss on masked tokens only."""

import glob
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, IterableDataset, Value, concatenate_datasets, load_dataset
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from hf_longformer import DataCollatorWithGlobalAttention, global_attention_mask
from hf_longformer.conversion import InputError

from ..data import ROW, Table, check_encoding, read_table, texts_of
from ..json_rows import objects_of
from ..training import LongTrainer

logger = logging.get_logger(__name__)
TEXT = Features({"text": Value("string")})
TEXT_SUFFIXES, JSON_SUFFIXES = (".txt",), (".json", ".jsonl")
STEPS = 1_000_003  # apart are the seeds of two steps; generators take the lowest 32 bits
DOCUMENTS = {"file": "document", "paragraph": "paragraph", "line": "line"}


def load_documents(files: list[str], documents: str, streaming: bool = False) -> Dataset | IterableDataset:
    """Texts of files, one row per document, in a column `text`.

    Args:
        files: Text files, or JSON lines with an entry `text`.
        documents: What a document is in a text file: `"file"`, `"paragraph"` (empty lines between) or `"line"`.
        streaming: Whether to read while training, for corpora larger than memory and disk cache.

    Raises:
        InputError: If a file is missing, empty, not in UTF-8 or without an entry text, or kinds are mixed.
    """
    for file in files:
        if not Path(file).is_file() or not Path(file).stat().st_size:
            raise InputError(f"training texts must be files with something in them, got {file}")
    suffixes = {Path(file).suffix.lower() for file in files}
    if suffixes <= set(TEXT_SUFFIXES):
        kind: dict[str, Any] = {"path": "text", "sample_by": DOCUMENTS[documents]}
    elif suffixes <= set(JSON_SUFFIXES):
        kind = {}
    else:
        raise InputError(f"texts must be all .txt, or all .json or .jsonl, got {', '.join(sorted(suffixes))}")
    for file in files:
        check_encoding(Path(file))
    if "path" in kind:
        # Names of files are patterns to `datasets`.
        loaded = load_dataset(
            **kind, data_files={"train": list(map(glob.escape, files))}, split="train", streaming=streaming
        )
    elif streaming:
        loaded = IterableDataset.from_generator(_texts_of_json, features=TEXT, gen_kwargs={"files": files})
    else:
        loaded = concatenate_datasets([_table_of_json(read_table(file)) for file in files])
    return loaded


def with_words(texts: Dataset | IterableDataset) -> tuple[Dataset | IterableDataset, int]:
    """The texts that have something in them, and how many have not; that is 0 where texts are read while training, and
    said by and by.

    Raises:
        InputError: If none has.
    """
    if isinstance(texts, IterableDataset):
        return texts.filter(_Words()), 0
    kept = texts.filter(lambda row: bool((row["text"] or "").strip()))
    if not len(kept):
        raise InputError(f"texts must have something in them, got {len(texts)} without a word")
    return (kept, len(texts) - len(kept)) if len(kept) < len(texts) else (texts, 0)


class _Words:
    """Whether a text has something in it; counts those that have not, and says so at 1, 10, 100 and so on."""

    def __init__(self) -> None:
        self.empty = 0

    def __call__(self, row: dict[str, Any]) -> bool:
        has = bool((row["text"] or "").strip())
        self.empty += not has
        if not has and str(self.empty).strip("0") == "1":
            logger.warning(f"skipped {self.empty} texts so far, since nothing stands in them")
        return has


def _table_of_json(table: Table) -> Dataset:
    if "text" not in (*table.rows.column_names, *table.mixed):
        present = ", ".join(name for name in (*table.rows.column_names, *table.mixed) if name != ROW)
        raise InputError(f"every line of {table.name} must have an entry text, got {present or 'none'}")
    table.check_columns([], texts=["text"])

    def as_text(row: dict[str, Any]) -> dict[str, str]:
        return {"text": texts_of({"text": [row["text"]], ROW: [row[ROW]]}, "text", table.name)[0]}

    if table.rows.features["text"] == TEXT["text"]:
        return table.rows.select_columns(["text"])
    return table.rows.map(as_text, remove_columns=table.rows.column_names, features=TEXT)


def _texts_of_json(files: list[str]) -> Iterator[dict[str, str]]:
    for file in files:
        for number, row in enumerate(objects_of(Path(file)), 1):
            if "text" not in row:
                raise InputError(f"row {number} of {file} must have an entry text, got {', '.join(row) or 'none'}")
            yield {"text": texts_of({"text": [row["text"]], ROW: [number]}, "text", file)[0]}


def cut(
    texts: Dataset | IterableDataset, tokenizer: PreTrainedTokenizerBase, length: int, across: bool, **options: Any
) -> Dataset | IterableDataset:
    """Documents as pieces of at most `length` tokens, special tokens included.

    Args:
        texts: Rows with a column `text`.
        tokenizer: Of the model.
        length: In tokens.
        across: Whether a piece may hold the end of one document and the beginning of the next, with a separator
            between them; otherwise the last piece of a document is as short as it is.
        **options: For `map` of `datasets`, such as `num_proc`.
    """
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    room = length - 2

    def cut_batch(batch: dict[str, list[str]]) -> dict[str, list]:
        """Texts as pieces of at most `length` tokens."""
        encoded = tokenizer(batch["text"], add_special_tokens=False, verbose=False)["input_ids"]
        if across:
            joined: list[int] = []
            for ids in encoded:
                joined += [*ids, last]
            encoded = [joined[:-1]]
        pieces = [ids[start : start + room] for ids in encoded for start in range(0, len(ids), room)]
        return {
            "input_ids": [[first, *piece, last] for piece in pieces],
            "special_tokens_mask": [[1, *(int(one == last) for one in piece), 1] for piece in pieces],
            "length": [len(piece) + 2 for piece in pieces],
        }

    return texts.map(cut_batch, batched=True, remove_columns=list(texts.column_names or ["text"]), **options)


class PieceCollator:
    """Makes a batch of pieces, and marks global tokens if there are to be any. Nothing is masked yet.

    Args:
        tokenizer: Of the model.
        global_every: Every k-th token is global, beginning with the first; None: none is.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, global_every: int | None = None) -> None:
        pad: Any = DataCollatorWithPadding(tokenizer)
        self.collate = pad
        if global_every is not None:

            def choose(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
                return global_attention_mask(input_ids, attention_mask, every=global_every)

            self.collate = DataCollatorWithGlobalAttention(tokenizer, choose, pad)

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch with `special_tokens_mask` `(batch, S)`, 1 for what is never masked."""
        return self.collate([{name: one[name] for name in ("input_ids", "special_tokens_mask")} for one in features])


class Masker:
    """Masks 15 % of the tokens of a batch as BERT did: 80 % by the mask, 10 % by any token, 10 % not at all.

    Args:
        tokenizer: Of the model.
        probability: Share of tokens to predict.
        global_masks: So many of them, in every text, are global: they look at the whole text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, probability: float = 0.15, global_masks: int = 0) -> None:
        self.masks = DataCollatorForLanguageModeling(tokenizer, mlm_probability=probability)
        self.global_masks = global_masks

    def __call__(self, batch: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
        """The batch with `labels`: -100 but for what is to be predicted, which is at least one token, and with
        `global_attention_mask`, if there are global masks.

        Args:
            batch: As `PieceCollator` makes it.
            seed: With one seed, a piece is masked in one way, whatever is beside it and whichever process has it.
        """
        batch = dict(batch)
        special, real = batch.pop("special_tokens_mask").cpu().bool(), batch["attention_mask"].cpu().bool()
        device, masked = batch["input_ids"].device, batch["input_ids"].cpu().clone()
        labels, is_global = torch.full_like(masked, -100), torch.zeros_like(masked)
        with torch.random.fork_rng(devices=[]):
            for row, here in enumerate(real):
                ids = masked[row, here]
                torch.manual_seed(seed * STEPS + int(ids.sum()))
                part, predicted = self.masks.torch_mask_tokens(ids[None].clone(), special[row, here][None])
                masked[row, here], labels[row, here] = part[0], predicted[0]
                if self.global_masks:
                    chosen = (labels[row] != -100).nonzero()[:, 0]
                    is_global[row, chosen[torch.randperm(len(chosen))[: self.global_masks]]] = 1
        if (labels == -100).all():
            labels[0, 1] = batch["input_ids"][0, 1]
        batch |= {"input_ids": masked.to(device), "labels": labels.to(device)}
        if self.global_masks:
            others = batch.get("global_attention_mask", torch.zeros_like(batch["labels"]))
            batch["global_attention_mask"] = others | is_global.to(device)
        return batch


class MaskedLMTrainer(LongTrainer):
    """A trainer that computes logits of masked tokens only, and evaluates by sums over all of them.

    A vocabulary is a hundred times as wide as a layer: most of the work of a language model's head is not needed.

    Args:
        masker: Masks the batches: in training anew at every step, by the step and by what the piece says, so that
            resumed runs and runs of several processes draw what a whole one would have drawn.
    """

    def __init__(self, *args: Any, masker: Masker, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.masker = masker

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> Any:
        """As `Trainer`'s, which counts the masked tokens of all processes, of batches that are masked here."""
        seed = self.args.seed + 1 + self.state.global_step
        masked = (self.masker(batch, seed) for batch in epoch_iterator)
        return super().get_batch_samples(masked, num_batches, device)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As `Trainer`'s, of masked tokens only."""
        return super().compute_loss(model, {**inputs, "masked_only": True}, *args, **kwargs)

    @torch.no_grad()
    def prediction_step(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> tuple[Any, Any, Any]:
        """Per text: nats of its masked tokens, and how many there are; each text counts once however it is split."""
        inputs = self.masker(self.prepared_inputs(inputs), seed=0)
        labels = inputs["labels"]
        with self.compute_loss_context_manager():
            logits = model(**inputs, masked_only=True).logits
        if self.division is not None:  # logits are those of a slice
            labels = self.division.slice(labels)
        chosen = labels != -100
        nats = torch.nn.functional.cross_entropy(logits.float(), labels[chosen], reduction="none")
        row = chosen.nonzero()[:, 0]
        sums = torch.zeros(len(labels), 2, device=labels.device, dtype=torch.float64)
        sums[:, 0].index_add_(0, row, nats.double())
        sums[:, 1].index_add_(0, row, torch.ones_like(nats, dtype=torch.float64))
        if self.division is not None:
            torch.distributed.all_reduce(sums, group=self.division.group)
        nats_of_all, number = sums.float().sum(dim=0)
        return nats_of_all / number, sums, labels.new_zeros(len(labels))


def bits(prediction: Any) -> dict[str, float]:
    """`compute_metrics` of `MaskedLMTrainer`: nats and bits per masked token, and perplexity."""
    nats, count = (float(one) for one in prediction.predictions.sum(axis=0))
    per_token = nats / count
    return {
        "nats_per_token": per_token,
        "bits_per_token": per_token / math.log(2),
        "perplexity": math.exp(min(per_token, 700.0)),
        "masked_tokens": count,
    }


def tokens_and_characters(texts: Dataset, tokenizer: PreTrainedTokenizerBase, batch: int = 100) -> tuple[int, int]:
    """Tokens, without special ones, and characters of all texts: what makes bits per character of bits per token."""
    tokens = characters = 0
    for rows in _batches(texts, batch):
        tokens += sum(map(len, tokenizer(rows, add_special_tokens=False, verbose=False)["input_ids"]))
        characters += sum(map(len, rows))
    return tokens, characters


def _batches(texts: Dataset, size: int) -> Iterator[list[str]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]["text"]
