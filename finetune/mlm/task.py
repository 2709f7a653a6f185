# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Continued pretraining of a converted checkpoint on masked words, as in section 5 of the paper."""

from dataclasses import dataclass, field
from typing import Any, Literal

from transformers.utils import logging

from hf_longformer import HfLongformerForMaskedLM
from hf_longformer.conversion import InputError

from .. import flow
from ..training import sync_projections
from .documents import (
    MaskedLMTrainer,
    Masker,
    PieceCollator,
    bits,
    cut,
    load_documents,
    tokens_and_characters,
    with_words,
)

logger = logging.get_logger(__name__)


@dataclass
class DataArguments:
    """What is trained on, and how."""

    train_files: list[str] = field(
        default_factory=list, metadata={"help": "Text files, or JSON lines with an entry text."}
    )
    validation_files: list[str] = field(
        default_factory=list, metadata={"help": "The same, never trained on: measured before and after."}
    )
    documents: Literal["file", "paragraph", "line"] = field(
        default="file", metadata={"help": "What a document is in a text file."}
    )
    max_seq_length: int | None = field(
        default=None, metadata={"help": "Tokens at once; the model's limit if left out."}
    )
    cross_documents: bool = field(default=False, metadata={"help": "Let a piece hold parts of several documents."})
    streaming: bool = field(default=False, metadata={"help": "Read while training: for corpora larger than memory."})
    preprocessing_num_workers: int | None = field(default=None, metadata={"help": "Processes that tokenise."})
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of tokens to predict."})
    train: Literal["all", "positions"] = field(
        default="all", metadata={"help": "What is trained: everything, or the position embeddings alone."}
    )
    global_every: int | None = field(
        default=None, metadata={"help": "Every k-th token is global; none is if left out, as in the paper."}
    )
    global_masks: int = field(
        default=0, metadata={"help": "So many masked tokens of every text are global: they look at the whole text."}
    )
    sync_global: bool = field(
        default=True, metadata={"help": "Copy the local projections onto the global ones when the model is saved."}
    )


class MaskedLanguageModel(flow.Task):
    """Texts with holes to what was there."""

    name = "mlm"
    arguments = DataArguments
    model_class = HfLongformerForMaskedLM
    divides = True
    pads_to_lengths = True
    best = "loss"
    measures = ("nats_per_token", "bits_per_token", "perplexity")
    unit = "nats per masked token"
    counted, pieces = "documents", "pieces"
    trainer_class = MaskedLMTrainer
    collator_needs_all = True

    def read(self) -> dict[str, Any]:
        """The documents."""
        data, trains = self.data, self.training.do_train
        if trains and not data.train_files:
            raise InputError("something to train on is needed: give --train_files, got none")
        if not trains and not data.validation_files:
            raise InputError("something to measure on is needed: give --validation_files, got none")
        tables = {"train": load_documents(data.train_files, data.documents, data.streaming)} if trains else {}
        if data.validation_files and self.training.do_eval:
            tables["validation"] = load_documents(data.validation_files, data.documents)
        for split, texts in tables.items():
            tables[split], self.skipped[split] = with_words(texts)
            if self.skipped[split]:
                logger.warning(f"skipped {self.skipped[split]} texts of {split}, since nothing stands in them")
        return tables

    def prepare(self) -> None:
        """What is trained, and a measurement before."""
        if self.training.context_parallel_size > 1 and self.training.label_smoothing_factor:
            raise InputError(
                "--label_smoothing_factor must be 0 where texts are divided among processes "
                f"(--context_parallel_size), got {self.training.label_smoothing_factor}"
            )
        if self.data.train == "positions":
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad = name.endswith("position_embeddings.weight")
        # Not by `evaluate` before `train`: after that, Trainer would train every process's model for itself.
        self.training.eval_on_start = self.training.eval_on_start or "validation" in self.tables

    def windows_of(self, split: str, table: Any) -> Any:
        """Documents as pieces."""
        is_streamed = self.data.streaming and split == "train"
        options = {} if is_streamed else {"num_proc": self.data.preprocessing_num_workers}
        return cut(table, self.tokenizer, self.length, self.data.cross_documents, **options)

    def trainer_options(self) -> dict[str, Any]:
        """Masks, and bits per masked token."""
        return {
            "data_collator": PieceCollator(self.tokenizer, self.data.global_every),
            "compute_metrics": bits,
            "masker": Masker(self.tokenizer, self.data.mlm_probability, self.data.global_masks),
        }

    def measure(self, trainer: Any, results: dict[str, Any]) -> None:
        """Bits before, and after if there was training."""
        if "validation" not in self.tables:
            return
        tokens, characters = tokens_and_characters(self.tables["validation"], self.tokenizer)
        found = {"after": trainer.evaluate()}
        if self.training.do_train:
            log = trainer.state.log_history
            found = {"before": next(entry for entry in log if "eval_bits_per_token" in entry), **found}
        for name, measured in found.items():
            per_character = measured["eval_bits_per_token"] * tokens / characters
            kept = {one: measured[f"eval_{one}"] for one in ("bits_per_token", "perplexity", "masked_tokens")}
            results[name] = {"bits_per_character": per_character, **kept, "characters": characters}

    def more_results(self) -> dict[str, Any]:
        """What was trained."""
        return {"train": self.data.train}

    def before_saving(self, results: dict[str, Any]) -> None:
        """Global projections that were not trained become those that were."""
        if self.data.sync_global and self.data.global_every is None and not self.data.global_masks:
            sync_projections(self.model)
