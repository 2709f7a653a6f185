# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Which values of Transformers' arguments a training here can have: what is not served is refused before anything is
read, with the reason.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import torch
from huggingface_hub import constants
from transformers import get_scheduler

from hf_longformer.conversion.errors import InputError, one_line

from .command_line import did_you_mean

# Arguments, the values that they can have, and why no others.
ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "eval_do_concat_batches": ((True,), "scores are of the predictions of all batches together"),
    "prediction_loss_only": ((False, None), "scores need predictions"),
    "batch_eval_metrics": ((False,), "scores are of the predictions of all batches together"),
    "label_names": ((None,), "a task knows what its labels are called"),
    "include_for_metrics": (([], None), "scores are made of predictions and labels alone"),
    "length_column_name": (("length", None), "lengths are counted here"),
}
SMALLEST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "eval_accumulation_steps": 1,
    "tokens_per_batch": 1,
    "context_parallel_size": 1,
    "early_stopping_patience": 1,
    "seed": 0,
    "data_seed": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "num_train_epochs": 0,
    "warmup_steps": 0,
    "label_smoothing_factor": 0,
    "preprocessing_num_workers": 1,
    "split_seed": 0,
    "max_train_samples": 1,
    "max_question_length": 1,
    "max_answer_length": 1,
    "n_best": 1,
    "windows_without_answer": 0,
    "global_every": 1,
    "global_masks": 0,
    "eval_length": 2,
    "eval_stride": 1,
    "eval_characters": 2,
    "mini_batch_size": 1,
    "mini_batch_tokens": 1,
    "hard_negatives": 0,
    "hard_negatives_margin": 0,
    "queries_per_document": 1,
    "queries_at_once": 1,
    "keep_passage": 0,
    "teacher_weight": 0,
    "chunk_size": 8,
    "segments": 16,
}
LARGEST = {
    "seed": 2**32 - 1,
    "data_seed": 2**32 - 1,
    "label_smoothing_factor": 1,
    "windows_without_answer": 1,
    "mlm_probability": 1,
    "keep_passage": 1,
    "hard_negatives_margin": 1,
    "teacher_weight": 1,
}
POSITIVE = ("mlm_probability", "temperature", "teacher_temperature")
HALF_EVALUATION = ("bf16_full_eval", "fp16_full_eval")


def check_limits(arguments: Any) -> None:
    """Refuses numbers that nothing can be done with.

    Args:
        arguments: A dataclass of arguments.

    Raises:
        InputError: If there is one; it is named.
    """
    for field in dataclasses.fields(arguments):
        name, value = field.name, getattr(arguments, field.name, None)
        if not isinstance(value, int | float):
            continue
        if not math.isfinite(value):
            raise InputError(f"--{name} must be a finite number, got {value}")
        if value < SMALLEST.get(name, value):
            raise InputError(f"--{name} must be at least {SMALLEST[name]}, got {value}")
        if value > LARGEST.get(name, value):
            raise InputError(f"--{name} must be at most {LARGEST[name]}, got {value}")
        if name in POSITIVE and value <= 0:
            raise InputError(f"--{name} must be more than 0, got {value}")


def check_training_arguments(arguments: Any) -> None:
    """Refuses values that no training here can have.

    Args:
        arguments: A `LongTrainingArguments`.

    Raises:
        InputError: If there is one; it is named.
    """
    for name, (values, why) in ONLY.items():
        if getattr(arguments, name, values[0]) not in values:
            raise InputError(f"--{name} can only be {values[0]} here, since {why}, got {getattr(arguments, name)}")
    if arguments.do_train:
        for name in HALF_EVALUATION:
            if getattr(arguments, name, False):
                raise InputError(
                    f"--{name} would leave the trained model in half precision: leave it out, or measure with "
                    f"`hf-longformer evaluate`, got {name} True in a training"
                )
    if arguments.push_to_hub and constants.HF_HUB_OFFLINE:
        raise InputError(
            "--push_to_hub needs the network, got HF_HUB_OFFLINE: unset it, or upload the finished run later with the "
            "same command"
        )


def check_schedule(arguments: Any) -> None:
    """Refuses arguments that the schedule of the learning rate does not have.

    Args:
        arguments: A `TrainingArguments`, complete.

    Raises:
        InputError: If the schedule cannot be made.
    """
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    options = arguments.lr_scheduler_kwargs or {}
    try:
        get_scheduler(arguments.lr_scheduler_type, optimizer, 1, 10, scheduler_specific_kwargs=dict(options))
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(
            f"--lr_scheduler_kwargs must suit --lr_scheduler_type, got {options}: {one_line(error)}"
        ) from error


def check_metric(asked: str, known: Iterable[str]) -> None:
    """Refuses to choose the best model by what is not measured.

    Args:
        asked: As `--metric_for_best_model` has it.
        known: What a task measures, beside the loss.

    Raises:
        InputError: If it is none of that.
    """
    names = list(dict.fromkeys(["loss", *known]))
    name = asked.removeprefix("eval_")
    if name not in names:
        raise InputError(
            f"--metric_for_best_model must be one of {', '.join(names)}, got {asked}{did_you_mean(name, names)}"
        )


def check_smoothing(task: str, smooths: bool, arguments: Any) -> None:
    """Refuses label smoothing where the loss of a task has none.

    Args:
        task: The name of the task.
        smooths: Whether it has.
        arguments: A `TrainingArguments`.

    Raises:
        InputError: If it was asked for in vain.
    """
    if arguments.label_smoothing_factor and not smooths:
        raise InputError(
            f"--label_smoothing_factor must be 0 for {task}, whose loss is of other things than one label per output, "
            f"got {arguments.label_smoothing_factor}"
        )


def lengths_to_pad_to(
    task: str, serves: bool, given: str | None, longest: int = 0, padding_side: str = "right"
) -> list[int] | None:
    """The lengths of `--pad_to_lengths`, in order; None if it is left out.

    Args:
        task: Its name.
        serves: Whether it pads to lengths.
        given: Numbers separated by commas.
        longest: Tokens of the longest text that the model will get, once that is known.
        padding_side: Of the tokenizer, once that is known.

    Raises:
        InputError: If the task does not, it is something else, the longest text is longer than all of them, or texts
            are padded on the left.
    """
    if given is None:
        return None
    if not serves:
        raise InputError(f"{task} batches are not padded to lengths: leave --pad_to_lengths out, got {given}")
    try:
        lengths = sorted({int(word) for word in given.split(",")})
    except ValueError as error:
        raise InputError(f"--pad_to_lengths must be whole numbers separated by commas, got {given!r}") from error
    if lengths[0] < 1:
        raise InputError(f"--pad_to_lengths must be numbers of at least 1, got {given}")
    if lengths[-1] < longest:
        raise InputError(
            f"the last of --pad_to_lengths must hold the longest text, {longest} tokens (--max_seq_length), got {given}"
        )
    if padding_side != "right":
        raise InputError(
            f"--pad_to_lengths needs a tokenizer that pads on the right, got padding_side={padding_side!r}"
        )
    return lengths
