# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""One way through all training scripts: read, load, cut, train, measure, save, upload. What a task is stands in `Task`;
this file knows none.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import set_seed
from transformers.utils import logging

from hf_longformer import DataCollatorToLengths
from hf_longformer.conversion.errors import InputError
from hf_longformer.conversion.source import encoder_config

from .argument_checks import check_smoothing, lengths_to_pad_to
from .arguments import LongTrainingArguments, ModelArguments, parse_arguments
from .checkpoints import check_type, describe, load_checkpoint
from .data import SPLITS
from .division import check_division, divided
from .identity import FINISHED, Run, identity
from .prediction_defaults import read_defaults, save_defaults
from .results import save_results, write_lines
from .training import LongTrainer, checkpoint_activations, train
from .upload import repository_of, upload
from .windows import check_length

logger = logging.get_logger(__name__)
MEASURED = {"validation": "do_eval", "test": "do_predict"}  # splits, and the arguments that leave them out


class Task:
    """What is trained: what differs between the scripts.

    Args:
        model_arguments: Which checkpoint.
        data: An object of the class `arguments`.
        training: How.
    """

    name: ClassVar[str]
    arguments: ClassVar[Any]
    model_class: ClassVar[Any]
    best: ClassVar[str]  # what the best model is chosen by
    measures: ClassVar[tuple[str, ...]]  # what it could be chosen by, beside the loss
    unit: ClassVar[str]  # of the loss
    divides: ClassVar[bool] = False  # whether --context_parallel_size can be had
    pads_to_lengths: ClassVar[bool] = False  # whether --pad_to_lengths can be had
    smooths: ClassVar[bool] = True  # whether the loss heeds --label_smoothing_factor
    new: ClassVar[tuple[str, ...]] = ()  # parts of the model that may begin at random
    counted: ClassVar[str] = "rows"  # what an entry of a table is called
    chosen: ClassVar[tuple[str, ...]] = ()  # attributes that validation decides, which go with the checkpoint
    pieces: ClassVar[str] = "windows"  # and what the model reads at once
    trainer_class: ClassVar[Any] = LongTrainer
    training_arguments: ClassVar[Any] = LongTrainingArguments
    collator_needs_all: ClassVar[bool] = False  # also columns that the model does not take

    def __init__(self, model_arguments: ModelArguments, data: Any, training: LongTrainingArguments) -> None:
        self.model_arguments, self.data, self.training = model_arguments, data, training
        self.model: Any = None
        self.tokenizer: Any = None
        self.length = 0
        self.tables: dict[str, Any] = {}
        self.windows: dict[str, Any] = {}
        self.skipped: dict[str, int] = {}
        self.cut: dict[str, dict[str, int]] = {}  # of every split, what was beyond the limit and is not read
        self.run: Run | None = None

    @classmethod
    def main(cls, arguments: Sequence[str] | None = None) -> dict[str, Any]:
        """Runs the task's script, and returns what `results.json` holds.

        Args:
            arguments: What the command line has after the program's name.

        Raises:
            InputError: If something given cannot be used, or `output_dir` holds another run.
            TrainingError: If training cannot be finished, or its result not be uploaded.
        """
        objects = parse_arguments((ModelArguments, cls.arguments, cls.training_arguments), arguments)
        task, checkpoint = cls(*objects), objects[0]
        # Before anything else is read: its configuration says what it is, and, on the Hub, of which commit.
        name = checkpoint.model_name_or_path
        check_smoothing(cls.name, cls.smooths, objects[2])
        check_division(cls.name, cls.divides, objects[2])
        lengths_to_pad_to(cls.name, cls.pads_to_lengths, objects[2].pad_to_lengths)
        where = {"revision": checkpoint.revision, "local_files_only": checkpoint.local_files_only}
        check_type(name, cls.model_class, **where)
        return whole_run(task, identity(objects, name, task=cls.name))

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return Path(str(self.training.output_dir))

    def load_checkpoint(self, name: str, **options: Any) -> tuple[Any, Any, dict[str, list[str]]]:
        """Model and tokenizer, as `checkpoints.load_checkpoint` gives them."""
        return load_checkpoint(self.model_class, name, **options)

    def read(self) -> dict[str, Any]:
        """The tables by split, checked; `train` among them if there is training."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Fields of the model's configuration that the tables decide."""
        return {}

    def prepare(self) -> None:
        """Makes model and tokenizer ready for the task, and checks arguments that depend on them."""

    def windows_of(self, split: str, table: Any) -> Any:
        """Rows for the model."""
        raise NotImplementedError

    def trainer_options(self) -> dict[str, Any]:
        """Collator, loss and metrics: further arguments of `trainer_class`."""
        raise NotImplementedError

    def go(self) -> dict[str, Any]:
        """One training, or one measurement; returns what `results.json` holds."""
        return train_and_measure(self)

    def scores_and_lines(self, split: str, found: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The scores of what `Trainer.predict` found, and a line for every row of the table."""
        raise NotImplementedError

    def score(self, split: str, found: Any) -> dict[str, Any]:
        """The scores; writes, from the first process only, the lines."""
        measured, lines = self.scores_and_lines(split, found)
        if self.training.process_index == 0:
            write_lines(self.folder / f"{split}-predictions.jsonl", lines)
        return measured

    def more_results(self) -> dict[str, Any]:
        """What else `results.json` holds."""
        return {}

    def defaults(self) -> dict[str, Any] | None:
        """How inputs are cut, for `hf-longformer predict`; None if that cannot do the task."""
        return None

    def before_saving(self, results: dict[str, Any]) -> None:
        """What is done to the trained model at last."""

    def measure(self, trainer: Any, results: dict[str, Any]) -> None:
        """Adds the scores of every split that is to be measured."""
        trainer.compute_metrics = None
        for split, wanted in MEASURED.items():
            if split in self.windows and getattr(self.training, wanted):
                results["scores"][split] = self.score(split, trainer.predict(self.windows[split]))


def whole_run(task: Any, this_run: dict[str, Any]) -> dict[str, Any]:
    """Begins, goes on with, or finds finished a run, and uploads it if that was asked for.

    Args:
        task: A `Task`, or what has its `training`, `folder`, `run` and `go`.
        this_run: What tells the run from others, as `identity` gives it.
    """
    training, folder = task.training, task.folder
    push, training.push_to_hub = training.push_to_hub, False  # once, whole, at the end, and not by `Trainer`
    training.hub_model_id = repository_of(training) if push else None
    task.run = Run(folder, this_run, training)
    _say_same_files(this_run)
    if task.run.is_finished:
        logger.warning(f"the run in {folder} is finished: nothing was done")
        results = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
    else:
        results = task.go()
    if push and training.process_index == 0:
        upload(folder, training)
    return results


def train_and_measure(task: Task, tables: dict[str, Any] | None = None) -> dict[str, Any]:
    """One training, or one measurement without training.

    Args:
        task: The task, whose `model`, `tokenizer`, `tables` and `windows` are set here.
        tables: If they were read before.

    Returns:
        What `results.json` holds.
    """
    training, trains = task.training, task.training.do_train
    if not trains:
        load(task)
    task.tables = task.read() if tables is None else tables
    set_seed(training.seed)
    said = load(task) if trains else []
    task.prepare()
    longest = encoder_config(task.model.config)
    if trains and longest.repeat_positions and task.data.max_seq_length is None:
        raise InputError("the model reads texts of any length: say how many tokens at once, --max_seq_length")
    task.length = check_length(task.data.max_seq_length, longest.max_length_tokens)
    serves, side = task.pads_to_lengths, getattr(task.tokenizer, "padding_side", "right")
    lengths = lengths_to_pad_to(task.name, serves, training.pad_to_lengths, task.length, side)
    checkpoint_activations(training, task.length)
    training.choose_best_by(task.best, "validation" in task.tables and training.do_eval and trains, task.measures)
    training.remove_unused_columns = training.remove_unused_columns and not task.collator_needs_all
    task.windows = {split: task.windows_of(split, table) for split, table in task.tables.items()}
    _say_what_was_cut(task)
    options = task.trainer_options()
    if lengths is not None:
        options["data_collator"] = DataCollatorToLengths(task.tokenizer, lengths, options["data_collator"])
    trainer = task.trainer_class(
        task.model,
        training,
        train_dataset=task.windows.get("train"),
        eval_dataset=task.windows.get("validation") if training.do_eval else None,
        processing_class=task.tokenizer,
        **options,
    )
    results: dict[str, Any] = {
        "task": task.name,
        "tokens_at_once": task.length,
        task.counted: {split: _length(getattr(table, "rows", table)) for split, table in task.tables.items()},
        task.pieces: {split: _length(rows) for split, rows in task.windows.items()},
        "data": data_names(task.data),
        "skipped": {split: number for split, number in task.skipped.items() if number},
        "cut": task.cut,
        "checkpoint": said,
        **task.more_results(),
        "scores": {},
    }
    if task.run is not None:
        task.run.claim()
    with divided(trainer):
        if trains:
            results["training"] = train(trainer, training)
        task.measure(trainer, results)
    if trains:
        task.before_saving(results)
        trainer.check_numbers(weights=True)
        trainer.save_model()
        if trainer.is_world_process_zero() and (defaults := task.defaults()) is not None:
            save_defaults(task.folder, task.name, defaults)
    return save_results(task.folder, results, trainer, task.unit, task.model_arguments.local_files_only)


def load(task: Task) -> list[str]:
    """Loads the task's checkpoint, in float32, in which small steps are not lost; returns what is to be said of it.

    Raises:
        InputError: If it cannot be loaded whole, or an argument contradicts the task.
    """
    given, config = task.model_arguments, task.config() if task.training.do_train else {}
    for name, value in given.changed.items():
        if name in config and config[name] != value:
            raise InputError(f"--{name} must be {config[name]} here, got {value}")
    where: dict[str, Any] = {"revision": given.revision, "local_files_only": given.local_files_only}
    task.model, task.tokenizer, notes = task.load_checkpoint(
        given.model_name_or_path,
        new=task.new if task.training.do_train else (),
        dtype=torch.float32,
        **where,
        **given.changed,
        **config,
    )
    if task.chosen and not task.training.do_train:
        kept = read_defaults(given.model_name_or_path, given.local_files_only)
        for name in task.chosen:
            setattr(task, name, kept.get(name, getattr(task, name)))
    sentences = describe(notes)
    for sentence in sentences:
        logger.warning(sentence)
    return sentences


def data_names(data: Any) -> dict[str, Any]:
    """What was read, without the folders that it lies in."""
    if name := getattr(data, "dataset_name", None):
        return {"dataset": Path(name).name if Path(name).exists() else name}
    files = {split: getattr(data, f"{split}_file", None) or getattr(data, f"{split}_files", None) for split in SPLITS}
    return {
        split: Path(given).name if isinstance(given, str) else ", ".join(Path(one).name for one in given)
        for split, given in files.items()
        if given
    }


def _say_same_files(this_run: dict[str, Any]) -> None:
    """Warns where what is measured on was trained on as a whole."""
    digests = this_run.get("files", {})
    files: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    for split in SPLITS:
        for name in (f"{split}_file", f"{split}_files"):
            given = this_run.get("arguments", {}).get(name) or []
            for file in [given] if isinstance(given, str) else given:
                files[split][digests.get(file, file)] = file
    for split in SPLITS[1:]:
        for digest in files[split].keys() & files["train"].keys():
            logger.warning(
                f"{files[split][digest]} is measured on and trained on, as {files['train'][digest]}: scores of {split} "
                "say nothing about other texts"
            )


def _say_what_was_cut(task: Task) -> None:
    for split, counts in task.cut.items():
        words = " and ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items())
        logger.warning(f"not read, since beyond the limit, in {split}: {words}")


def _length(rows: Any) -> int | None:
    """None for data that is read while training."""
    return len(rows) if hasattr(rows, "__len__") else None


__all__ = ["Task", "data_names", "load", "train_and_measure", "whole_run"]
