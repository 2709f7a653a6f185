# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The gate of an export: outputs of the written file beside those of the checkpoint, in PyTorch, in float32."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .samples import cases_of, lengths_of, sample

TOLERANCE = 1e-4  # largest difference of outputs, in float32

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def check(name: str, passed: bool, measured: Any, limit: Any = None) -> dict[str, Any]:
    """A line of a report, as the gate of a conversion has them."""
    return {"name": name, "passed": bool(passed), "measured": measured, "limit": limit}


@torch.no_grad()
def compare(model: Any, run: Run, with_global_mask: bool, tolerance: float | None = TOLERANCE) -> list[dict[str, Any]]:
    """Checks of the outputs of a file, one for each length, and of their shapes.

    Args:
        model: The checkpoint, in float32 and evaluation mode.
        run: What the file makes of inputs, by name.
        with_global_mask: Whether the file is told which tokens are global.
        tolerance: The largest difference; None: any that is a number.

    Returns:
        One dict per check: `name`, `passed`, `measured` (the largest difference over all outputs of real tokens; what
        went wrong, if it is a sentence) and `limit`.
    """
    config, checks = model.config, []
    for length in lengths_of(config):
        cases = [case for case in cases_of(config, with_global_mask) if case.length == length]
        largest: Any = 0.0
        for case in cases:
            inputs = sample(config, case, with_global_mask)
            found = difference(inputs, outputs_of(model, inputs), run({k: v.numpy() for k, v in inputs.items()}))
            if isinstance(found, str):
                largest = f"{found} ({case})"
                break
            largest = float(np.maximum(largest, found))  # NaN stays NaN
        limit = sys.float_info.max if tolerance is None else tolerance
        passed = not isinstance(largest, str) and largest <= limit  # NaN does not pass
        checks.append(check(f"outputs at {length:,} tokens, {len(cases)} batches", passed, largest, tolerance))
    return checks


def outputs_of(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Outputs of a model in PyTorch, by name."""
    return {name: tensor.float().numpy() for name, tensor in model(**inputs, return_dict=True).items()}


def difference(
    inputs: dict[str, torch.Tensor], expected: dict[str, np.ndarray], found: dict[str, np.ndarray]
) -> float | str:
    """The largest difference of outputs of real tokens, or a sentence where there is nothing to compare."""
    if missing := sorted(expected.keys() ^ found.keys()):
        return f"outputs must be {', '.join(expected)}, got other {', '.join(missing)}"
    real, largest = inputs["attention_mask"].bool().numpy(), 0.0
    for name, one in expected.items():
        if one.shape != found[name].shape:
            return f"{name} must have the shape {one.shape}, got {found[name].shape}"
        distance = np.abs(one - found[name])
        distance = distance[real] if distance.shape[: real.ndim] == real.shape else distance
        largest = float(np.maximum(largest, distance.max()))
    return largest
