# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""A task as somebody would add it: which of two languages a document is in. `test_tasks.py` puts it beside the rest."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import DataCollatorWithPadding

from hf_longformer import HfLongformerForSequenceClassification
from hf_longformer.finetune import flow
from hf_longformer.finetune.data import ROW, Table, TableArguments, add_splits, read_tables, texts_of
from hf_longformer.finetune.losses import SINGLE, Loss
from hf_longformer.finetune.prediction import Predictor, as_rows, model_inputs
from hf_longformer.finetune.windows import CUT, encode

LANGUAGES = ["en", "de"]


def first_windows(texts: list[str], tokenizer: Any, length: int) -> dict[str, list[Any]]:
    """The beginnings of documents: what training and prediction read."""
    return encode(tokenizer, texts, length=length)


def language(logits: np.ndarray) -> str:
    """What training and prediction say of a document."""
    return LANGUAGES[int(logits.argmax())]


@dataclass
class LanguageArguments(TableArguments):
    """What is told apart."""

    text_column: str = field(default="text", metadata={"help": "The column with the document."})


class Language(flow.Task):
    """Documents to languages."""

    name = "language"
    arguments = LanguageArguments
    model_class = HfLongformerForSequenceClassification
    best = "accuracy"
    measures = ("accuracy",)
    unit = "nats per document"
    new = ("classifier",)

    def read(self) -> dict[str, Table]:
        tables = read_tables(self.data, self.model_arguments.local_files_only, self.training.do_train)
        return add_splits(tables, self.data, evaluate=self.training.eval_strategy != "no")

    def config(self) -> dict[str, Any]:
        return {"id2label": dict(enumerate(LANGUAGES)), "label2id": {name: i for i, name in enumerate(LANGUAGES)}}

    def windows_of(self, split: str, table: Table) -> Any:
        columns = first_windows(texts_of(table.rows[:], self.data.text_column, table.name), self.tokenizer, self.length)
        self.cut[split] = {"tokens": sum(columns.pop(CUT))}
        rows = table.rows.select_columns([ROW]).add_column("labels", list(map(LANGUAGES.index, table.rows["language"])))
        for name in ("input_ids", "attention_mask", "length"):
            rows = rows.add_column(name, columns[name])
        return rows

    def trainer_options(self) -> dict[str, Any]:
        def accuracy(found: Any) -> dict[str, float]:
            return self.scores_and_lines("validation", found)[0]

        collator = DataCollatorWithPadding(self.tokenizer)
        return {"data_collator": collator, "compute_loss_func": Loss(SINGLE), "compute_metrics": accuracy}

    def scores_and_lines(self, split: str, found: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        rows, gold = self.windows[split][ROW], self.windows[split]["labels"]
        lines = [{ROW: row, "language": language(one)} for row, one in zip(rows, found.predictions, strict=True)]
        right = [line["language"] == LANGUAGES[label] for line, label in zip(lines, gold, strict=True)]
        return {"accuracy": float(np.mean(right))}, lines

    def defaults(self) -> dict[str, Any]:
        return {"max_seq_length": self.length}


class LanguagePredictor(Predictor):
    """Languages of documents."""

    task = "language"
    model_class = HfLongformerForSequenceClassification
    columns = ("text",)
    defaults = {"max_seq_length": None, "stride": None}

    def windows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        texts = [row["text"] for row in rows]
        return as_rows(first_windows(texts, self.tokenizer, self.options["max_seq_length"]))

    def forward(self, windows: list[dict[str, Any]]) -> Any:
        return self.model(**model_inputs(self, windows)).logits.cpu().numpy()

    def results(self, rows: Any, windows: Any, outputs: list[Any]) -> list[dict[str, Any]]:
        return [{"language": language(output)} for output in outputs]

    def fields(self) -> Any:
        return {"language": pa.string()}


TASK, PREDICTOR = Language, LanguagePredictor
