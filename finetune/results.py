# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a training leaves beside the model: results, a card, curves, lines of predictions."""

import atexit
import enum
import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from transformers import Trainer, TrainingArguments

from hf_longformer.benchmarks.measure import machine
from hf_longformer.conversion.files import write_json, write_text
from hf_longformer.model_cards import render_trained_card

from .tasks import TASKS

HYPERPARAMETERS = (
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "num_train_epochs", "max_steps"),
    *("per_device_train_batch_size", "tokens_per_batch", "gradient_accumulation_steps", "bf16"),
    "context_parallel_size",
)


def save_results(
    folder: Path, results: dict[str, Any], trainer: Trainer, unit: str, local_files_only: bool = False
) -> dict[str, Any]:
    """Writes `curves.png`, a model card and, last, `results.json` beside the model, from the first process only.

    Where nothing was trained there is no model, and so neither card nor curves.

    Args:
        folder: The run's folder.
        results: What was measured, and whatever is to stand there instead of what the trainer says.
        trainer: Whose log the curves are drawn from.
        unit: What the loss is measured in.
        local_files_only: Whether the card of a checkpoint of the Hub, whose licence and language hold, is not fetched.

    Returns:
        What `results.json` holds.
    """
    atexit.register(_part)  # not now: there may be another run in these processes
    name = str(trainer.model.config.name_or_path)
    content = {"base": name, "model_class": _class_name(trainer.model), **provenance(trainer.args), **results}
    if trainer.is_world_process_zero():
        if "training" in results:
            place = trainer.args.hub_model_id or str(trainer.args.output_dir)
            draw_curves(trainer.state.log_history, folder / "curves.png", unit)
            task, base = TASKS[content["task"]], base_card(name, local_files_only)
            card = render_trained_card(content, task.purpose, task.use, base, place)
            write_text(folder / "README.md", str(card))
        write_json(folder / "results.json", content)
    return content


def base_card(name: str, local_files_only: bool) -> Path | None:
    """The card of a checkpoint, if it has one that can be had.

    Args:
        name: A folder or a Hub name; empty for none.
        local_files_only: Whether to stay off the network.
    """
    if not name or Path(name).exists():
        return Path(name) / "README.md" if name else None
    try:
        return Path(hf_hub_download(name, "README.md", local_files_only=local_files_only))
    except (OSError, ValueError):  # none there, or no network: the card says less
        return None


def _part() -> None:
    """Several processes part in order. Left to the end of the interpreter that fails now and then, with all written."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _class_name(model: Any) -> str:
    """Without the class that FSDP puts in front."""
    return next(one.__name__ for one in type(model).__mro__ if not one.__name__.startswith("FSDP"))


def provenance(arguments: TrainingArguments) -> dict[str, Any]:
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
