# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Question answering over documents of any length, as in section 6 of the paper.

python finetune/run_qa.py RECIPE.yaml [--argument value …]
python finetune/run_qa.py --model_name_or_path CHECKPOINT --train_file train.json --validation_file dev.json \
    --output_dir RUN
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from transformers import set_seed
from transformers.utils import logging

from hf_longformer import HfLongformerForQuestionAnswering
from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import write_json
from hf_longformer.finetune.arguments import LongTrainingArguments, ModelArguments, parse_arguments
from hf_longformer.finetune.data import Table, TableArguments
from hf_longformer.finetune.prediction import save_defaults
from hf_longformer.finetune.qa import (
    Answer,
    QuestionAnsweringTrainer,
    WindowCollator,
    answers_of,
    choose_null_threshold,
    gold_answers,
    make_windows,
    scores,
)
from hf_longformer.finetune.qa_data import hold_out, read_questions
from hf_longformer.finetune.training import (
    checkpoint_activations,
    load,
    save_results,
    scalars,
    train,
)
from hf_longformer.finetune.windows import check_length, check_stride

logger = logging.get_logger(__name__)


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
        metadata={"help": "any: the probabilities of all right spans are added up, as in the paper; first: one span."},
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


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Trains, and returns what `results.json` holds."""
    model_arguments, data, training = parse_arguments(
        (ModelArguments, QuestionAnsweringArguments, LongTrainingArguments), arguments
    )
    tables, skipped = _usable(_tables(data, training, model_arguments.local_files_only), data)
    set_seed(training.seed)
    model, tokenizer = load(HfLongformerForQuestionAnswering, model_arguments)
    length = check_length(data.max_seq_length, model.config.max_length_tokens)
    data.stride = check_stride(data.stride, length)
    checkpoint_activations(training, length)
    training.choose_best_by("f1", "validation" in tables)
    training.remove_unused_columns = False  # the collator needs what the model does not take
    windows = {split: _windows(split, table, tokenizer, length, data, training) for split, table in tables.items()}
    gold = {split: gold_answers(table) for split, table in tables.items()}
    may_be_silent = data.no_answer
    if may_be_silent is None:
        may_be_silent = any(not answers for answers in gold["train"].values())

    def found(split: str, spans: np.ndarray) -> dict[str, Answer]:
        return answers_of(windows[split], spans, tables[split].rows, data.n_best)

    def measure(prediction: Any) -> dict[str, float]:
        answers = found("validation", prediction.predictions)
        threshold = choose_null_threshold(answers, gold["validation"]) if may_be_silent else None
        return scalars(scores(answers, gold["validation"], threshold, data.normalisation))

    trainer = QuestionAnsweringTrainer(
        model,
        training,
        data_collator=WindowCollator(tokenizer),
        train_dataset=windows["train"],
        eval_dataset=windows.get("validation"),
        processing_class=tokenizer,
        compute_metrics=measure,
        n_best=data.n_best,
        answer_length=data.max_answer_length,
    )
    results: dict[str, Any] = {
        "task": "qa",
        "tokens_at_once": length,
        "documents_beyond": data.documents_beyond,
        "questions": {split: len(names) for split, names in gold.items()},
        "windows": {split: len(rows) for split, rows in windows.items()},
        "skipped": skipped,
        "training": train(trainer, training),
        "scores": {},
    }
    trainer.compute_metrics, folder, threshold = None, Path(str(training.output_dir)), None
    for split in ("validation", "test"):
        if split in tables:
            answers = found(split, trainer.predict(windows[split]).predictions)
            if may_be_silent and split == "validation":
                threshold = choose_null_threshold(answers, gold[split])
            results["scores"][split] = scores(answers, gold[split], threshold, data.normalisation)
            if trainer.is_world_process_zero():
                _write(folder, split, answers, threshold)
    results["null_threshold"] = threshold
    trainer.save_model()
    if trainer.is_world_process_zero():
        kept = {name: getattr(data, name) for name in ("stride", "max_question_length", "max_answer_length")}
        save_defaults(folder, "qa", {"max_seq_length": length, "null_threshold": threshold, **kept})
    save_results(folder, results, trainer, "nats per window")
    return results


def _tables(
    data: QuestionAnsweringArguments, training: LongTrainingArguments, local_files_only: bool
) -> dict[str, Table]:
    tables = read_questions(data, data.evidence_folder, local_files_only)
    for split, share in (("test", data.test_share), ("validation", data.validation_share)):
        wanted = split == "test" or training.eval_strategy != "no"
        if split not in tables and share > 0 and wanted:
            tables["train"], tables[split] = hold_out(tables["train"], share, data.split_seed)
    if data.max_train_samples is not None:
        rows = tables["train"].rows.shuffle(seed=data.split_seed)
        tables["train"] = Table(rows.select(range(min(data.max_train_samples, len(rows)))), tables["train"].name)
    return tables


def _usable(tables: dict[str, Table], data: QuestionAnsweringArguments) -> tuple[dict[str, Table], dict[str, int]]:
    """The tables without what cannot be asked or learned from, and how many rows that were."""
    kept = {
        split: table.without(lambda row: not (row["question"].strip() and row["context"].strip()), "an empty text")
        for split, table in tables.items()
    }
    kept["train"] = kept["train"].without(
        lambda row: bool(row["answers"]) and not row["spans"], "an answer that does not stand in its document"
    )
    skipped = {split: len(table.rows) - len(kept[split].rows) for split, table in tables.items()}
    for split, table in kept.items():
        if not len(table.rows):
            raise InputError(f"{table.name} must have questions that can be used for {split}, got none")
    return kept, {split: number for split, number in skipped.items() if number}


def _windows(
    split: str,
    table: Table,
    tokenizer: Any,
    length: int,
    data: QuestionAnsweringArguments,
    training: LongTrainingArguments,
) -> Dataset:
    windows = make_windows(
        table.rows,
        tokenizer,
        length=length,
        stride=data.stride,
        question_length=data.max_question_length,
        answer_loss=data.answer_loss,
        workers=data.preprocessing_num_workers,
    )
    keep = np.ones(len(windows), dtype=bool)
    if data.documents_beyond == "truncate":
        indices = np.asarray(windows["index"])
        keep[1:] = indices[1:] != indices[:-1]
    if split == "train" and data.windows_without_answer < 1.0:
        empty = np.asarray([not starts for starts in windows["starts"]])
        drawn = np.random.default_rng(data.split_seed).random(len(windows)) < data.windows_without_answer
        keep &= ~empty | drawn
    windows = windows if keep.all() else windows.select(np.flatnonzero(keep))
    return windows.sort("length", reverse=True)


def _write(folder: Path, split: str, answers: dict[str, Answer], threshold: float | None) -> None:
    """The official scorer's input, the n best answers, and how much likelier than an answer its absence is."""
    write_json(folder / f"{split}-predictions.json", {name: one.text(threshold) for name, one in answers.items()})
    write_json(folder / f"{split}-nbest.json", {name: one.candidates for name, one in answers.items()})
    write_json(folder / f"{split}-null-odds.json", {name: one.null_score for name, one in answers.items()})


if __name__ == "__main__":
    main()
