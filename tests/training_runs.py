# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What the tests of all training scripts share: the losses of a run, and a kill."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


def log_of(folder: Path) -> list[dict[str, float]]:
    """What was logged up to the last checkpoint."""
    state = max(folder.glob("checkpoint-*/trainer_state.json"), key=lambda file: int(file.parent.name.split("-")[1]))
    return json.loads(state.read_text())["log_history"]


def losses(folder: Path) -> list[float]:
    """The losses of the steps up to the last checkpoint."""
    return [entry["loss"] for entry in log_of(folder) if "loss" in entry]


class Kill(TrainerCallback):
    """Stops in the middle, as a kill would. Takes the place of `StopOnBadLoss`, with the same arguments."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 6:
            raise KeyboardInterrupt
