# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What all training scripts share: a trainer, batches by tokens, resuming, stopping when the loss is no number, results
and curves.
"""

import atexit
import enum
import json
import math
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoTokenizer,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_pt_utils import BatchRebalanceSampler, LengthGroupedSampler

from hf_longformer.benchmarks.measure import machine
from hf_longformer.conversion.errors import InputError, one_line
from hf_longformer.conversion.files import write_json, write_text
from hf_longformer.conversion.weights import local_names
from hf_longformer.model_cards import render_trained_card

from .arguments import LongTrainingArguments, ModelArguments
from .errors import TrainingError

STATE = "trainer_state.json"
HYPERPARAMETERS = (
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "num_train_epochs", "max_steps"),
    *("per_device_train_batch_size", "tokens_per_batch", "gradient_accumulation_steps", "bf16"),
)
POOL = 8  # batches between which texts are mixed anew in every epoch


class LongTrainer(Trainer):
    """`Trainer` with batches by tokens, an order of the texts that a resumed run and all its processes agree on, and an
    evaluation that keeps the order of its rows.
    """

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler | None:
        arguments, columns = self.args, getattr(self.train_dataset, "column_names", None) or []
        budget = getattr(arguments, "tokens_per_batch", None)
        grouped = arguments.train_sampling_strategy == "group_by_length" and "length" in columns
        if budget is None and not grouped:
            return super()._get_train_sampler(self.train_dataset)
        lengths = list(self.train_dataset["length"])  # `train_dataset` has lost them
        seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
        sampler: TokenBatchSampler | LengthSampler
        if budget is not None:
            sampler = TokenBatchSampler(lengths, budget, arguments.world_size, arguments.process_index, seed)
        else:
            texts = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
            sampler = LengthSampler(lengths, texts, seed)
        self.remove_callback(SetEpoch)
        self.add_callback(SetEpoch(sampler))
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> torch.utils.data.Sampler | None:
        # In order, so that predictions belong to rows; those who care for speed sort the rows by length.
        return torch.utils.data.SequentialSampler(eval_dataset)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Any:
        # `Trainer` takes -100 for a label that is none, also where it is a number to be predicted.
        if batch_samples and torch.is_floating_point(batch_samples[0].get("labels", torch.tensor(0))):
            batch_samples = [{"labels": torch.zeros_like(batch["labels"])} for batch in batch_samples]
        return super()._get_num_items_in_batch(batch_samples, device)


class SetEpoch(TrainerCallback):
    """Tells a sampler which epoch begins; nobody else does in a run of several processes that goes on inside an epoch.

    Args:
        sampler: With a method `set_epoch`.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Passes the number on, from 0."""
        self.sampler.set_epoch(int(state.epoch or 0))


class LengthSampler(LengthGroupedSampler):
    """Texts in an order in which neighbours have about the same length, by seed and epoch alone.

    `Trainer`'s own draws from the generator that dropout draws from: a run that goes on inside an epoch would see other
    texts than those that are left of it, and so would every process of a run of several.

    Args:
        lengths: Tokens of every text.
        texts: How many make a step.
        seed: Of the order.
    """

    def __init__(self, lengths: list[int], texts: int, seed: int = 0) -> None:
        super().__init__(texts, lengths=lengths, generator=torch.Generator())
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """The indices of all texts."""
        self.generator.manual_seed(int(np.random.SeedSequence((self.seed, self.epoch)).generate_state(1)[0]))
        return super().__iter__()


class TokenBatchSampler(BatchRebalanceSampler):  # which `Trainer` leaves as it is in runs of several processes
    """Batches of texts of about the same length, of at most so many tokens, padding included, or of one text.

    Every text is drawn once per epoch, in an order that depends on seed and epoch. There are as many batches in every
    epoch, and as many for every process.

    Args:
        lengths: Tokens of every text.
        budget: Tokens of a batch.
        processes: How many share the batches.
        rank: Which of them this is.
        seed: Of the order.
    """

    def __init__(self, lengths: list[int], budget: int, processes: int = 1, rank: int = 0, seed: int = 0) -> None:
        self.processes, self.rank, self.seed, self.epoch = processes, rank, seed, 0
        self.tokens = np.asarray(lengths)
        falling = sorted(lengths, reverse=True)
        self.pools: list[tuple[slice, int]] = []  # of texts by falling length, and how many of them make a batch
        start = 0
        while start < len(falling):
            size = max(1, budget // max(1, falling[start]))
            self.pools.append((slice(start, min(start + size * POOL, len(falling))), size))
            start += size * POOL
        if len(lengths) < processes:
            raise InputError(f"{processes} processes need at least as many texts to train on, got {len(lengths)}")
        self.batches_per_process = math.ceil(
            sum(math.ceil((pool.stop - pool.start) / size) for pool, size in self.pools) / processes
        )

    def __len__(self) -> int:
        return self.batches_per_process

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of this process."""
        generator = np.random.default_rng((self.seed, self.epoch))
        batches: list[list[int]] = []
        # Texts of one length, such as truncated ones, in random order: in a file, all of a label may be neighbours.
        texts = generator.permutation(len(self.tokens))
        by_length = texts[np.argsort(-self.tokens[texts], kind="stable")]
        for pool, size in self.pools:
            mixed = generator.permutation(by_length[pool]).tolist()
            batches += [mixed[start : start + size] for start in range(0, len(mixed), size)]
        while len(batches) < self.batches_per_process * self.processes:  # drawn twice only if there is no other way
            largest = max(range(len(batches)), key=lambda index: len(batches[index]))
            split = batches[largest]
            batches[largest : largest + 1] = [split[::2], split[1::2] or split]
        order = generator.permutation(len(batches))
        return iter([batches[index] for index in order[self.rank :: self.processes]])


