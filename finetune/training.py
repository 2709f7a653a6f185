# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What all trainings share: a trainer with batches by tokens, resuming, and a stop when a number is none."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from hf_longformer.conversion.errors import InputError
from hf_longformer.conversion.files import write_json
from hf_longformer.conversion.source import encoder_config
from hf_longformer.conversion.weights import local_names
from hf_longformer.transformers_internals import CHECKPOINTING, trainer_with_hooks

from .arguments import LongTrainingArguments
from .division import gather_once, share_batches
from .errors import TrainingError
from .samplers import LengthSampler, SetEpoch, TokenBatchSampler

STATE = "trainer_state.json"
ADVICE = "lower --learning_rate, or train with --bf16 False"
TrainerWithHooks: Any = trainer_with_hooks()


class LongTrainer(TrainerWithHooks):
    """`Trainer` with batches by tokens, an order of the texts that a resumed run and all its processes agree on, an
    evaluation that keeps the order of its rows, and no step after a loss that is no number.

    What is not here is Transformers' own: arguments are those of `Trainer`.
    """

    def __init__(self, *args: Any, compute_metrics: Callable | None = None, **kwargs: Any) -> None:
        checked = None if compute_metrics is None else _of_numbers(compute_metrics)
        super().__init__(*args, compute_metrics=checked, **kwargs)
        self.has_bad_loss: torch.Tensor | None = None
        self.division: Any = None  # of texts among processes, while there is one
        self.add_callback(StopOnBadLoss(self))

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As `Trainer`'s. Every loss is looked at, on its device: to read what was seen there would wait for it."""
        loss = super().training_step(*args, **kwargs)
        is_bad = ~torch.isfinite(loss.detach())
        self.has_bad_loss = is_bad if self.has_bad_loss is None else self.has_bad_loss | is_bad
        return loss

    def check_numbers(self, weights: bool) -> None:
        """Stops if a loss of any step so far, or, if `weights`, a weight that was trained, is NaN or infinite.

        Raises:
            TrainingError: If there is one.
        """
        step = self.state.global_step
        if self.has_bad_loss is not None and bool(self.has_bad_loss.any()):
            raise TrainingError(f"the loss must be a number, got NaN or infinity by step {step}: {ADVICE}")
        if weights and not _are_finite(self.model):
            raise TrainingError(f"weights must be numbers, got NaN or infinity at step {step}: {ADVICE}")

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer`'s.

        Raises:
            TrainingError: If what is predicted is NaN.
        """
        found = super().predict(*args, **kwargs)
        _check_predictions(found.predictions)
        return found

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer`'s; processes that share texts count as one."""
        if self.args.context_parallel_size > 1:
            self.gather_function = partial(gather_once, self.accelerator, self.args.context_parallel_size)
        return super().evaluation_loop(*args, **kwargs)

    def get_train_dataloader(self) -> Any:
        """As `Trainer`'s; processes that share texts get the same."""
        return share_batches(super().get_train_dataloader(), self.args)

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer`'s, with all rows: `dataloader_drop_last` is for training."""
        return self._of_all_rows(super().get_eval_dataloader, *args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """The same."""
        return self._of_all_rows(super().get_test_dataloader, *args, **kwargs)

    def _of_all_rows(self, make: Callable, *args: Any, **kwargs: Any) -> Any:
        asked, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            return share_batches(make(*args, **kwargs), self.args)
        finally:
            self.args.dataloader_drop_last = asked

    def train_sampler(self) -> torch.utils.data.Sampler | None:
        """By length or by tokens, as the arguments say."""
        arguments, columns = self.args, getattr(self.train_dataset, "column_names", None) or []
        budget = getattr(arguments, "tokens_per_batch", None)
        grouped = arguments.train_sampling_strategy == "group_by_length" and "length" in columns
        if budget is None and not grouped:
            return super().train_sampler()
        lengths = list(self.train_dataset["length"])  # what the loader gets has lost them
        seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
        sampler: TokenBatchSampler | LengthSampler
        size = arguments.context_parallel_size
        shares = arguments.world_size // size
        if budget is not None:
            sampler = TokenBatchSampler(lengths, budget, shares, arguments.process_index // size, seed)
        else:
            texts = arguments.train_batch_size * arguments.gradient_accumulation_steps * shares
            sampler = LengthSampler(lengths, texts, seed)
        self.remove_callback(SetEpoch)
        self.add_callback(SetEpoch(sampler))
        return sampler

    def eval_sampler(self, dataset: Any) -> torch.utils.data.Sampler:
        """In order, so that predictions belong to rows; those who care for speed sort the rows by length."""
        return torch.utils.data.SequentialSampler(dataset)

    def weights_of(self, folder: Path) -> dict[str, torch.Tensor]:
        """Of a model that was saved, in float32."""
        return type(self.model).from_pretrained(folder, dtype=torch.float32).state_dict()

    def items_in_batch(self, batches: list, device: torch.device) -> Any:
        """`Trainer` takes -100 for a label that is none, also where it is a number to be predicted."""
        if batches and torch.is_floating_point(batches[0].get("labels", torch.tensor(0))):
            batches = [{"labels": torch.zeros_like(batch["labels"])} for batch in batches]
        return super().items_in_batch(batches, device)


def _are_finite(model: torch.nn.Module) -> bool:
    trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    local = [one.to_local() if hasattr(one, "to_local") else one for one in trained]  # shards of a sharded model
    return not local or bool(torch.stack([torch.isfinite(one).all() for one in local]).all())


def _of_numbers(compute_metrics: Callable) -> Callable:
    """The same, but predictions that are no numbers are named before a metric fails on them."""

    def compute(found: Any) -> Any:
        _check_predictions(found.predictions)
        return compute_metrics(found)

    return compute


def _check_predictions(predictions: Any) -> None:
    for one in predictions if isinstance(predictions, tuple) else (predictions,):
        if np.issubdtype(np.asarray(one).dtype, np.floating) and np.isnan(one).any():
            raise TrainingError(f"the model must predict numbers, got NaN: {ADVICE}")


class StopOnBadLoss(TrainerCallback):
    """Stops training with a sentence when a loss is no number, whatever is logged of it, before anything is saved.

    Args:
        trainer: Whose losses are looked at: on a CPU after every step, and on other devices whenever something is
            logged, measured or saved, which waits for the device anyway.
    """

    def __init__(self, trainer: LongTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Looks, if this is a moment to do so.

        Raises:
            TrainingError: If a loss, or a weight that would be saved, is NaN or infinite.
        """
        waits = control.should_log or control.should_evaluate or control.should_save
        if waits or args.device.type == "cpu":
            self.trainer.check_numbers(weights=control.should_save)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The same."""
        self.on_step_end(args, state, control)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Looks at everything once more."""
        self.trainer.check_numbers(weights=True)


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


def train(trainer: Any, arguments: LongTrainingArguments) -> dict[str, Any]:
    """Trains, from the newest complete checkpoint if there is one.

    Args:
        trainer: The trainer.
        arguments: Its arguments; `output_dir` is where the run's checkpoints are.

    Returns:
        What `results.json` keeps of it: seconds, steps, and whether it was resumed.

    Raises:
        InputError: If parameters were to be sharded and cannot be, or another checkpoint is to be resumed.
        TrainingError: If the loss is no number.
    """
    checkpoint = _checkpoint(Path(str(arguments.output_dir)), arguments.resume_from_checkpoint)
    if arguments.fsdp and not trainer.is_fsdp_enabled:
        raise InputError(
            "--fsdp needs several processes with an accelerator each: without it, parameters are not sharded"
        )
    clock = Clock(Path(str(arguments.output_dir)) / "seconds.json", is_new=checkpoint is None)
    trainer.add_callback(clock)
    if arguments.early_stopping_patience is not None:
        trainer.add_callback(EarlyStopping(arguments.early_stopping_patience))
    parameters = dict(trainer.model.named_parameters())
    if any(parameters[name].requires_grad for name in local_names(parameters)):
        encoder_config(trainer.model.config).global_projections = "trained"
    if checkpoint is not None and _is_over(Path(checkpoint)):
        _load_finished(trainer, Path(checkpoint))
    else:
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except KeyError as error:
            if "metric_for_best_model" not in str(error):
                raise
            asked = arguments.metric_for_best_model  # such as ROC-AUC, where all texts have a label
            raise TrainingError(
                f"{asked} cannot be measured on this data: choose another --metric_for_best_model"
            ) from error
    return {
        "seconds": clock.seconds,
        "steps": trainer.state.global_step,
        "resumed_from": None if checkpoint is None else Path(checkpoint).name,
    }


def sync_projections(model: Any) -> None:
    """Copies the local projections onto the global ones, if there are any, and records it in the configuration."""
    if model.config.global_projections == "shared":
        return
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, local in local_names(parameters).items():
            parameters[name].copy_(parameters[local])
    model.config.global_projections = "synced"


def _is_over(checkpoint: Path) -> bool:
    """Whether a checkpoint is that of the last step: `Trainer` would take one step more before it looks."""
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    is_last = state["global_step"] >= state["max_steps"] or bool(control.get("should_training_stop"))
    return is_last and any(checkpoint.glob("model*.safetensors"))  # and not shards of a sharded training


def _load_finished(trainer: Any, checkpoint: Path) -> None:
    """What `Trainer` leaves at the end of a training: its log, and the best model or the last."""
    trainer.state = TrainerState.load_from_json(str(checkpoint / STATE))
    best = trainer.state.best_model_checkpoint
    kept = Path(best) if trainer.args.load_best_model_at_end and best and Path(best).is_dir() else checkpoint
    trainer.model.load_state_dict(trainer.weights_of(kept))


def _checkpoint(folder: Path, asked: str | bool | None) -> str | None:
    """Where to go on: as asked for, which must be a place of this run."""
    if asked is None or str(asked).lower() in ("true", "1"):
        return newest_checkpoint(folder)
    if Path(str(asked)).resolve().parent != folder.resolve() or not (Path(str(asked)) / STATE).is_file():
        raise InputError(f"--resume_from_checkpoint must be a checkpoint in {folder}, of the same run, got {asked}")
    return str(asked)


def checkpoint_activations(arguments: LongTrainingArguments, length: int) -> None:
    """Switches activation checkpointing on where texts are long, unless it was decided already.

    Args:
        arguments: Changed in place.
        length: The longest text in tokens.
    """
    if getattr(arguments, CHECKPOINTING) is None and length > arguments.checkpoint_above:
        setattr(arguments, CHECKPOINTING, True)
        setattr(arguments, f"{CHECKPOINTING}_kwargs", {"use_reentrant": False})
