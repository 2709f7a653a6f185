# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Classification or regression of documents: arguments, and what `flow` does with them."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from transformers import DataCollatorWithPadding
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging

from hf_longformer import HfLongformerForSequenceClassification
from hf_longformer.conversion import InputError

from .. import flow
from ..data import ROW, Table, TableArguments, add_splits, find_leaks, read_tables, text_of
from ..losses import MULTI, REGRESSION, SINGLE, Loss, balanced_weights
from ..results import scalars, write_lines
from ..windows import check_stride
from .folds import cross_validate
from .labels import Labels
from .scores import draw_confusion, predictions, scores
from .windows import make_windows, pool

logger = logging.get_logger(__name__)
BEST = {SINGLE: "f1_macro", MULTI: "f1_micro", REGRESSION: "mse"}


@dataclass
class ClassificationArguments(TableArguments):
    """What is classified, and how."""

    text_column: str = field(default="text", metadata={"help": "The column with the document."})
    text_pair_column: str | None = field(default=None, metadata={"help": "A second text, read together with it."})
    label_column: str = field(default="label", metadata={"help": "The column with the label, labels or number."})
    label_delimiter: str | None = field(
        default=None, metadata={"help": "What stands between several labels of one text, as | or a comma."}
    )
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] | None = field(
        default=None, metadata={"help": "If it is not to be guessed from the labels."}
    )
    overflow: Literal["truncate", "stride-mean", "stride-max"] = field(
        default="stride-mean",
        metadata={
            "help": "Documents beyond the limit: cut off, or the mean or maximum of the logits of their windows."
        },
    )
    stride: int | None = field(
        default=None, metadata={"help": "Tokens that neighbouring windows share: a quarter of them, at most 128."}
    )
    class_weights: Literal["none", "balanced"] = field(
        default="none", metadata={"help": "Give rare classes the same weight in all as frequent ones."}
    )
    folds: int | None = field(
        default=None, metadata={"help": "Cross-validate: train as often, test every time on another part of the rows."}
    )

    @property
    def columns(self) -> list[str]:
        """The columns with texts."""
        return [self.text_column] if self.text_pair_column is None else [self.text_column, self.text_pair_column]


