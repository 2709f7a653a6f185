# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers to questions about paragraphs, with the sentences that they follow from, from a trained checkpoint."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from hf_longformer import HfLongformerForEvidenceQuestionAnswering
from hf_longformer.conversion import InputError

from ..data import text_of
from ..markers import check_markers
from ..prediction import Predictor
from ..question_files import paragraphs_of
from .decoding import LOGITS, decode
from .windows import MARKERS, EvidenceCollator, cut_question


class EvidencePredictor(Predictor):
    """Answers with evidence: rows with `question` and `context`, the paragraphs in HotpotQA's form."""

    task = "hotpotqa"
    model_class = HfLongformerForEvidenceQuestionAnswering
    columns = ("question", "context")
    defaults = {"max_seq_length": None, "stride": None, "max_question_length": 128, "max_answer_length": 30}

    def __init__(self, model: Any, tokenizer: Any, **options: Any) -> None:
        if options.get("stride") is not None:
            raise InputError(f"windows hold whole paragraphs and share none, got a stride of {options['stride']}")
        super().__init__(model, tokenizer, **options)
        check_markers(tokenizer, MARKERS, self.task)

    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        """Question, and titles and sentences of the paragraphs.

        Raises:
            InputError: If an entry is in another form.
        """
        paragraphs = paragraphs_of(row["context"])
        return {
            "question": text_of(row["question"]),
            "titles": [title for title, _ in paragraphs],
            "sentences": [sentences for _, sentences in paragraphs],
        }

    def complaint(self, row: dict[str, Any], names: Mapping[str, str] = MappingProxyType({})) -> str | None:
        """What is wrong with a row; None if nothing is."""
        for name in self.columns:
            if name not in row:
                return f"an entry {names.get(name, name)} is needed, got none"
        try:
            read = self.read(row)
        except InputError as error:
            return str(error)
        if not read["question"].strip():
            return f"{names.get('question', 'question')} must not be empty"
        if not has_text(read):
            return f"{names.get('context', 'context')} must have a sentence, got none"
        return None

    def windows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of tokens, each with the index `text` of its row."""
        length, question_length = (self.options[name] for name in ("max_seq_length", "max_question_length"))
        return [
            {**window, "text": number}
            for number, row in enumerate(rows)
            for window in cut_question(
                row["question"],
                list(zip(row["titles"], row["sentences"], strict=True)),
                self.tokenizer,
                length=length,
                question_length=question_length,
            )
        ]

    def forward(self, windows: list[dict[str, Any]]) -> Iterable[Any]:
        """The logits of every window of a batch."""
        batch = EvidenceCollator(self.tokenizer)(windows)
        outputs = self.model(**{name: tensor.to(self.model.device) for name, tensor in batch.items()})
        logits = (outputs[f"{name}_logits"].float().cpu().numpy() for name in LOGITS)
        return zip(*logits, strict=True)

    def _checked(self, output: Any) -> Any:
        return tuple(map(super()._checked, output))

    def results(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """What `decode` says of every row."""
        of_row: list[list[int]] = [[] for _ in rows]
        for index, window in enumerate(windows):
            of_row[window["text"]].append(index)
        return [
            decode(
                row,
                [windows[index] for index in chosen],
                [outputs[index] for index in chosen],
                self.options["max_answer_length"],
            )
            for row, chosen in zip(rows, of_row, strict=True)
        ]

    def fields(self) -> dict[str, pa.DataType]:
        """The answer, its place, and the sentences that it follows from, each with `title` and `sentence`."""
        sentence = {"title": pa.string(), "sentence": pa.int64()}
        place = {**sentence, "start": pa.int64(), "end": pa.int64(), "probability": pa.float64()}
        return {"answer": pa.string(), "type": pa.string(), **place, "supporting_facts": pa.list_(pa.struct(sentence))}

    def row_of_table(self, result: dict[str, Any]) -> dict[str, Any]:
        """A result whose supporting facts have names: a list in a table holds one kind of values."""
        facts = [{"title": title, "sentence": sentence} for title, sentence in result["supporting_facts"]]
        return {**result, "supporting_facts": facts}


def has_text(row: dict[str, Any]) -> bool:
    """Whether a question has a sentence with something in it."""
    return any(sentence.strip() for sentences in row["sentences"] for sentence in sentences)
