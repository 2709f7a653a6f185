# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Choosing the answer to a question among candidates, beside texts of any length: WikiHop in section 6 of the paper."""

from dataclasses import dataclass, field
from typing import Any

from hf_longformer import HfLongformerForTokenClassification
from hf_longformer.conversion import InputError

from .. import flow
from ..data import Table, TableArguments, add_splits, find_leaks, read_tables
from ..losses import SINGLE, Loss
from ..results import scalars
from ..windows import with_prefix_space
from .chunks import (
    CANDIDATES,
    CHUNKS,
    CHUNKS_LEFT_OUT,
    QUESTION,
    SUPPORTS,
    ChoiceTrainer,
    ChunkCollator,
    add_markers,
    make_chunks,
    measure,
    read_questions,
)


@dataclass
class ChoiceArguments(TableArguments):
    """What is chosen, and how."""

    question_column: str = field(default="question", metadata={"help": "The column with the question."})
    candidates_column: str = field(default="candidates", metadata={"help": "The column with lists of candidates."})
    supports_column: str = field(
        default="supports",
        metadata={"help": "The column with texts, or lists of texts, to find the answer in; there may be none."},
    )
    answer_column: str = field(
        default="answer",
        metadata={"help": "The column with the gold candidate: its text, its index from 0, or its letter from A."},
    )
    max_chunks: int | None = field(
        default=None,
        metadata={
            "help": "Chunks of the supports of a question that are trained on, to save memory; the rest of the "
            "supports is left out in training, and never in evaluation."
        },
    )


class MultipleChoice(flow.Task):
    """Questions to one of their candidates."""

    name = "multiple-choice"
    arguments = ChoiceArguments
    model_class = HfLongformerForTokenClassification
    divides = True
    best = "accuracy"
    measures = ("accuracy",)
    smooths = False  # questions have different numbers of candidates
    unit = "nats per question"
    new = ("classifier",)
    trainer_class = ChoiceTrainer
    collator_needs_all = True

    def go(self) -> dict[str, Any]:
        """One training."""
        if self.data.max_chunks is not None and self.data.max_chunks < 1:
            raise InputError(f"--max_chunks must be at least 1, got {self.data.max_chunks}")
        return super().go()

    def read(self) -> dict[str, Table]:
        """Rows in one form; supports that no table has are none, unless their column was named."""
        data = self.data
        tables = read_tables(data, self.model_arguments.local_files_only, self.training.do_train)
        some = any(data.supports_column in (*table.rows.column_names, *table.mixed) for table in tables.values())
        supports = data.supports_column if some or data.supports_column != SUPPORTS else None
        columns = (data.question_column, data.candidates_column, supports, data.answer_column)
        questions = {split: read_questions(table, *columns) for split, table in tables.items()}
        return add_splits(questions, data, evaluate=self.training.eval_strategy != "no")

    def config(self) -> dict[str, Any]:
        """The configuration says the same as the collator does, to those who use the model later."""
        return {"num_labels": 1, "global_attention": "question"}

    def prepare(self) -> None:
        """Words are tokenised as within a text, and there are markers."""
        self.tokenizer = with_prefix_space(self.tokenizer)
        add_markers(self.model, self.tokenizer)

    def windows_of(self, split: str, table: Table) -> Any:
        """Every question with its chunks."""
        data = self.data
        most = data.max_chunks if split == "train" else None
        questions = make_chunks(
            table, self.tokenizer, length=self.length, max_chunks=most, workers=data.preprocessing_num_workers
        )
        left_out = sum(questions[CHUNKS_LEFT_OUT])
        if left_out:
            self.cut[split] = {
                "questions": sum(number > 0 for number in questions[CHUNKS_LEFT_OUT]),
                "chunks": left_out,
            }
        return questions.remove_columns(CHUNKS_LEFT_OUT)

    def trainer_options(self) -> dict[str, Any]:
        """The loss of all candidates of a question together."""
        return {
            "data_collator": ChunkCollator(self.tokenizer),
            "compute_metrics": lambda found: scalars(self.scores_and_lines("validation", found)[0]),
            "compute_loss_func": Loss(SINGLE),
        }

    def scores_and_lines(self, split: str, found: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Accuracy, and what was chosen."""
        return measure(self.windows[split], found.predictions, self.tables[split])

    def more_results(self) -> dict[str, Any]:
        """How much is read, and questions that stand in several splits."""
        return {
            "chunks": {split: sum(map(len, rows[CHUNKS])) for split, rows in self.windows.items()},
            "leaks": find_leaks(self.tables, [QUESTION, CANDIDATES, SUPPORTS]),
        }
