# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`transformers.pipeline` for documents of any length: importing this file registers two tasks.

`pipeline("long-question-answering", model=FOLDER)` and `pipeline("long-text-classification", model=FOLDER)`.
"""

from typing import Any

from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .prediction import ClassificationPredictor, Predictor, QuestionAnsweringPredictor


class LongDocumentPipeline(Pipeline):
    """A `Predictor` behind the interface of pipelines: one row, or a list or a generator of rows, in.

    A row is a text, or a dictionary with the entries that the task needs. Options of the predictor, such as `stride`,
    are given to `pipeline(…)`.
    """

    predictor_class: type[Predictor]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.predictor = self.predictor_class(self.model, self.tokenizer, **self._preprocess_params)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return options, {}, {}

    def preprocess(self, row: Any, **options: Any) -> dict[str, Any]:
        """A row as the predictor takes it.

        Raises:
            ValueError: If an entry is missing or empty.
        """
        given = row if isinstance(row, dict) else {self.predictor.columns[0]: row}
        complaint = self.predictor.complaint(given)
        if complaint is not None:
            raise ValueError(f"a row cannot be read: {complaint}")
        return {"row": given}

    def _forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"result": self.predictor([inputs["row"]])[0]}

    def postprocess(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """What the predictor says."""
        return outputs["result"]


class LongQuestionAnsweringPipeline(LongDocumentPipeline):
    """Rows with `question` and `context`."""

    predictor_class = QuestionAnsweringPredictor


class LongTextClassificationPipeline(LongDocumentPipeline):
    """Texts, or rows with `text`."""

    predictor_class = ClassificationPredictor


PIPELINE_REGISTRY.register_pipeline(
    "long-question-answering",
    pipeline_class=LongQuestionAnsweringPipeline,
    pt_model=AutoModelForQuestionAnswering,
    type="text",
)
PIPELINE_REGISTRY.register_pipeline(
    "long-text-classification",
    pipeline_class=LongTextClassificationPipeline,
    pt_model=AutoModelForSequenceClassification,
    type="text",
)