class StopOnBadLoss(TrainerCallback):
    """Stops training with a sentence when the loss is no number, instead of training on."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Looks at every loss that is logged.

        Raises:
            TrainingError: If one is NaN or infinite.
        """
        for name, value in (logs or {}).items():
            if name.endswith("loss") and not math.isfinite(value):
                raise TrainingError(
                    f"the loss must be a number, got {name}={value} at step {state.global_step}: lower "
                    "--learning_rate, or train with --bf16 False"
                )


class Clock(TrainerCallback):
    """The seconds of a run, those before a kill included, up to its newest checkpoint.

    Args:
        file: Where they are kept.
        is_new: Whether the run begins.
    """

    def __init__(self, file: Path, is_new: bool) -> None:
        self.file, self.start, self.before = file, time.monotonic(), 0.0
        if not is_new and file.exists():
            self.before = float(json.loads(file.read_text(encoding="utf-8")))

    @property
    def seconds(self) -> float:
        """Of the whole run so far."""
        return self.before + time.monotonic() - self.start

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keeps them, beside a checkpoint."""
        if state.is_world_process_zero:
            write_json(self.file, self.seconds)


class EarlyStopping(EarlyStoppingCallback):
    """As Transformers' own, but a run that goes on remembers how long nothing has become better."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Counts the evaluations since the best one."""
        super().on_train_begin(args, state, control, **kwargs)
        name = f"eval_{str(args.metric_for_best_model).removeprefix('eval_')}"
        values = [entry[name] for entry in state.log_history if name in entry]
        if values:
            best = max(values) if args.greater_is_better else min(values)
            self.early_stopping_patience_counter = len(values) - 1 - values.index(best)


