# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What sentence encoders are trained with: queries find their documents among those of the batch, and rank all of them
as a teacher does.
"""

from typing import Any

import torch
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MatryoshkaLoss


class DistilledRankingLoss(CachedMultipleNegativesRankingLoss):
    """The ranking loss, and beside it the divergence from a teacher's ranking of the documents of the batch.

    `labels` `(batch, documents)` are the teacher's scores of every query and all documents of the batch: positives
    first, then the first negatives of all rows, and so on. The loss is
    `weight · KL(softmax(labels / teacher_temperature) ‖ softmax(scale · similarity)) + (1 - weight) · ranking`.

    Args:
        model: A `SentenceTransformer`.
        weight: Of the teacher, from 0 to 1.
        teacher_temperature: What the teacher's scores are divided by.
        **options: For `CachedMultipleNegativesRankingLoss`.
    """

    def __init__(self, model: Any, weight: float, teacher_temperature: float, **options: Any) -> None:
        super().__init__(model, **options)
        self.weight, self.teacher_temperature = weight, teacher_temperature

    def calculate_loss(
        self, reps: list[list[torch.Tensor]], labels: torch.Tensor | None = None, *, with_backward: bool = False
    ) -> torch.Tensor:
        """A scalar, from embeddings `(texts, size)` by column and mini-batch, as sentence-transformers calls it."""
        queries, documents = torch.cat(reps[0]), torch.cat([part for column in reps[1:] for part in column])
        wanted = torch.softmax(labels.float() / self.teacher_temperature, dim=1)
        found = torch.log_softmax(self.similarity_fct(queries, documents).float() * self.scale, dim=1)
        loss = self.weight * torch.nn.functional.kl_div(found, wanted, reduction="batchmean")
        if self.weight < 1:
            loss = loss + (1 - self.weight) * super().calculate_loss(reps)
        if with_backward:
            loss.backward()
            loss = loss.detach()
        return loss


def make_loss(model: Any, data: Any) -> torch.nn.Module:
    """The loss that the arguments of the task ask for.

    Args:
        model: A `SentenceTransformer`.
        data: With `temperature`, `mini_batch_size`, `mini_batch_tokens`, `teacher`, `teacher_weight`,
            `teacher_temperature` and `matryoshka_dims`.
    """
    options: dict[str, Any] = {"scale": 1 / data.temperature}
    if data.mini_batch_size is None:
        options["mini_batch_num_tokens"] = data.mini_batch_tokens
    else:
        options["mini_batch_size"] = data.mini_batch_size
    if data.teacher == "none":
        loss: torch.nn.Module = CachedMultipleNegativesRankingLoss(model, **options)
    else:
        loss = DistilledRankingLoss(model, data.teacher_weight, data.teacher_temperature, **options)
    return MatryoshkaLoss(model, loss, data.matryoshka_dims) if data.matryoshka_dims else loss
