# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""HotpotQA's joint model: arguments, and what `flow` does with them."""

from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset, Features, Sequence, Value
from transformers.utils import logging

from hf_longformer import HfLongformerForEvidenceQuestionAnswering
from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import write_json

from .. import flow
from ..data import ROW, Table, TableArguments, add_splits
from ..markers import add_tokens, check_markers
from ..metrics import HotpotQA as HotpotQAMetric
from ..results import scalars, write_lines
from ..windows import CUT, with_prefix_space
from .data import read_questions, supporting_sentences
from .decoding import decode
from .predictor import has_text
from .windows import MARKERS, EvidenceCollator, cut_question, gold_of

logger = logging.get_logger(__name__)
NUMBER = Value("int64")
NUMBERS = Sequence(NUMBER)
FEATURES = Features(
    {
        **dict.fromkeys(("input_ids", "paragraphs", "paragraph_positions", "sentence_positions"), NUMBERS),
        **dict.fromkeys(("starts", "ends", "sentence_labels", "paragraph_labels"), NUMBERS),
        **dict.fromkeys(("places", "sentences"), Sequence(NUMBERS)),
        **dict.fromkeys(("labels", "length", "index", CUT, "sentences_left_out"), NUMBER),
    }
)


@dataclass
class HotpotQAArguments(TableArguments):
    """What is asked, and how."""

    train_file: str | None = field(
        default=None,
        metadata={"help": "A file of HotpotQA, the same as JSON lines, or Parquet as the Hub has it."},
    )
    max_question_length: int = field(default=128, metadata={"help": "Tokens of a question."})
    max_answer_length: int = field(default=30, metadata={"help": "Tokens of an answer."})


