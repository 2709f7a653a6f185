# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The loss over all gold spans, and the likeliest spans of a window."""

from typing import Any

import torch

from ..training import LongTrainer

SPARE = 4  # spans are looked at for every answer that is wanted: some become the same when they are made whole words
FIRST_STARTS = 20  # the likeliest first tokens, and as many last ones, that are combined to answers


def span_loss(logits: torch.Tensor, candidates: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    """Minus the log of the probability of all gold tokens together, `(batch,)`: an OR over spans, as in section 6.

    Args:
        logits: `(batch, S)`, of first or of last tokens.
        candidates: `(batch, S)`, the tokens among which one is chosen.
        gold: `(batch, spans)`, positions, padded with -1.
    """
    logits = logits.float().masked_fill(~candidates, -torch.inf)
    is_gold = torch.zeros_like(candidates)
    rows, columns = (gold >= 0).nonzero(as_tuple=True)
    is_gold[rows, gold[rows, columns]] = True
    return logits.logsumexp(dim=-1) - logits.masked_fill(~is_gold, -torch.inf).logsumexp(dim=-1)


@torch.no_grad()
def best_spans(
    start_logits: torch.Tensor, end_logits: torch.Tensor, candidates: torch.Tensor, n_best: int, answer_length: int
) -> torch.Tensor:
    """The likeliest answers of every window.

    Args:
        start_logits: `(batch, S)`.
        end_logits: `(batch, S)`.
        candidates: `(batch, S)`; the first of a row stands for "no answer here".
        n_best: How many.
        answer_length: Tokens of an answer, at most.

    Returns:
        `(batch, 1 + n_best, 3)`, float32: first token, last token, and the log of the probability; "no answer here"
        first, then by probability, and minus infinity where a window has not so many.
    """
    start, end = (
        logits.float().masked_fill(~candidates, -torch.inf).log_softmax(dim=-1) for logits in (start_logits, end_logits)
    )
    null = candidates.int().argmax(dim=-1, keepdim=True)
    nothing = torch.cat([null, null, start.gather(1, null) + end.gather(1, null)], dim=1)[:, None]
    number = min(FIRST_STARTS, start.shape[1])
    start, first = start.scatter(1, null, -torch.inf).topk(number)
    end, last = end.scatter(1, null, -torch.inf).topk(number)
    size = last[:, None, :] - first[:, :, None] + 1
    together = (start[:, :, None] + end[:, None, :]).masked_fill((size < 1) | (size > answer_length), -torch.inf)
    score, place = together.flatten(1).topk(min(n_best, number * number))
    spans = [first.gather(1, place // number), last.gather(1, place % number), score]
    found = torch.stack([one.float() for one in spans], dim=-1)
    missing = n_best - found.shape[1]
    padding = found.new_full((len(found), missing, 3), -torch.inf)
    return torch.cat([nothing.float(), found, padding], dim=1)


def spans_of(outputs: Any, batch: dict[str, Any], tokenizer: Any, n_best: int, answer_length: int) -> torch.Tensor:
    """`best_spans` of a batch, with positions counted from the first real token."""
    spans = best_spans(outputs.start_logits, outputs.end_logits, batch["candidates"], n_best, answer_length)
    if tokenizer.padding_side == "left":
        spans[:, :, :2] -= (batch["attention_mask"] == 0).sum(dim=1)[:, None, None]
    return spans


class QuestionAnsweringTrainer(LongTrainer):
    """A trainer with the loss over all gold spans, whose predictions are the best spans of every window.

    Args:
        n_best: Answers that are wanted of a window: so many spans, times `SPARE`, are kept.
        answer_length: Tokens of an answer, at most.
    """

    def __init__(self, *args: Any, n_best: int, answer_length: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.n_best, self.answer_length = n_best, answer_length
        self.label_names = ["labels"]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over all windows of a step, on all processes, of the loss of first and last tokens."""
        names = ("candidates", "starts", "ends", "labels")
        candidates, starts, ends, _ = (inputs[name] for name in names)
        outputs = model(**{name: value for name, value in inputs.items() if name not in names})
        losses = span_loss(outputs.start_logits, candidates, starts) + span_loss(outputs.end_logits, candidates, ends)
        if num_items_in_batch is None:
            loss = losses.mean() / 2
        else:
            processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            loss = losses.sum() / 2 / num_items_in_batch * processes
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Loss, best spans `(batch, 1 + n_best, 3)` and the question of every window `(batch,)`."""
        inputs = self.prepared_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        spans = spans_of(outputs, inputs, self.processing_class, SPARE * self.n_best, self.answer_length)
        return loss.detach(), spans, inputs["labels"]
