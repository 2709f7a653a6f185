# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What all training scripts share: resuming, stopping when the loss is no number, results and curves."""

import json
import math
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_longformer.benchmarks.measure import machine

from .arguments import LongTrainingArguments
from .errors import TrainingError

STATE = "trainer_state.json"


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
        TrainingError: If the loss is no number.
    """
    checkpoint = arguments.resume_from_checkpoint or newest_checkpoint(Path(str(arguments.output_dir)))
    start = time.monotonic()
    trainer.add_callback(StopOnBadLoss())
    trainer.train(resume_from_checkpoint=checkpoint)
    return {
        "seconds": time.monotonic() - start,
        "steps": trainer.state.global_step,
        "resumed_from": None if checkpoint is None else Path(checkpoint).name,
    }


def save_results(folder: Path, results: dict[str, Any], trainer: Trainer, unit: str) -> None:
    """Writes `results.json` and `curves.png` beside the model, from the first process only.

    Args:
        folder: The run's folder.
        results: What was measured.
        trainer: Whose log the curves are drawn from.
        unit: What the loss is measured in.
    """
    if not trainer.is_world_process_zero():
        return
    content = {
        **results,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": trainer.args.seed,
        "bf16": trainer.args.bf16,
        "device": trainer.args.device.type,
        "processes": trainer.args.world_size,
        **machine(),
    }
    write_json(folder / "results.json", content)
    draw_curves(trainer.state.log_history, folder / "curves.png", unit)


def write_json(file: Path, content: Any) -> None:
    """Writes a JSON file that is there whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, file)


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