class Classification(flow.Task):
    """Documents to labels, several labels or a number."""

    name = "classification"
    arguments = ClassificationArguments
    model_class = HfLongformerForSequenceClassification
    divides = True
    pads_to_lengths = True
    new = ("classifier",)
    labels: Labels

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.unlabelled: dict[str, int] = {}  # rows of every split without a list of labels
        self.gold: dict[str, dict[int, Any]] = {}  # labels of every split by row

    def read(self) -> dict[str, Table]:
        """The tables, with their labels checked before anything is trained."""
        data, trains = self.data, self.training.do_train
        tables = {
            split: self._usable(split, table)
            for split, table in read_tables(data, self.model_arguments.local_files_only, trains).items()
        }
        if trains:
            self.labels = Labels.of(tables["train"], data.label_column, data.problem_type, data.label_delimiter)
        else:
            self.labels = Labels.of_model(self.model.config)
        if self.labels.problem_type != SINGLE and (
            data.class_weights != "none" or self.training.label_smoothing_factor
        ):
            raise InputError(
                "--class_weights and --label_smoothing_factor are for single labels, got "
                f"{self.labels.problem_type}: leave them out, or say --problem_type single_label_classification"
            )
        if self.labels.problem_type != MULTI and data.label_delimiter is not None:
            raise InputError(
                f"--label_delimiter is for several labels of one text, got {data.label_delimiter!r} for "
                f"{self.labels.problem_type}: leave it out, or say --problem_type multi_label_classification"
            )
        for split, table in tables.items():
            self.labels.encode(table, data.label_column, data.label_delimiter)
            missing = [
                row for row, value in zip(table.rows[ROW], table.rows[data.label_column], strict=True) if value is None
            ]
            if missing and self.labels.problem_type == MULTI:
                self.unlabelled[split] = len(missing)
                logger.warning(f"no label applies to {len(missing)} rows where none is given: {table.where(missing)}")
        return tables

    def _usable(self, split: str, table: Table) -> Table:
        table.check_columns([self.data.label_column], texts=self.data.columns)
        usable = table.without(lambda row: not text_of(row[self.data.text_column]).strip(), "no text")
        if not len(usable.rows):
            raise InputError(f"{table.name} must have rows with something in {self.data.text_column}, got none")
        self.skipped[split] = len(table.rows) - len(usable.rows)
        return usable

    @property
    def strata(self) -> str | None:
        """The column whose values every split has as often."""
        return self.data.label_column if self.labels.problem_type == SINGLE else None

    @property
    def best(self) -> str:
        """What the best model is chosen by."""
        return BEST[self.labels.problem_type]

    @property
    def measures(self) -> tuple[str, ...]:
        """What it could be chosen by, beside the loss."""
        of_numbers = self.labels.problem_type == REGRESSION
        return ("mse", "mae", "pearson", "spearman") if of_numbers else ("accuracy", "f1_macro", "f1_micro", "roc_auc")

    @property
    def unit(self) -> str:
        """Of the loss."""
        return "squared error" if self.labels.problem_type == REGRESSION else "nats per text"

    def go(self) -> dict[str, Any]:
        """One training, or one for every fold."""
        if not self.training.do_train:
            return super().go()
        tables = self.read()
        if self.data.folds is not None:
            return cross_validate(self, tables)
        evaluate = self.training.eval_strategy != "no"
        return flow.train_and_measure(self, add_splits(tables, self.data, self.strata, evaluate))

    def config(self) -> dict[str, Any]:
        """The labels."""
        return self.labels.config()

    def windows_of(self, split: str, table: Table) -> Any:
        """Rows of tokens, one or several per text."""
        data = self.data
        stride = check_stride(data.stride, self.length)
        encoded = self.labels.encode(table, data.label_column, data.label_delimiter)
        self.gold[split] = dict(zip(table.rows[ROW], encoded, strict=True))
        windows, cut = make_windows(
            table,
            encoded,
            self.tokenizer,
            data.columns,
            length=self.length,
            stride=None if data.overflow == "truncate" else stride,
            workers=data.preprocessing_num_workers,
        )
        if cut["tokens"]:
            self.cut[split] = cut
        return windows

    def trainer_options(self) -> dict[str, Any]:
        """The loss of the labels, and scores of whole texts."""
        weights, smoothing = None, self.training.label_smoothing_factor
        if self.data.class_weights == "balanced" and "train" in self.gold:
            weights = balanced_weights(list(self.gold["train"].values()), len(self.labels.names))
        loss = Loss(self.labels.problem_type, weights, smoothing)

        def measure(found: Any) -> dict[str, float]:
            _, logits, answers = self._of_texts("validation", found.predictions)
            # `Trainer`'s mean of the losses of batches depends on the sizes of the batches.
            mean = loss(SequenceClassifierOutput(logits=torch.tensor(found.predictions)), torch.tensor(found.label_ids))
            return {**scalars(scores(logits, answers, self.labels)), "loss": float(mean)}

        collator = DataCollatorWithPadding(self.tokenizer)
        return {"data_collator": collator, "compute_metrics": measure, "compute_loss_func": loss}

    def _of_texts(self, split: str, logits: np.ndarray) -> tuple[list[int], np.ndarray, list[Any]]:
        rows, pooled = pool(logits, self.windows[split][ROW], self.data.overflow)
        return rows, pooled, [self.gold[split][row] for row in rows]

    def score(self, split: str, found: Any) -> dict[str, Any]:
        """Scores of whole texts; lines of predictions, and a picture of what was taken for what."""
        texts = self._of_texts(split, found.predictions)
        measured = scores(texts[1], texts[2], self.labels)
        if self.training.process_index == 0:
            write_lines(self.folder / f"{split}-predictions.jsonl", predictions(*texts, self.labels))
            if "confusion" in measured:
                draw_confusion(measured["confusion"], self.labels.names, self.folder / f"{split}-confusion.png")
        return measured

    def more_results(self) -> dict[str, Any]:
        """The labels, what became of long documents, and texts that stand in several splits."""
        return {
            "problem_type": self.labels.problem_type,
            "labels": self.labels.names,
            "overflow": self.data.overflow,
            "unlabelled": self.unlabelled,
            "leaks": find_leaks(self.tables, self.data.columns),
        }

    def defaults(self) -> dict[str, Any]:
        """For `hf-longformer predict classification`."""
        stride = check_stride(self.data.stride, self.length)
        kept = {"overflow": self.data.overflow, "stride": stride, "text_pair": self.data.text_pair_column is not None}
        return {"max_seq_length": self.length, **kept}
