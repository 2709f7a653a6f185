# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Classification or regression of documents of any length, as in section 6 of the paper.

python finetune/run_classification.py RECIPE.yaml [--argument value …]
python finetune/run_classification.py --model_name_or_path CHECKPOINT --train_file reviews.csv --output_dir RUN
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import DataCollatorWithPadding, set_seed
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_longformer import HfLongformerForSequenceClassification
from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import write_json
from hf_longformer.finetune.arguments import LongTrainingArguments, ModelArguments, parse_arguments
from hf_longformer.finetune.classification import (
    MULTI,
    REGRESSION,
    SINGLE,
    Labels,
    Loss,
    balanced_weights,
    draw_confusion,
    make_windows,
    pool,
    predictions,
    scores,
)
from hf_longformer.finetune.data import ROW, Table, TableArguments, add_splits, deal, find_leaks, read_tables, text_of
from hf_longformer.finetune.prediction import save_defaults
from hf_longformer.finetune.training import (
    LongTrainer,
    checkpoint_activations,
    facts,
    load,
    save_results,
    scalars,
    train,
    write_lines,
)
from hf_longformer.finetune.windows import check_length, check_stride

BEST = {SINGLE: "f1_macro", MULTI: "f1_micro", REGRESSION: "mse"}


@dataclass
class ClassificationArguments(TableArguments):
    """What is classified, and how."""

    text_column: str = field(default="text", metadata={"help": "The column with the document."})
    text_pair_column: str | None = field(default=None, metadata={"help": "A second text, read together with it."})
    label_column: str = field(default="label", metadata={"help": "The column with the label, labels or number."})
    label_delimiter: str | None = field(
        default=None, metadata={"help": "What stands between several labels of one text, as | or a comma."}
    )
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] | None = field(
        default=None, metadata={"help": "If it is not to be guessed from the labels."}
    )
    overflow: Literal["truncate", "stride-mean", "stride-max"] = field(
        default="truncate",
        metadata={
            "help": "Documents beyond the limit: cut off, or the mean or maximum of the logits of their windows."
        },
    )
    stride: int | None = field(
        default=None, metadata={"help": "Tokens that neighbouring windows share: a quarter of them, at most 128."}
    )
    class_weights: Literal["none", "balanced"] = field(
        default="none", metadata={"help": "Give rare classes the same weight in all as frequent ones."}
    )
    folds: int | None = field(
        default=None, metadata={"help": "Cross-validate: train as often, test every time on another part of the rows."}
    )

    @property
    def columns(self) -> list[str]:
        """The columns with texts."""
        return [self.text_column] if self.text_pair_column is None else [self.text_column, self.text_pair_column]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Trains, and returns what `results.json` holds."""
    model_arguments, data, training = parse_arguments(
        (ModelArguments, ClassificationArguments, LongTrainingArguments), arguments
    )
    tables = {
        split: _usable(table, data) for split, table in read_tables(data, model_arguments.local_files_only).items()
    }
    labels = Labels.of(tables["train"], data.label_column, data.problem_type, data.label_delimiter)
    if labels.problem_type != SINGLE and (data.class_weights != "none" or training.label_smoothing_factor):
        raise InputError(
            f"--class_weights and --label_smoothing_factor are for single labels, got {labels.problem_type}: leave them"
            " out, or say --problem_type single_label_classification"
        )
    for table in tables.values():  # before anything is trained
        labels.encode(table, data.label_column, data.label_delimiter)
    if data.folds is not None:
        return _cross_validate(model_arguments, data, training, tables, labels)
    return _train_once(model_arguments, data, training, tables, labels)


def _usable(table: Table, data: ClassificationArguments) -> Table:
    table.check_columns([*data.columns, data.label_column])
    usable = table.without(lambda row: not text_of(row[data.text_column]).strip(), "no text")
    if not len(usable.rows):
        raise InputError(f"{table.name} must have rows with something in {data.text_column}, got none")
    return usable


def _strata(data: ClassificationArguments, labels: Labels) -> str | None:
    return data.label_column if labels.problem_type == SINGLE else None


def _train_once(
    model_arguments: ModelArguments,
    data: ClassificationArguments,
    training: LongTrainingArguments,
    tables: dict[str, Table],
    labels: Labels,
) -> dict[str, Any]:
    tables = add_splits(tables, data, _strata(data, labels), evaluate=training.eval_strategy != "no")
    set_seed(training.seed)
    model, tokenizer = load(HfLongformerForSequenceClassification, model_arguments, **labels.config())
    length = check_length(data.max_seq_length, model.config.max_length_tokens)
    data.stride = check_stride(data.stride, length)
    checkpoint_activations(training, length)
    training.choose_best_by(BEST[labels.problem_type], "validation" in tables)
    options: dict[str, Any] = {"length": length, "workers": data.preprocessing_num_workers}
    options["stride"] = None if data.overflow == "truncate" else data.stride
    windows, right = {}, {}
    for split, table in tables.items():
        encoded = labels.encode(table, data.label_column, data.label_delimiter)
        right[split] = dict(zip(table.rows[ROW], encoded, strict=True))
        windows[split] = make_windows(table, encoded, tokenizer, data.columns, **options)
    of_train = list(right["train"].values())
    weights = balanced_weights(of_train, len(labels.names)) if data.class_weights == "balanced" else None
    loss = Loss(labels.problem_type, weights, training.label_smoothing_factor)

    def of_texts(split: str, logits: np.ndarray) -> tuple[list[int], np.ndarray, list[Any]]:
        rows, pooled = pool(logits, windows[split][ROW], data.overflow)
        return rows, pooled, [right[split][row] for row in rows]

    def measure(found: Any) -> dict[str, float]:
        _, logits, answers = of_texts("validation", found.predictions)
        # `Trainer`'s mean of the losses of batches depends on the sizes of the batches.
        mean = loss(SequenceClassifierOutput(logits=torch.tensor(found.predictions)), torch.tensor(found.label_ids))
        return {**scalars(scores(logits, answers, labels)), "loss": float(mean)}

    trainer = LongTrainer(
        model,
        training,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=windows["train"],
        eval_dataset=windows.get("validation"),
        processing_class=tokenizer,
        compute_metrics=measure,
        compute_loss_func=loss,
    )
    results: dict[str, Any] = {
        "task": "classification",
        "problem_type": labels.problem_type,
        "labels": labels.names,
        "tokens_at_once": length,
        "overflow": data.overflow,
        "rows": {split: len(table.rows) for split, table in tables.items()},
        "windows": {split: len(rows) for split, rows in windows.items()},
        "leaks": find_leaks(tables, data.columns),
        "training": train(trainer, training),
        "scores": {},
    }
    trainer.compute_metrics, folder = None, Path(str(training.output_dir))
    for split in ("validation", "test"):
        if split in tables:
            found = of_texts(split, trainer.predict(windows[split]).predictions)
            measured = results["scores"][split] = scores(found[1], found[2], labels)
            if trainer.is_world_process_zero():
                _write(folder, split, predictions(*found, labels), measured, labels)
    trainer.save_model()
    if trainer.is_world_process_zero():
        kept = {"overflow": data.overflow, "stride": data.stride, "text_pair": data.text_pair_column is not None}
        save_defaults(folder, "classification", {"max_seq_length": length, **kept})
    save_results(folder, results, trainer, "squared error" if labels.problem_type == REGRESSION else "nats per text")
    return results


def _write(folder: Path, split: str, lines: list[dict[str, Any]], measured: dict[str, Any], labels: Labels) -> None:
    write_lines(folder / f"{split}-predictions.jsonl", lines)
    if "confusion" in measured:
        draw_confusion(measured["confusion"], labels.names, folder / f"{split}-confusion.png")


def _cross_validate(
    model_arguments: ModelArguments,
    data: ClassificationArguments,
    training: LongTrainingArguments,
    tables: dict[str, Table],
    labels: Labels,
) -> dict[str, Any]:
    """Trains once per fold, in a folder each, and gives mean and spread of the scores."""
    table, folds = tables["train"], data.folds or 0
    if not 2 <= folds <= len(table.rows):
        raise InputError(f"--folds must lie between 2 and the {len(table.rows)} rows, got {folds}")
    if "test" in tables or data.test_share:
        other = f"rows of {tables['test'].name}" if "test" in tables else f"--test_share {data.test_share}"
        raise InputError(
            f"--folds tests on parts of the training rows and on nothing else, got {other}: leave them out"
        )
    folder, settings = Path(str(training.output_dir)), facts(training)
    found = []
    for number, test in enumerate(deal(table, [1 / folds] * (folds - 1), data.split_seed, _strata(data, labels)), 1):
        done = folder / f"fold-{number}" / "results.json"
        if done.exists():  # of a run that was killed in a later fold
            found.append(_finished(done, settings, len(test)))
            continue
        here = copy.deepcopy(training)
        here.output_dir = str(done.parent)
        rest = sorted(set(range(len(table.rows))) - set(test))
        parts = {name: Table(table.rows.select(part), table.name) for name, part in (("train", rest), ("test", test))}
        found.append(_train_once(model_arguments, data, here, {**tables, **parts}, labels))
    of_folds = [scalars(fold["scores"]["test"]) for fold in found]
    in_all = [name for name in of_folds[0] if all(name in one for one in of_folds)]  # ROC-AUC may be missing in one
    numbers = {name: [one[name] for one in of_folds] for name in in_all}
    results = {
        "task": "classification",
        "problem_type": labels.problem_type,
        "labels": labels.names,
        "rows": {"all": len(table.rows)},
        "scores": {
            "mean": {name: float(np.mean(values)) for name, values in numbers.items()},
            "standard deviation": {name: float(np.std(values, ddof=1)) for name, values in numbers.items()},
            **{f"fold {number}": scores for number, scores in enumerate(of_folds, 1)},
        },
    }
    if training.process_index == 0:
        write_json(folder / "results.json", {**results, **settings})
    return results


def _finished(file: Path, settings: dict[str, Any], rows: int) -> dict[str, Any]:
    """The results of a fold that was trained before, if it was trained in the same way."""
    results = json.loads(file.read_text(encoding="utf-8"))
    for name, wanted, got in (
        ("seed", settings["seed"], results["seed"]),
        ("hyperparameters", settings["hyperparameters"], results["hyperparameters"]),
        ("test rows", rows, results["rows"]["test"]),
    ):
        if wanted != got:
            raise InputError(
                f"{file} must be of the same run, with {name} {wanted}, got {got}: remove it, or give another "
                "--output_dir"
            )
    return results


if __name__ == "__main__":
    main()