def newest_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint of a run that was written to its end; None if there is none.

    Args:
        folder: The run's `output_dir`.
    """
    found = []
    for state in folder.glob(f"checkpoint-*/{STATE}"):  # written last
        try:
            found.append((json.loads(state.read_text(encoding="utf-8"))["global_step"], state.parent))
        except (OSError, ValueError, KeyError):
            continue
    return str(max(found)[1]) if found else None


def train(trainer: Trainer, arguments: LongTrainingArguments) -> dict[str, Any]:
    """Trains, from the newest complete checkpoint if there is one.

    Args:
        trainer: The trainer.
        arguments: Its arguments; `output_dir` is where the run's checkpoints are.

    Returns:
        What `results.json` keeps of it: seconds, steps, and whether it was resumed.

    Raises:
        InputError: If parameters were to be sharded and cannot be.
        TrainingError: If the loss is no number.
    """
    checkpoint = arguments.resume_from_checkpoint or newest_checkpoint(Path(str(arguments.output_dir)))
    if arguments.fsdp and not trainer.is_fsdp_enabled:
        raise InputError(
            "--fsdp needs several processes with an accelerator each: without it, parameters are not sharded"
        )
    clock = Clock(Path(str(arguments.output_dir)) / "seconds.json", is_new=checkpoint is None)
    trainer.add_callback(clock)
    trainer.add_callback(StopOnBadLoss())
    if arguments.early_stopping_patience is not None:
        trainer.add_callback(EarlyStopping(arguments.early_stopping_patience))
    parameters = dict(trainer.model.named_parameters())
    if any(parameters[name].requires_grad for name in local_names(parameters)):
        trainer.model.config.global_projections = "trained"
    trainer.train(resume_from_checkpoint=checkpoint)
    return {
        "seconds": clock.seconds,
        "steps": trainer.state.global_step,
        "resumed_from": None if checkpoint is None else Path(checkpoint).name,
    }


def load(model_class: Any, arguments: ModelArguments, **config: Any) -> tuple[Any, Any]:
    """A checkpoint's model, in float32 however it is stored, and its tokenizer.

    Args:
        model_class: The class of the model.
        arguments: Which checkpoint, and what of its configuration is changed.
        **config: More of the configuration.

    Raises:
        InputError: If there is no such checkpoint, or it cannot be read.
    """
    if fixed := [name for name in arguments.changed if name in config and config[name] != arguments.changed[name]]:
        raise InputError(f"--{fixed[0]} must be {config[fixed[0]]} here, got {arguments.changed[fixed[0]]}")
    where = {"revision": arguments.revision, "local_files_only": arguments.local_files_only}
    where = {name: value for name, value in where.items() if value}
    name = arguments.model_name_or_path
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **where)
        # A head for other labels is left out, which Transformers reports.
        given = {**where, "dtype": torch.float32, **arguments.changed, **config}
        model, report = model_class.from_pretrained(
            name, **given, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, StrictDataclassError) as error:  # RuntimeError: a head of another size
        raise InputError(f"the checkpoint {name} cannot be loaded: {one_line(error)}") from error
    broken = [key for key, *_ in report["mismatched_keys"] if not key.startswith("classifier")]
    if broken:
        raise InputError(f"the weights of {name} must have the shapes of its config.json, got others for {broken[0]}")
    return model, tokenizer


def save_results(folder: Path, results: dict[str, Any], trainer: Trainer, unit: str) -> None:
    """Writes `results.json`, `curves.png` and a model card beside the model, from the first process only.

    Args:
        folder: The run's folder.
        results: What was measured, and whatever is to stand there instead of what the trainer says.
        trainer: Whose log the curves are drawn from.
        unit: What the loss is measured in.
    """
    atexit.register(_part)  # not now: there may be another run in these processes
    if not trainer.is_world_process_zero():
        return
    name = trainer.model.config.name_or_path
    content = {"base": name, "model_class": _class_name(trainer.model), **facts(trainer.args), **results}
    write_json(folder / "results.json", content)
    write_text(folder / "README.md", str(render_trained_card(content)))
    draw_curves(trainer.state.log_history, folder / "curves.png", unit)


def _part() -> None:
    """Several processes part in order. Left to the end of the interpreter that fails now and then, with all written."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _class_name(model: Any) -> str:
    """Without the class that FSDP puts in front."""
    return next(one.__name__ for one in type(model).__mro__ if not one.__name__.startswith("FSDP"))


def facts(arguments: TrainingArguments) -> dict[str, Any]:
    """What every figure must carry: command, seed, hyperparameters, machine, versions and date."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": arguments.seed,
        "hyperparameters": hyperparameters(arguments, HYPERPARAMETERS),
        "device": arguments.device.type,
        "processes": arguments.world_size,
        **machine(),
    }


def hyperparameters(arguments: TrainingArguments, names: Iterable[str]) -> dict[str, Any]:
    """Arguments by name, as JSON has them; `None` for those that this kind of training does not have."""
    values = {name: getattr(arguments, name, None) for name in names}
    return {name: value.value if isinstance(value, enum.Enum) else value for name, value in values.items()}


def scalars(scores: dict[str, Any]) -> dict[str, float]:
    """The scores that are numbers: what curves can be drawn of."""
    return {name: value for name, value in scores.items() if isinstance(value, int | float)}


def write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    """Writes JSON lines to a file that is there whole or not at all."""
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def draw_curves(log: list[dict[str, float]], file: Path, unit: str) -> None:
    """Draws the loss of training and of evaluation against the steps.

    Args:
        log: `trainer.state.log_history`.
        file: The PNG file to write.
        unit: What the loss is measured in.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, label, style in (("loss", "training", "-"), ("eval_loss", "evaluation", "o-")):
        points = [(entry["step"], entry[name]) for entry in log if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, markersize=4)
    axes.set_xlabel("steps")
    axes.set_ylabel(f"loss ({unit})")
    if axes.lines:
        axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def checkpoint_activations(arguments: LongTrainingArguments, length: int) -> None:
    """Switches activation checkpointing on where texts are long, unless it was decided already.

    Args:
        arguments: Changed in place.
        length: The longest text in tokens.
    """
    if arguments.activation_checkpointing is None and length > arguments.checkpoint_above:
        arguments.activation_checkpointing = True
        arguments.activation_checkpointing_kwargs = {"use_reentrant": False}
