# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Predictions for documents of any length: windows, batches by tokens, and one result per document."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, DataCollatorWithPadding
from transformers.utils import cached_file

from hf_longformer import HfLongformerForQuestionAnswering, HfLongformerForSequenceClassification
from hf_longformer.conversion import InputError
from hf_longformer.conversion.errors import first_line

from . import qa
from .classification import POOLING, SINGLE, Labels, pool, probabilities
from .data import ROW
from .prediction_defaults import DEFAULTS
from .windows import check_length, check_stride, encode

TOKENS_PER_BATCH = 16_384


class Predictor:
    """A checkpoint that answers: rows in, one result per row out, whatever their lengths.

    Args:
        model: The fine-tuned model.
        tokenizer: Its tokenizer.
        tokens_per_batch: Tokens at once, padding included; at least one window.
        **options: How inputs are cut; what is left out or None is what the checkpoint was trained with.

    Raises:
        InputError: If an option cannot be used.
    """

    task: str
    model_class: Any
    columns: tuple[str, ...]
    defaults: dict[str, Any]

    def __init__(self, model: Any, tokenizer: Any, *, tokens_per_batch: int = TOKENS_PER_BATCH, **options: Any) -> None:
        self.model, self.tokenizer, self.tokens_per_batch = model.eval(), tokenizer, tokens_per_batch
        unknown = set(options) - set(self.defaults)
        if unknown:
            raise InputError(f"options must be of {', '.join(self.defaults)}, got {', '.join(sorted(unknown))}")
        given = {name: value for name, value in options.items() if value is not None}
        self.options = {**self.defaults, **self._of_training(), **given}
        limit = model.config.max_length_tokens
        self.options["max_seq_length"] = check_length(self.options["max_seq_length"], limit, "the longest input")
        self.options["stride"] = check_stride(self.options["stride"], self.options["max_seq_length"])
        self.collate = DataCollatorWithPadding(tokenizer)

    @classmethod
    def load(
        cls,
        checkpoint: str,
        *,
        device: str | None = None,
        dtype: str = "float32",
        local_files_only: bool = False,
        **options: Any,
    ) -> "Predictor":
        """A predictor from a checkpoint.

        Args:
            checkpoint: A folder or a Hub name.
            device: Where to compute, as torch names it; an accelerator if there is one, if left out.
            dtype: What is computed in, as torch names it; `"auto"`: what the weights are stored as.
            local_files_only: Whether to stay off the network.
            **options: As above.

        Raises:
            InputError: If the checkpoint cannot be loaded or is for another task, or an option cannot be used.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=local_files_only)
            model, report = cls.model_class.from_pretrained(
                checkpoint, local_files_only=local_files_only, dtype=dtype, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            raise InputError(f"the checkpoint {checkpoint} cannot be loaded: {first_line(error)}") from error
        if report["missing_keys"]:
            missing = min(report["missing_keys"])
            raise InputError(f"{checkpoint} must be a checkpoint trained for {cls.task}, got one without {missing}")
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return cls(model.to(device or accelerator or "cpu"), tokenizer, **options)

    def _of_training(self) -> dict[str, Any]:
        file = cached_file(
            self.model.name_or_path,
            DEFAULTS,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if file is None:
            return {}
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        return {name: value for name, value in content.items() if name in self.defaults}

    def __call__(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One result per row.

        Args:
            rows: With the entries that `columns` names, texts that are not empty.
        """
        windows = self.windows(rows)
        outputs: list[Any] = [None] * len(windows)
        with torch.inference_mode():
            for chosen in token_batches([len(one["input_ids"]) for one in windows], self.tokens_per_batch):
                for index, output in zip(chosen, self.forward([windows[index] for index in chosen]), strict=True):
                    outputs[index] = output
        return self.results(rows, windows, outputs)

    def complaint(self, row: dict[str, Any]) -> str | None:
        """What is wrong with a row; None if nothing is."""
        for name in self.columns:
            if not isinstance(row.get(name), str):
                return f"a text {name} is needed, got {', '.join(map(str, row)) if name not in row else row[name]!r}"
            if not row[name].strip():
                return f"{name} must not be empty"
        return None

    def windows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of tokens, each with the index `text` of its row."""
        raise NotImplementedError

    def forward(self, windows: list[dict[str, Any]]) -> Iterable[Any]:
        """What the model says of every window of a batch."""
        raise NotImplementedError

    def results(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """What is said of every row."""
        raise NotImplementedError


class ClassificationPredictor(Predictor):
    """Labels, several labels or a number for every document: rows with `text`, and `text_pair` if it was trained so."""

    task = "classification"
    model_class = HfLongformerForSequenceClassification
    columns: tuple[str, ...] = ("text",)
    defaults = {"max_seq_length": None, "overflow": "truncate", "stride": None, "text_pair": False}

    def __init__(self, model: Any, tokenizer: Any, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        if self.options["overflow"] not in ("truncate", *POOLING):
            raise InputError(f"overflow must be truncate, {' or '.join(POOLING)}, got {self.options['overflow']}")
        if self.options["text_pair"]:
            self.columns = ("text", "text_pair")
        config = self.model.config
        names = [config.id2label[index] for index in range(config.num_labels)]
        self.labels = Labels(config.problem_type or SINGLE, names)

    def windows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of tokens, each with the index `text` of its row."""
        stride = None if self.options["overflow"] == "truncate" else self.options["stride"]
        texts = ([row[name] for row in rows] for name in self.columns)
        columns = encode(self.tokenizer, *texts, length=self.options["max_seq_length"], stride=stride)
        return _as_rows(columns)

    def forward(self, windows: list[dict[str, Any]]) -> Iterable[Any]:
        """Logits `(labels,)` of every window of a batch."""
        batch = _model_inputs(self, windows)
        return self.model(**batch).logits.float().cpu().numpy()

    def results(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """Label and scores, or the number, of every row."""
        _, logits = pool(np.stack(outputs), [one["text"] for one in windows], self.options["overflow"])
        return [self.labels.describe(values) for values in probabilities(logits, self.labels.problem_type)]


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
        columns = qa.cut_questions(
            texts["question"],
            texts["context"],
            self.tokenizer,
            length=self.options["max_seq_length"],
            stride=self.options["stride"],
            question_length=self.options["max_question_length"],
        )
        return _as_rows({**columns, "starts": [[]] * len(columns["text"]), "ends": [[]] * len(columns["text"])})

    def forward(self, windows: list[dict[str, Any]]) -> Iterable[Any]:
        """The best spans `(1 + n_best, 3)` of every window of a batch."""
        batch = qa.WindowCollator(self.tokenizer)([{**one, "index": one["text"]} for one in windows])
        batch = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
        outputs = self.model(**{name: batch[name] for name in self.tokenizer.model_input_names if name in batch})
        return qa.spans_of(outputs, batch, self.tokenizer, self.options["n_best"], self.options["max_answer_length"])

    def results(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """The answer of every row with its place in the context, and the next best ones if they are wanted."""
        n_best, threshold = self.options["n_best"], self.options["null_threshold"]
        numbers = list(range(len(rows)))
        found = qa.answers_of(
            {"offset_mapping": [one["offset_mapping"] for one in windows], "index": [one["text"] for one in windows]},
            torch.stack(outputs).cpu().numpy(),
            {"id": numbers, "context": [row["context"] for row in rows], ROW: numbers},
            n_best,
        )
        return [found[number].describe(threshold, n_best) for number in numbers]


def _model_inputs(predictor: Predictor, windows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    names = predictor.tokenizer.model_input_names
    batch = predictor.collate([{name: one[name] for name in names if name in one} for one in windows])
    return {name: tensor.to(predictor.model.device) for name, tensor in batch.items()}


def _as_rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def token_batches(lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches of about the same length, the longest first, of at most so many tokens or of one text.

    Args:
        lengths: In tokens.
        budget: Tokens of a batch, padding included.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while order:
        size = max(1, budget // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]
