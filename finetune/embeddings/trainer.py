# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The trainer of sentence encoders: sentence-transformers' own, with what all trainings here share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer

from ..arguments import LongTrainingArguments
from ..samplers import SetEpoch
from ..training import LongTrainer
from .batches import PairBatchSampler
from .positions import NewPositions


@dataclass
class EmbeddingTrainingArguments(LongTrainingArguments):
    """Transformers' `TrainingArguments`, with defaults for queries and long documents."""

    per_device_train_batch_size: int = field(
        default=16,
        metadata={"help": "Documents at once, which every query is told from; of each, a query, or --queries_at_once."},
    )
    train_sampling_strategy: str = field(
        default="random", metadata={"help": "random alone: batches are drawn without regard to lengths."}
    )
    checkpoint_above: int = field(
        default=16384,
        metadata={"help": "Documents of more tokens than this are trained with activation checkpointing."},
    )
    # What sentence-transformers asks of its own class, none of it an argument here.
    prompts, router_mapping, learning_rate_mapping = None, {}, {}  # type: ignore[var-annotated]


class EmbeddingTrainer(LongTrainer, SentenceTransformerTrainer):
    """`SentenceTransformerTrainer` that resumes exactly, stops at a loss that is no number, and leaves models only.

    Args:
        keys: For every pair, the numbers of its texts.
        new_positions: If position rows alone are trained.
        together: Queries of one document that may stand in a batch.
        eval_dataset: Not used: the evaluator has its own texts.
        **kwargs: For `SentenceTransformerTrainer`.
    """

    training_args_class: Any = EmbeddingTrainingArguments

    def __init__(
        self,
        *args: Any,
        keys: Sequence[Sequence[int]] | None = None,
        new_positions: NewPositions | None = None,
        together: int = 1,
        eval_dataset: Any = None,
        **kwargs: Any,
    ) -> None:
        self.keys, self.new_positions, self.together = keys, new_positions, together
        super().__init__(*args, **kwargs)

    def get_batch_sampler(self, dataset: Any, batch_size: int, *args: Any, **kwargs: Any) -> PairBatchSampler:
        """Batches without a text that two pairs have, in an order that a resumed run agrees on."""
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        sampler = PairBatchSampler(self.keys or [], batch_size, seed, self.together)
        self.remove_callback(SetEpoch)
        self.add_callback(SetEpoch(sampler))
        return sampler

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """As `Trainer`'s; rows of positions that are not to change are put back after every step."""
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.new_positions is not None:
            self.new_positions.guard(optimizer)
        return optimizer

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The folder that sentence-transformers loads, without a card, which comes last, and without pickles."""
        folder = output_dir or str(self.args.output_dir)
        self.model.save_pretrained(folder, create_model_card=False)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Not theirs: the card says what `results.json` does."""

    def weights_of(self, folder: Path) -> dict[str, torch.Tensor]:
        """Of a model that was saved."""
        settings = {"dtype": torch.float32, "use_safetensors": True}
        saved = SentenceTransformer(str(folder), device="cpu", model_kwargs=settings, local_files_only=True)
        return saved.state_dict()
