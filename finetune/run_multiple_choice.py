# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Choosing the answer to a question among candidates, beside texts of any length: WikiHop in section 6 of the paper.

python finetune/run_multiple_choice.py RECIPE.yaml [--argument value …]
python finetune/run_multiple_choice.py --model_name_or_path CHECKPOINT --train_file hops.jsonl --output_dir RUN
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import set_seed

from hf_longformer import HfLongformerForTokenClassification
from hf_longformer.conversion import InputError
from hf_longformer.finetune.arguments import LongTrainingArguments, ModelArguments, parse_arguments
from hf_longformer.finetune.choice import (
    CANDIDATES,
    CHUNKS,
    QUESTION,
    SUPPORTS,
    ChoiceTrainer,
    ChunkCollator,
    add_markers,
    make_chunks,
    measure,
    read_questions,
)
from hf_longformer.finetune.classification import SINGLE, Loss
from hf_longformer.finetune.data import Table, TableArguments, add_splits, find_leaks, read_tables
from hf_longformer.finetune.tokens import with_prefix_space
from hf_longformer.finetune.training import (
    checkpoint_activations,
    load,
    save_results,
    scalars,
    train,
    write_lines,
)
from hf_longformer.finetune.windows import check_length


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
        metadata={"help": "The column with the right candidate: its text, its index from 0, or its letter from A."},
    )
    max_chunks: int | None = field(
        default=None,
        metadata={
            "help": "Chunks of the supports of a question that are trained on, to save memory; the rest of the "
            "supports is left out in training, and never in evaluation."
        },
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Trains, and returns what `results.json` holds."""
    model_arguments, data, training = parse_arguments(
        (ModelArguments, ChoiceArguments, LongTrainingArguments), arguments
    )
    if data.max_chunks is not None and data.max_chunks < 1:
        raise InputError(f"--max_chunks must be at least 1, got {data.max_chunks}")
    tables = _questions(read_tables(data, model_arguments.local_files_only), data)
    tables = add_splits(tables, data, evaluate=training.eval_strategy != "no")
    set_seed(training.seed)
    # The configuration says the same as the collator does, to those who use the model later.
    model, tokenizer = load(
        HfLongformerForTokenClassification, model_arguments, num_labels=1, global_attention="question"
    )
    tokenizer = with_prefix_space(tokenizer)
    add_markers(model, tokenizer)
    length = check_length(data.max_seq_length, model.config.max_length_tokens)
    checkpoint_activations(training, length)
    training.choose_best_by("accuracy", "validation" in tables)
    training.remove_unused_columns = False  # the collator needs what the model does not take
    questions = {
        split: make_chunks(
            table,
            tokenizer,
            length=length,
            max_chunks=data.max_chunks if split == "train" else None,
            workers=data.preprocessing_num_workers,
        )
        for split, table in tables.items()
    }
    trainer = ChoiceTrainer(
        model,
        training,
        data_collator=ChunkCollator(tokenizer),
        train_dataset=questions["train"],
        eval_dataset=questions.get("validation"),
        processing_class=tokenizer,
        compute_metrics=lambda found: scalars(
            measure(questions["validation"], found.predictions, tables["validation"])[0]
        ),
        compute_loss_func=Loss(SINGLE),
    )
    results: dict[str, Any] = {
        "task": "multiple-choice",
        "tokens_at_once": length,
        "rows": {split: len(table.rows) for split, table in tables.items()},
        "chunks": {split: sum(map(len, rows[CHUNKS])) for split, rows in questions.items()},
        "leaks": find_leaks(tables, [QUESTION, CANDIDATES, SUPPORTS]),
        "training": train(trainer, training),
        "scores": {},
    }
    trainer.compute_metrics, folder = None, Path(str(training.output_dir))
    for split in ("validation", "test"):
        if split in tables:
            found = trainer.predict(questions[split]).predictions
            results["scores"][split], lines = measure(questions[split], found, tables[split])
            if trainer.is_world_process_zero():
                write_lines(folder / f"{split}-predictions.jsonl", lines)
    trainer.save_model()
    save_results(folder, results, trainer, "nats per question")
    return results


def _questions(tables: dict[str, Table], data: ChoiceArguments) -> dict[str, Table]:
    """Rows in one form; supports that no table has are none, unless their column was named."""
    some = any(data.supports_column in table.rows.column_names for table in tables.values())
    supports = data.supports_column if some or data.supports_column != SUPPORTS else None
    columns = (data.question_column, data.candidates_column, supports, data.answer_column)
    return {split: read_questions(table, *columns) for split, table in tables.items()}


if __name__ == "__main__":
    main()
