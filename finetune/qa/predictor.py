# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers to questions about documents of any length from a trained checkpoint."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import torch

from hf_longformer import HfLongformerForQuestionAnswering

from ..data import ROW
from ..prediction import Predictor, as_rows
from .answers import answers_of
from .spans import SPARE, spans_of
from .windows import WindowCollator, cut_questions


class QuestionAnsweringPredictor(Predictor):
    """The answers to questions: rows with `question` and `context`."""

    task = "qa"
    model_class = HfLongformerForQuestionAnswering
    columns = ("question", "context")
    defaults = {
        "max_seq_length": None,
        "stride": None,
        "max_question_length": 128,
        "max_answer_length": 30,
        "n_best": 1,
        "null_threshold": None,
    }

    def windows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of tokens, each with the index `text` of its row."""
        texts = {name: [row[name] for row in rows] for name in self.columns}
        columns = cut_questions(
            texts["question"],
            texts["context"],
            self.tokenizer,
            length=self.options["max_seq_length"],
            stride=self.options["stride"],
            question_length=self.options["max_question_length"],
        )
        return as_rows({**columns, "starts": [[]] * len(columns["text"]), "ends": [[]] * len(columns["text"])})

    def forward(self, windows: list[dict[str, Any]]) -> Iterable[Any]:
        """The best spans `(1 + n_best, 3)` of every window of a batch."""
        batch = WindowCollator(self.tokenizer)([{**one, "index": one["text"]} for one in windows])
        batch = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
        outputs = self.model(**{name: batch[name] for name in self.tokenizer.model_input_names if name in batch})
        n_best = SPARE * self.options["n_best"]
        return spans_of(outputs, batch, self.tokenizer, n_best, self.options["max_answer_length"]).cpu()

    def results(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """The answer of every row with its place in the context, and the next best ones if they are wanted."""
        n_best, threshold = self.options["n_best"], self.options["null_threshold"]
        numbers, contexts = list(range(len(rows))), [row["context"] for row in rows]
        found = answers_of(
            {"offset_mapping": [one["offset_mapping"] for one in windows], "index": [one["text"] for one in windows]},
            torch.stack(outputs).numpy(),
            {"id": numbers, "context": contexts, ROW: numbers},
            n_best,
        )
        return [found[number].describe(threshold, n_best) for number in numbers]

    def fields(self) -> dict[str, pa.DataType]:
        """The answer and its place; `n_best`, if there are several."""
        place = {"probability": pa.float64(), "start": pa.int64(), "end": pa.int64()}
        several = {"n_best": pa.list_(pa.struct({"text": pa.string(), **place}))} if self.options["n_best"] > 1 else {}
        return {"answer": pa.string(), **place, **several}
