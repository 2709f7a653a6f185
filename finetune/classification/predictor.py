# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Labels of documents of any length from a trained checkpoint."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from hf_longformer import HfLongformerForSequenceClassification
from hf_longformer.conversion import InputError

from ..losses import MULTI, REGRESSION
from ..prediction import Predictor, as_rows, model_inputs
from ..windows import encode
from .labels import Labels
from .windows import POOLING, pool, probabilities


class ClassificationPredictor(Predictor):
    """Labels, several labels or a number for every document: rows with `text`, and `text_pair` if it was trained so."""

    task = "classification"
    model_class = HfLongformerForSequenceClassification
    columns: tuple[str, ...] = ("text",)
    may_be_empty = ("text_pair",)  # as in training
    # Nothing is left out of a document unless somebody has asked for it, or the model was trained so.
    defaults = {"max_seq_length": None, "overflow": "stride-mean", "stride": None, "text_pair": False}

    def __init__(self, model: Any, tokenizer: Any, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        if self.options["overflow"] not in ("truncate", *POOLING):
            raise InputError(f"overflow must be truncate, {' or '.join(POOLING)}, got {self.options['overflow']}")
        if self.options["text_pair"]:
            self.columns = ("text", "text_pair")
        self.labels = Labels.of_model(self.model.config)

    def windows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of tokens, each with the index `text` of its row."""
        stride = None if self.options["overflow"] == "truncate" else self.options["stride"]
        texts = ([row[name] for row in rows] for name in self.columns)
        columns = encode(self.tokenizer, *texts, length=self.options["max_seq_length"], stride=stride)
        return as_rows(columns)

    def forward(self, windows: list[dict[str, Any]]) -> Iterable[Any]:
        """Logits `(labels,)` of every window of a batch."""
        batch = model_inputs(self, windows)
        return self.model(**batch).logits.float().cpu().numpy()

    def results(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """Label and scores, or the number, of every row."""
        _, logits = pool(np.stack(outputs), [one["text"] for one in windows], self.options["overflow"])
        return [self.labels.describe(values) for values in probabilities(logits, self.labels.problem_type)]

    def fields(self) -> dict[str, pa.DataType]:
        """As `Labels.describe` has it: the number, or the label or labels with the score of every label."""
        if self.labels.problem_type == REGRESSION:
            return {"value": pa.float64()}
        chosen = {"labels": pa.list_(pa.string())} if self.labels.problem_type == MULTI else {"label": pa.string()}
        return {**chosen, "scores": pa.struct(dict.fromkeys(self.labels.names, pa.float64()))}