class HotpotQA(flow.Task):
    """Questions with paragraphs to answers and the sentences that they follow from."""

    name = "hotpotqa"
    arguments = HotpotQAArguments
    model_class = HfLongformerForEvidenceQuestionAnswering
    best = "joint_f1"
    measures = tuple(f"{part}{name}" for part in ("", "sp_", "joint_") for name in ("em", "f1", "prec", "recall"))
    smooths = False  # several spans are right at once
    unit = "nats per window"
    new = ("qa_outputs", "type_head", "sentence_head", "paragraph_head")
    counted = "questions"
    collator_needs_all = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.training.label_names = ["labels"]
        self.not_found: dict[str, dict[str, int]] = {}  # of every split

    def go(self) -> dict[str, Any]:
        """One training."""
        for name in ("max_question_length", "max_answer_length"):
            if getattr(self.data, name) < 1:
                raise InputError(f"--{name} must be at least 1, got {getattr(self.data, name)}")
        return super().go()

    def read(self) -> dict[str, Table]:
        """The questions, without those of which nothing can be asked, and how many these were."""
        tables = read_questions(self.data, self.model_arguments.local_files_only, self.training.do_train)
        kept = {
            split: table.without(lambda row: not (row["question"].strip() and has_text(row)), "an empty text")
            for split, table in tables.items()
        }
        self.skipped = {split: len(table.rows) - len(kept[split].rows) for split, table in tables.items()}
        for split, table in kept.items():
            if not len(table.rows):
                raise InputError(f"{table.name} must have questions that can be used for {split}, got none")
        return add_splits(kept, self.data, evaluate=self.training.eval_strategy != "no")

    def config(self) -> dict[str, Any]:
        """Question and markers are global, which the model sees from where the markers stand."""
        return {"global_attention": "auto"}

    def prepare(self) -> None:
        """Words are tokenised as within a text, and there are markers."""
        self.tokenizer = with_prefix_space(self.tokenizer)
        if self.training.do_train:
            add_tokens(self.model, self.tokenizer, MARKERS)
        else:
            check_markers(self.tokenizer, MARKERS, self.name)

    def windows_of(self, split: str, table: Table) -> Dataset:
        """Every question with its paragraphs."""
        tokenizer, length, question_length = self.tokenizer, self.length, self.data.max_question_length

        def cut_batch(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
            """Questions as windows of their paragraphs."""
            columns: dict[str, list[Any]] = {name: [] for name in FEATURES}
            for place, index in enumerate(indices):
                row = {name: values[place] for name, values in batch.items()}
                for window in _windows(row, tokenizer, length, question_length):
                    for name, value in {**window, "index": index}.items():
                        columns[name].append(value)
            return columns

        rows = table.rows
        windows = rows.map(
            cut_batch,
            batched=True,
            batch_size=50,
            with_indices=True,
            remove_columns=rows.column_names,
            features=FEATURES,
            num_proc=self.data.preprocessing_num_workers,
        )
        self._count(split, table, windows)
        return windows.remove_columns([CUT, "sentences_left_out"]).sort("length", reverse=True)

    def _count(self, split: str, table: Table, windows: Dataset) -> None:
        """Counts what was cut, and what of the gold values is nowhere; says the latter."""
        first = dict(zip(windows["index"], zip(windows[CUT], windows["sentences_left_out"], strict=True), strict=True))
        cut = {
            "questions": sum(tokens > 0 for tokens, _ in first.values()),
            "tokens": sum(tokens for tokens, _ in first.values()),
            "supporting_sentences": sum(sentences for _, sentences in first.values()),
        }
        if cut["tokens"]:
            self.cut[split] = {name: number for name, number in cut.items() if number}
        spans = {index: False for index, kind in zip(windows["index"], windows["labels"], strict=True) if kind == 0}
        for index, starts in zip(windows["index"], windows["starts"], strict=True):
            if starts:
                spans[index] = True
        missing = sum(supporting_sentences(row)[1] for row in table.rows)
        counts = {"answers": sum(not found for found in spans.values()), "supporting_facts": missing}
        self.not_found[split] = {name: number for name, number in counts.items() if number}
        for name, number in self.not_found[split].items():
            logger.warning(
                f"{number:,} {name.replace('_', ' ')} of {split} stand nowhere in what is read: the model does not "
                "learn them, and scores count them as missed"
            )

    def trainer_options(self) -> dict[str, Any]:
        """The collator and the scores; the loss is the model's own."""
        return {
            "data_collator": EvidenceCollator(self.tokenizer),
            "compute_metrics": lambda found: scalars(self.scores_and_lines("validation", found)[0]),
        }

    def scores_and_lines(self, split: str, found: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What `metrics.HotpotQA` measures, and of every question what was found and the gold values."""
        windows, rows = self.windows[split], self.tables[split].rows
        of_question: dict[int, list[int]] = {}
        for number, index in enumerate(windows["index"]):
            of_question.setdefault(index, []).append(number)
        lines = []
        for index, row in enumerate(rows):
            own = of_question[index]
            pairs = [(windows[number], tuple(one[number] for one in found.predictions)) for number in own]
            # In the order of the paragraphs, since windows are sorted by their length.
            pairs.sort(key=lambda pair: pair[0]["paragraphs"][0])
            pieces, outputs = [window for window, _ in pairs], [output for _, output in pairs]
            answer = decode(row, pieces, outputs, self.data.max_answer_length)
            facts = [list(pair) for pair in zip(row["fact_titles"], row["fact_sentences"], strict=True)]
            gold = {"answer": row["answer"], "supporting_facts": facts}
            lines.append({ROW: row[ROW], "id": row["id"], **answer, "gold": gold})
        scores = HotpotQAMetric(keep_in_memory=True).compute(
            predictions=[_columns(line) for line in lines], references=[_columns(line["gold"]) for line in lines]
        )
        return scores, lines

    def score(self, split: str, found: Any) -> dict[str, Any]:
        """The scores; writes the lines and what the official scorer reads."""
        measured, lines = self.scores_and_lines(split, found)
        if self.training.process_index == 0:
            write_lines(self.folder / f"{split}-predictions.jsonl", lines)
            write_json(self.folder / f"{split}-predictions.json", official(lines))
        return measured

    def more_results(self) -> dict[str, Any]:
        """What of the gold values stands nowhere."""
        return {"not_found": {split: counts for split, counts in self.not_found.items() if counts}}

    def defaults(self) -> dict[str, Any]:
        """For `hf-longformer predict hotpotqa`."""
        kept = {name: getattr(self.data, name) for name in ("max_question_length", "max_answer_length")}
        return {"max_seq_length": self.length, **kept}


def _windows(row: dict[str, Any], tokenizer: Any, length: int, question_length: int) -> list[dict[str, Any]]:
    """The windows of a question with its gold values, and how many of its supporting sentences are left out."""
    paragraphs = list(zip(row["titles"], row["sentences"], strict=True))
    windows = cut_question(row["question"], paragraphs, tokenizer, length=length, question_length=question_length)
    supporting, _ = supporting_sentences(row)
    kept = {tuple(one) for window in windows for one in window["sentences"]}
    own = {"sentences_left_out": len(supporting - kept)}
    gold = gold_of(windows, row, supporting)
    return [
        {**window, **values, **own, "length": len(window["input_ids"])}
        for window, values in zip(windows, gold, strict=True)
    ]


def _columns(found: dict[str, Any]) -> dict[str, Any]:
    """Answer and supporting facts in columns, as a table can hold them."""
    facts = found["supporting_facts"]
    columns = {"title": [title for title, _ in facts], "sent_id": [sentence for _, sentence in facts]}
    return {"answer": found["answer"], "supporting_facts": columns}


def official(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What the official scorer reads: `answer` and `sp`, each by the `_id` of the question."""
    return {
        "answer": {line["id"]: line["answer"] for line in lines},
        "sp": {line["id"]: line["supporting_facts"] for line in lines},
    }
