# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Summaries of documents of any length: of their beginnings, or of the summaries of their windows."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from hf_longformer import HfLongformerForConditionalGeneration
from hf_longformer.conversion import InputError

from ..prediction import Predictor, model_inputs
from .data import cut_documents
from .generation import OPTIONS, generation_of, whole, write

TRUNCATE, HIERARCHICAL = "truncate", "hierarchical"


class SummarizationPredictor(Predictor):
    """Summaries of documents.

    A result has `summary`, and `at_limit` if that is as long as it could be, so that its end may be missing. With
    `overflow="hierarchical"` it has `levels`, how often it was summarised, and `windows`, how many were in all.
    """

    task = "summarization"
    model_class = HfLongformerForConditionalGeneration
    columns = ("text",)
    defaults = {
        **{"max_seq_length": None, "stride": 0, "overflow": TRUNCATE, "prefix": ""},
        **dict.fromkeys(OPTIONS),
    }

    def __init__(self, model: Any, tokenizer: Any, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        overflow = self.options["overflow"]
        if overflow not in (TRUNCATE, HIERARCHICAL):
            raise InputError(f"overflow must be {TRUNCATE} or {HIERARCHICAL}, got {overflow}")
        self.generation = generation_of(model, self.options)
        self.options |= {name: getattr(self.generation, name) for name in OPTIONS}
        if overflow == HIERARCHICAL and 2 * self.generation.max_new_tokens > (apart := self._apart()):
            raise InputError(
                f"max_new_tokens must be at most half of the {apart} tokens from one window to the next, for summaries "
                f"of summaries to become shorter, got {self.generation.max_new_tokens}"
            )

    def _apart(self) -> int:
        """Tokens of a document from one window to the next."""
        prefix = self.tokenizer(self.options["prefix"], add_special_tokens=False)["input_ids"]
        special = self.tokenizer.num_special_tokens_to_add()
        return max(0, self.options["max_seq_length"] - special - len(prefix) - self.options["stride"])

    def windows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Every document as its beginning, or in windows."""
        return self._cut([row["text"] for row in rows])

    def _cut(self, texts: list[str]) -> list[dict[str, Any]]:
        stride = self.options["stride"] if self.options["overflow"] == HIERARCHICAL else None
        given = {"length": self.options["max_seq_length"], "prefix": self.options["prefix"], "stride": stride}
        return cut_documents(self.tokenizer, texts, **given)

    def forward(self, windows: list[dict[str, Any]]) -> Iterable[Any]:
        """The tokens of a summary of every window; NaN alone where the model gave no numbers."""
        ids, is_bad = write(self.model, model_inputs(self, windows), self.generation)
        rows = zip(ids.cpu().numpy(), is_bad.tolist(), strict=True)
        return [np.asarray([np.nan]) if bad else whole(row, self.generation) for row, bad in rows]

    def results(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """A summary of every row: that of its only window, or of the summaries of its windows, until these fit."""
        found: list[dict[str, Any]] = [{} for _ in rows]
        numbers, level, counts = list(range(len(rows))), 1, Counter[int]()
        while numbers:
            of_row: dict[int, list[Any]] = {number: [] for number in numbers}
            for window, ids in zip(windows, outputs, strict=True):
                of_row[numbers[window["text"]]].append(ids)
            counts.update({number: len(parts) for number, parts in of_row.items()})
            for number in [one for one, parts in of_row.items() if len(parts) == 1]:
                found[number] = self._result(of_row.pop(number)[0], level, counts[number])
            texts = [" ".join(map(self._text, parts)) for parts in of_row.values()]
            before, numbers, level = {n: len(parts) for n, parts in of_row.items()}, list(of_row), level + 1
            windows = self._cut(texts) if texts else []
            now = Counter(numbers[window["text"]] for window in windows)
            if longer := [number for number in numbers if now[number] >= before[number]]:
                raise InputError(
                    f"summaries of {before[longer[0]]} windows must fit into fewer, got {now[longer[0]]}: lower "
                    "max_new_tokens, or stride"
                )
            outputs = self.outputs(windows)
        return found

    def fields(self) -> dict[str, pa.DataType]:
        """The summary and whether it may lack its end; of summaries of summaries, `levels` and `windows`."""
        more = dict.fromkeys(("levels", "windows"), pa.int64()) if self.options["overflow"] == HIERARCHICAL else {}
        return {"summary": pa.string(), "at_limit": pa.bool_(), **more}

    def row_of_table(self, result: dict[str, Any]) -> dict[str, Any]:
        """A result that says in every case whether its end may be missing."""
        return {"at_limit": False, **result}

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def _result(self, ids: list[int], level: int, windows: int) -> dict[str, Any]:
        found: dict[str, Any] = {"summary": self._text(ids)}
        if len(ids) >= self.generation.max_new_tokens:
            found["at_limit"] = True
        return found | ({"levels": level, "windows": windows} if self.options["overflow"] == HIERARCHICAL else {})
