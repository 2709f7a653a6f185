# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Question answering over documents: arguments, and what `flow` does with them."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from datasets import Dataset

from hf_longformer import HfLongformerForQuestionAnswering
from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import write_json

from .. import flow
from ..data import Table, TableArguments
from ..results import scalars
from ..windows import CUT, check_stride
from .answers import Answer, answers_of, choose_null_threshold, scores
from .data import gold_answers, hold_out, read_questions
from .spans import QuestionAnsweringTrainer
from .windows import WindowCollator, make_windows


@dataclass
class QuestionAnsweringArguments(TableArguments):
    """What is asked, and how."""

    evidence_folder: str | None = field(default=None, metadata={"help": "The documents of files in TriviaQA's format."})
    stride: int | None = field(
        default=None,
        metadata={"help": "Tokens of a document that neighbouring windows share: a quarter of them, at most 128."},
    )
    max_question_length: int = field(default=128, metadata={"help": "Tokens of a question."})
    max_answer_length: int = field(default=30, metadata={"help": "Tokens of an answer."})
    n_best: int = field(default=20, metadata={"help": "Answers that are kept of a question."})
    answer_loss: Literal["any", "first"] = field(
        default="any",
        metadata={"help": "any: the probabilities of all gold spans are added up, as in the paper; first: one span."},
    )
    no_answer: bool | None = field(
        default=None,
        metadata={"help": "May a question be left unanswered? By default if training has such."},
    )
    windows_without_answer: float = field(
        default=1.0, metadata={"help": "Share of the training windows without an answer that is kept."}
    )
    documents_beyond: Literal["stride", "truncate"] = field(
        default="stride", metadata={"help": "Documents beyond the limit: read in windows, or cut off."}
    )
    normalisation: Literal["squad", "triviaqa"] = field(default="squad", metadata={"help": "Of texts, for the scores."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Questions to train on, drawn at random."})


class QuestionAnswering(flow.Task):
    """Questions to spans of documents."""

    name = "qa"
    arguments = QuestionAnsweringArguments
    model_class = HfLongformerForQuestionAnswering
    divides = True
    pads_to_lengths = True
    best = "f1"
    measures = tuple(
        f"{prefix}{name}" for prefix in ("", "has_answer_", "no_answer_") for name in ("exact_match", "f1")
    )
    smooths = False  # several spans are right at once
    unit = "nats per window"
    new = ("qa_outputs",)
    counted = "questions"
    trainer_class = QuestionAnsweringTrainer
    collator_needs_all = True
    null_threshold: float | None = None
    chosen = ("null_threshold",)

    def read(self) -> dict[str, Table]:
        """The tables, without what cannot be asked or learned from, and how many rows that were."""
        tables = self._tables()
        kept = {
            split: table.without(lambda row: not (row["question"].strip() and row["context"].strip()), "an empty text")
            for split, table in tables.items()
        }
        if "train" in kept:
            kept["train"] = kept["train"].without(
                lambda row: bool(row["answers"]) and not row["spans"], "an answer that does not stand in its document"
            )
        self.skipped = {split: len(table.rows) - len(kept[split].rows) for split, table in tables.items()}
        for split, table in kept.items():
            if not len(table.rows):
                raise InputError(f"{table.name} must have questions that can be used for {split}, got none")
        self.gold = {split: gold_answers(table) for split, table in kept.items()}
        return kept

    def _tables(self) -> dict[str, Table]:
        data, trains = self.data, self.training.do_train
        tables = read_questions(data, data.evidence_folder, self.model_arguments.local_files_only, trains)
        if not trains:
            return tables
        for split, share in (("test", data.test_share), ("validation", data.validation_share)):
            wanted = split == "test" or self.training.eval_strategy != "no"
            if split not in tables and share > 0 and wanted:
                tables["train"], tables[split] = hold_out(tables["train"], share, data.split_seed)
        if data.max_train_samples is not None:
            rows = tables["train"].rows.shuffle(seed=data.split_seed)
            tables["train"] = Table(rows.select(range(min(data.max_train_samples, len(rows)))), tables["train"].name)
        return tables

    @property
    def may_be_silent(self) -> bool:
        """Whether a question may be left unanswered: as asked for, or as the questions show."""
        if self.data.no_answer is not None:
            return bool(self.data.no_answer)
        shown = self.gold["train"] if "train" in self.gold else next(iter(self.gold.values()))
        return any(not answers for answers in shown.values())

    def windows_of(self, split: str, table: Table) -> Dataset:
        """Every document in windows, each behind its question."""
        data = self.data
        windows = make_windows(
            table.rows,
            self.tokenizer,
            length=self.length,
            stride=check_stride(data.stride, self.length),
            question_length=data.max_question_length,
            answer_loss=data.answer_loss,
            workers=data.preprocessing_num_workers,
        )
        keep = np.ones(len(windows), dtype=bool)
        counts: dict[str, int] = {}
        if data.documents_beyond == "truncate":
            indices = np.asarray(windows["index"])
            keep[1:] = indices[1:] != indices[:-1]
            counts |= {"documents": len(set(indices[~keep].tolist())), "windows": int((~keep).sum())}
        shortened = np.asarray(windows[CUT]) > 0
        counts["questions"] = len(set(np.asarray(windows["index"])[shortened].tolist()))
        windows = windows.remove_columns(CUT)
        if split == "train" and data.windows_without_answer < 1.0:
            empty = np.asarray([not starts for starts in windows["starts"]])
            drawn = np.random.default_rng(data.split_seed).random(len(windows)) < data.windows_without_answer
            counts["windows_without_an_answer"] = int((keep & empty & ~drawn).sum())
            keep &= ~empty | drawn
        if any(counts.values()):
            self.cut[split] = {name: number for name, number in counts.items() if number}
        windows = windows if keep.all() else windows.select(np.flatnonzero(keep))
        return windows.sort("length", reverse=True)

    def trainer_options(self) -> dict[str, Any]:
        """Spans, and F1 of whole documents."""
        return {
            "data_collator": WindowCollator(self.tokenizer),
            "compute_metrics": self._measure,
            "n_best": self.data.n_best,
            "answer_length": self.data.max_answer_length,
        }

    def _found(self, split: str, spans: np.ndarray) -> dict[str, Answer]:
        return answers_of(self.windows[split], spans, self.tables[split].rows, self.data.n_best)

    def _measure(self, prediction: Any) -> dict[str, float]:
        answers, gold = self._found("validation", prediction.predictions), self.gold["validation"]
        threshold = choose_null_threshold(answers, gold) if self.may_be_silent else None
        return scalars(scores(answers, gold, threshold, self.data.normalisation))

    def score(self, split: str, found: Any) -> dict[str, Any]:
        """The official scores; the official scorer's input, the n best answers, and how much likelier no answer is."""
        answers = self._found(split, found.predictions)
        if self.may_be_silent and split == "validation":
            self.null_threshold = choose_null_threshold(answers, self.gold[split])
        if self.training.process_index == 0:
            contents = {
                "predictions": {name: one.text(self.null_threshold) for name, one in answers.items()},
                "nbest": {name: one.candidates for name, one in answers.items()},
                "null-odds": {name: one.null_score for name, one in answers.items()},
            }
            for name, content in contents.items():
                write_json(self.folder / f"{split}-{name}.json", content)
        return scores(answers, self.gold[split], self.null_threshold, self.data.normalisation)

    def measure(self, trainer: Any, results: dict[str, Any]) -> None:
        """Adds the threshold too."""
        super().measure(trainer, results)
        results["questions"] = {split: len(names) for split, names in self.gold.items()}
        results["null_threshold"] = self.null_threshold

    def more_results(self) -> dict[str, Any]:
        """What became of long documents."""
        return {"documents_beyond": self.data.documents_beyond}

    def defaults(self) -> dict[str, Any]:
        """For `hf-longformer predict qa`."""
        kept = {name: getattr(self.data, name) for name in ("max_question_length", "max_answer_length")}
        stride = check_stride(self.data.stride, self.length)
        return {"max_seq_length": self.length, "null_threshold": self.null_threshold, "stride": stride, **kept}
