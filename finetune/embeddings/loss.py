# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What sentence encoders are trained with: queries find their documents among those of the batch, and rank all of them
as a teacher does.
"""

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MatryoshkaLoss
from sentence_transformers.util import cos_sim, dot_score

from hf_longformer.conversion import InputError

SIMILARITIES = {"cosine": cos_sim, "dot": dot_score}


class RankingLoss(CachedMultipleNegativesRankingLoss):
    """The ranking loss, where queries may share a document, and beside it the divergence from a teacher's ranking.

    `labels` `(queries, 1 + documents)` are the number of every query's own document among those of the batch, positives
    first, then the first negatives of all rows, and so on; and the teacher's scores of the query and all documents,
    `(queries, 1)` if there is no teacher. Without labels the i-th document is the i-th query's. The loss is
    `weight · KL(softmax(scores / teacher_temperature) ‖ softmax(scale · similarity)) + (1 - weight) · ranking`.

    Args:
        model: A `SentenceTransformer`.
        weight: Of the teacher, from 0, which needs no scores, to 1.
        teacher_temperature: What the teacher's scores are divided by.
        in_one_pass: Whether a batch of no more tokens than a mini-batch is embedded once, with gradients; otherwise, as
            theirs, twice, without and with. Gradients are the same.
        **options: For `CachedMultipleNegativesRankingLoss`.
    """

    def __init__(
        self,
        model: Any,
        weight: float = 0.0,
        teacher_temperature: float = 1.0,
        in_one_pass: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        self.weight, self.teacher_temperature, self.in_one_pass = weight, teacher_temperature, in_one_pass

    def forward(self, sentence_features: Iterable[dict[str, torch.Tensor]], labels: Any) -> torch.Tensor:
        """A scalar, from the tokens of every column."""
        features = list(sentence_features)
        room = self.mini_batch_num_tokens if self.in_one_pass else None
        if room is None or sum(int(one["attention_mask"].sum()) for one in features) > room:
            return super().forward(features, labels)
        return self.calculate_loss([[self.model(dict(one))["sentence_embedding"]] for one in features], labels)

    def calculate_loss(
        self, reps: list[list[torch.Tensor]], labels: torch.Tensor | None = None, *, with_backward: bool = False
    ) -> torch.Tensor:
        """A scalar, from embeddings `(texts, size)` by column and mini-batch, as sentence-transformers calls it."""
        if labels is None or not labels.numel():
            return super().calculate_loss(reps, with_backward=with_backward)
        queries, documents = torch.cat(reps[0]), torch.cat([part for column in reps[1:] for part in column])
        found = torch.log_softmax(self.similarity_fct(queries, documents).float() * self.scale, dim=1)
        loss = (1 - self.weight) * torch.nn.functional.nll_loss(found, labels[:, 0].long())
        if self.weight:
            wanted = torch.softmax(labels[:, 1:].float() / self.teacher_temperature, dim=1)
            loss = loss + self.weight * torch.nn.functional.kl_div(found, wanted, reduction="batchmean")
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

    Raises:
        InputError: If the model's similarity is none of a product.
    """
    kind = model.similarity_fn_name
    if kind not in SIMILARITIES:
        raise InputError(f"the similarity of a model must be {' or '.join(SIMILARITIES)} to be trained, got {kind}")
    options: dict[str, Any] = {"scale": 1 / data.temperature, "similarity_fct": SIMILARITIES[kind]}
    if data.mini_batch_size is None:
        options["mini_batch_num_tokens"] = data.mini_batch_tokens
    else:
        options["mini_batch_size"] = data.mini_batch_size
    weight = 0.0 if data.teacher == "none" else data.teacher_weight
    in_one_pass = not data.matryoshka_dims  # `MatryoshkaLoss` stands between the passes
    loss = RankingLoss(model, weight, data.teacher_temperature, in_one_pass, **options)
    return MatryoshkaLoss(model, loss, data.matryoshka_dims) if data.matryoshka_dims else loss
