# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Predictions for documents of any length: windows, batches by tokens, and one result per document."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding

from hf_longformer import (
    HfLongformerConfig,
    HfLongformerForQuestionAnswering,
    HfLongformerForSequenceClassification,
    HfLongformerPreTrainedModel,
)
from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import read_json
from hf_longformer.conversion.source import refusing
from hf_longformer.transformers_internals import cached_file

from . import qa
from .checkpoints import load_checkpoint
from .classification import POOLING, SINGLE, Labels, pool, probabilities
from .data import ROW, text_of
from .prediction_defaults import DEFAULTS
from .windows import check_length, check_stride, encode

TOKENS_PER_BATCH = 16_384
COUNTS = ("n_best", "max_answer_length", "max_question_length")
SPARE = 4  # spans are looked at for every answer that is wanted: some become the same when they are made whole words
# Thai, Lao, Burmese, Khmer, Japanese and Chinese
WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Predictor:
    """A checkpoint that answers: rows in, one result per row out, whatever their lengths.

    Args:
        model: The fine-tuned model.
        tokenizer: Its tokenizer.
        tokens_per_batch: Tokens at once, padding included; at least one window.
        local_files_only: Whether to stay off the network.
        **options: How inputs are cut; what is left out or None is what the checkpoint was trained with.

    Raises:
        InputError: If an option cannot be used.
    """

    task: str
    model_class: Any
    columns: tuple[str, ...]
    may_be_empty: tuple[str, ...] = ()
    defaults: dict[str, Any]

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        tokens_per_batch: int = TOKENS_PER_BATCH,
        local_files_only: bool = False,
        **options: Any,
    ) -> None:
        if not isinstance(model, self.model_class):
            is_ours = isinstance(model, HfLongformerPreTrainedModel)
            what = "trained for another task" if is_ours else "not converted: run `hf-longformer convert` first"
            raise InputError(f"{self.task} needs a {self.model_class.__name__}, got a {type(model).__name__}, {what}")
        if tokenizer is None:
            raise InputError(f"a tokenizer is needed, got none beside {model.name_or_path}")
        self.model, self.tokenizer, self.tokens_per_batch = model.eval(), tokenizer, tokens_per_batch
        unknown = set(options) - set(self.defaults)
        if unknown:
            raise InputError(f"options must be of {', '.join(self.defaults)}, got {', '.join(sorted(unknown))}")
        given = {name: value for name, value in options.items() if value is not None}
        self.options = {**self.defaults, **self._of_training(local_files_only), **given}
        counts = {"tokens_per_batch": tokens_per_batch} | {name: self.options.get(name, 1) for name in COUNTS}
        for name, value in counts.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
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
        model, tokenizer = load_trained(cls, checkpoint, local_files_only=local_files_only, dtype=dtype)
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return cls(model.to(device or accelerator or "cpu"), tokenizer, local_files_only=local_files_only, **options)

    def _of_training(self, local_files_only: bool) -> dict[str, Any]:
        if not self.model.name_or_path:  # it was made here, and has no files
            return {}
        file = cached_file(
            self.model.name_or_path,
            DEFAULTS,
            local_files_only=local_files_only,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if file is None:
            return {}
        content = read_json(Path(file))
        return {name: value for name, value in content.items() if name in self.defaults}

    def __call__(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One result per row; of a row of which something was left out, with `truncated` and `tokens_cut`.

        Args:
            rows: With the entries that `columns` names: texts, or lists of paragraphs, that are not empty.

        Raises:
            InputError: If an entry is no text, or cannot be cut as it is wanted.
            RuntimeError: If the model gives no numbers.
        """
        rows = [{name: text_of(row[name]) for name in self.columns} for row in rows]
        windows = self.windows(rows)
        outputs: list[Any] = [None] * len(windows)
        with torch.inference_mode():
            for chosen in token_batches([len(one["input_ids"]) for one in windows], self.tokens_per_batch):
                for index, output in zip(chosen, self.forward([windows[index] for index in chosen]), strict=True):
                    outputs[index] = self._checked(output)
        results = self.results(rows, windows, outputs)
        cut = {one["text"]: one["cut"] for one in windows}
        return [
            {**result, "truncated": True, "tokens_cut": cut[number]} if cut[number] else result
            for number, result in enumerate(results)
        ]

    def complaint(self, row: dict[str, Any], names: Mapping[str, str] = MappingProxyType({})) -> str | None:
        """What is wrong with a row; None if nothing is.

        Args:
            row: The row.
            names: What its entries are called elsewhere.
        """
        for name in self.columns:
            called = names.get(name, name)
            if name not in row:
                return f"an entry {called} is needed, got none"
            try:
                text = text_of(row[name])
            except InputError as error:
                return f"{called}: {error}"
            if not text.strip() and name not in self.may_be_empty:
                return f"{called} must not be empty"
        return None

    def _checked(self, output: Any) -> Any:
        if np.isnan(np.asarray(output)).any():
            raise RuntimeError(
                "the model must give numbers, got NaN: its weights, or the dtype, cannot be computed with"
            )
        return output

    def windows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of tokens, each with the index `text` of its row, and `cut`, how many tokens of that were left out."""
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
    may_be_empty = ("text_pair",)  # as in training
    # Nothing is left out of a document unless somebody has asked for it, or the model was trained so.
    defaults = {"max_seq_length": None, "overflow": "stride-mean", "stride": None, "text_pair": False}

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
        n_best = SPARE * self.options["n_best"]
        return qa.spans_of(outputs, batch, self.tokenizer, n_best, self.options["max_answer_length"]).cpu()

    def results(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """The answer of every row with its place in the context, and the next best ones if they are wanted."""
        n_best, threshold = self.options["n_best"], self.options["null_threshold"]
        numbers, contexts = list(range(len(rows))), [row["context"] for row in rows]
        found = qa.answers_of(
            {"offset_mapping": [one["offset_mapping"] for one in windows], "index": [one["text"] for one in windows]},
            torch.stack(outputs).numpy(),
            {"id": numbers, "context": contexts, ROW: numbers},
            SPARE * n_best,
        )
        answers = [replace(found[one], candidates=whole_words(found[one].candidates, contexts[one])) for one in numbers]
        return [answer.describe(threshold, n_best) for answer in answers]


def load_trained(predictor: type[Predictor], checkpoint: str, **options: Any) -> tuple[Any, Any]:
    """A model that was trained for a predictor's task, all of it from its files, and its tokenizer.

    Args:
        predictor: The class.
        checkpoint: A folder or a Hub name.
        **options: For `load_checkpoint`.

    Raises:
        InputError: If it is not converted, is for another task, or cannot be loaded as a whole.
    """
    with refusing(f"the checkpoint {checkpoint} cannot be loaded"):
        try:
            model, tokenizer, _ = load_checkpoint(predictor.model_class, checkpoint, **options)
        except InputError as error:
            config, _ = HfLongformerConfig.get_config_dict(checkpoint, local_files_only=True)
            named = config.get("architectures") or [None]
            if config.get("model_type") == HfLongformerConfig.model_type and named[0] != predictor.model_class.__name__:
                raise InputError(
                    f"{checkpoint} must be trained for {predictor.task}, got a {named[0]}: train it with "
                    f"`hf-longformer finetune {predictor.task}`"
                ) from error
            raise
    return model, tokenizer


def whole_words(candidates: list[dict[str, Any]], context: str) -> list[dict[str, Any]]:
    """Answers that begin and end where words do: those that do not are lengthened, and those that are the same then are
    one, the likeliest.

    Args:
        candidates: The likeliest first, with `start` and `end`, characters of the context.
        context: The document.
    """
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for one in candidates:
        start, end = one["start"], one["end"]
        while 0 < start < len(context) and _is_inside_word(context, start):
            start -= 1
        while 0 < end < len(context) and _is_inside_word(context, end):
            end += 1
        found.setdefault((start, end), {**one, "text": context[start:end], "start": start, "end": end})
    return list(found.values())


def _is_inside_word(text: str, place: int) -> bool:
    return _is_of_word(text[place - 1]) and _is_of_word(text[place])


def _is_of_word(character: str) -> bool:
    """Whether it is a letter, a mark or a digit, of a script that has spaces between words."""
    return unicodedata.category(character)[0] in "LMN" and WITHOUT_SPACES.match(character) is None


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
