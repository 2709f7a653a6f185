# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What models of labels are trained with: one label, several labels or a number per text."""

from typing import Any

import numpy as np
import torch

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


class Loss:
    """The loss of a batch, summed and divided by the labels of the whole step, over all processes: `Trainer`'s
    `compute_loss_func`.

    Args:
        problem_type: As in `Labels`.
        weights: Of the classes, `(labels,)`, for single labels.
        smoothing: Share of every single label that is spread over all labels.
    """

    def __init__(self, problem_type: str, weights: torch.Tensor | None = None, smoothing: float = 0.0) -> None:
        self.problem_type, self.weights, self.smoothing = problem_type, weights, smoothing

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """A scalar, from `outputs.logits` `(batch, labels)` and `labels` `(batch,)` or `(batch, labels)`."""
        logits = outputs.logits.float()
        if self.problem_type == SINGLE:
            weights = None if self.weights is None else self.weights.to(logits.device)
            options: dict[str, Any] = {"weight": weights, "label_smoothing": self.smoothing, "reduction": "sum"}
            total = torch.nn.functional.cross_entropy(logits, labels, **options)
        elif self.problem_type == MULTI:
            total = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum")
        else:
            total = (logits[:, 0] - labels.float()).square().sum()
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)


def balanced_weights(labels: list[int], number: int) -> torch.Tensor:
    """Weights `(number,)` that give every class the same weight in all, and a text 1 on average."""
    counts = np.bincount(labels, minlength=number)
    return torch.tensor(len(labels) / (np.maximum(counts, 1) * (counts > 0).sum()), dtype=torch.float32)
