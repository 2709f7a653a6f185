# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""A trainer whose evaluation writes summaries."""

from typing import Any

import torch
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from ..training import LongTrainer
from .generation import write


class SummarizationTrainer(LongTrainer):
    """`LongTrainer` whose predictions are, for every document, the sum of the losses of its labels, how many labels it
    has, and, if `generates`, the tokens of a summary, padded with -100.

    Transformers' `Seq2SeqTrainer` encodes every document twice, and its loss is a mean of means of batches.

    Args:
        generation: How summaries are written.
        generates: Whether they are.
    """

    def __init__(self, *args: Any, generation: GenerationConfig, generates: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.generation, self.generates = generation, generates

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """As `Trainer`'s. The documents are encoded once."""
        inputs = self.prepared_inputs(inputs)
        labels = inputs.pop("labels")
        of_encoder = {name: inputs[name] for name in inputs if not name.startswith("decoder_")}
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**inputs, use_cache=False)
            each = torch.nn.functional.cross_entropy(outputs.logits.float().mT, labels, reduction="none")
            found: tuple[Any, ...] = (each.sum(dim=1), (labels != -100).sum(dim=1))
            if self.generates:
                encoded = BaseModelOutput(last_hidden_state=outputs.encoder_last_hidden_state)
                ids, _ = write(self.model, of_encoder, self.generation, encoder_outputs=encoded)
                found += (ids,)
        return found[0].sum() / found[1].sum(), found, labels
