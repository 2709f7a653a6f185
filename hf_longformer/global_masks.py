# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Which tokens get global attention, and a collator that carries the answer into a batch; another for few lengths.

A converted model keeps the tokenizer of its source. What a tokenizer does not know is which tokens are global.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase
from transformers.utils import logging

logger = logging.get_logger(__name__)


def global_attention_mask(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    cls: bool = False,
    question: bool = False,
    after_separator: bool = False,
    sep_token_id: int | None = None,
    positions: Sequence[int] | None = None,
    token_ids: Sequence[int] | None = None,
    every: int | None = None,
) -> torch.Tensor:
    """Marks the tokens that attend to the whole text and that the whole text attends to (section 3.1 of the paper).

    Several choices may be combined: their union is taken. Padding is never marked.

    Args:
        input_ids: `(batch, S)`.
        attention_mask: `(batch, S)`, 1 for real tokens; all are real if left out.
        cls: The first real token of every row, which is `<s>` or `[CLS]`: for classification.
        question: Everything before the first separator of every row: for question answering. A row without a
            separator gets `cls`, with one warning.
        after_separator: Everything behind the first separator of every row (and behind those that follow it directly):
            the choices of multiple choice. A row without a separator gets `cls`, with one warning.
        sep_token_id: The separator, for the two above.
        positions: Positions counted from the start of the row, padding included.
        token_ids: Every token with one of these ids, such as marker tokens.
        every: Every k-th real token, beginning with the first.

    Returns:
        `(batch, S)`, int64, 1 for global tokens.

    Raises:
        ValueError: If nothing is chosen, a separator is needed and missing, or a position is outside the row.
    """
    if not (cls or question or after_separator or every or positions is not None or token_ids is not None):
        raise ValueError("choose global tokens: cls, question, after_separator, positions, token_ids or every")
    if every is not None and every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    real = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    chosen = torch.zeros_like(real)
    if cls:
        chosen = chosen | first_real_token(real)
    if question or after_separator:
        if sep_token_id is None:
            raise ValueError("question and after_separator need sep_token_id, got None")
        chosen = chosen | _beside_separator(input_ids.eq(sep_token_id), real, question, after_separator)
    if every:
        chosen = chosen | ((real.cumsum(dim=1) - 1) % every == 0)
    if token_ids is not None:
        chosen = chosen | torch.isin(input_ids, torch.as_tensor(list(token_ids), device=input_ids.device))
    if positions is not None:
        outside = [position for position in positions if not 0 <= position < input_ids.shape[1]]
        if outside:
            raise ValueError(f"positions must lie in 0 … {input_ids.shape[1] - 1}, got {outside}")
        chosen[:, list(positions)] = True
    return (chosen & real).long()


def first_real_token(real: torch.Tensor) -> torch.Tensor:
    """`(batch, S)` bool to `(batch, S)` bool: the first True of every row alone."""
    return real & (real.cumsum(dim=1) == 1)


def _beside_separator(separator: torch.Tensor, real: torch.Tensor, before: bool, after: bool) -> torch.Tensor:
    separator = separator & real
    seen = separator.cumsum(dim=1)
    chosen = torch.zeros_like(real)
    if before:
        chosen = chosen | (seen == 0)
    if after:  # but not the first separator, nor those directly behind it, as in RoBERTa's pairs
        since_first = (seen > 0).cumsum(dim=1)
        chosen = chosen | ((seen > 0) & (seen != since_first))
    has_separator = separator.any(dim=1, keepdim=True)
    if not torch.compiler.is_compiling() and not has_separator.all():
        logger.warning_once(
            "a text without a separator token has no question or choice to give global attention to: its first token "
            "gets it instead; pass global_attention_mask to decide otherwise"
        )
    # Not `torch.where`: ONNX Runtime has none for bools.
    return (has_separator & chosen) | (~has_separator & first_real_token(real))


@dataclass
class DataCollatorWithGlobalAttention:
    """Makes a batch with a `global_attention_mask`, which the tokenizer's own padding does not know.

    Features may bring a `global_attention_mask` of their own, as lists as long as their `input_ids`: it is padded with
    0. Those that do not get one built by `global_attention`. Works with `Trainer`, whose models' `forward` names the
    argument.

    Args:
        tokenizer: Pads the rest of the batch, and knows the separator and the padding side.
        global_attention: `"cls"`, `"question"`, `"none"`, or a function from `input_ids` and `attention_mask`, both
            `(batch, S)`, to a mask `(batch, S)` of 0 and 1. None: only masks that the features bring are padded.
        collator: Any other collator of Transformers that makes the rest of the batch, such as
            `DataCollatorForTokenClassification(tokenizer)`; `DataCollatorWithPadding(tokenizer)` if left out.
    """

    tokenizer: PreTrainedTokenizerBase
    global_attention: str | Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = "cls"
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        names = ("cls", "question", "none", None)
        if self.global_attention not in names and not callable(self.global_attention):
            raise ValueError(
                f"global_attention must be 'cls', 'question', 'none', None or a function, got {self.global_attention!r}"
            )

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Collates features to a batch of tensors with `global_attention_mask` `(batch, S)`."""
        given = [feature.get("global_attention_mask") for feature in features]
        name = "global_attention_mask"
        collator = self.collator or DataCollatorWithPadding(self.tokenizer)
        batch = collator([{key: feature[key] for key in feature if key != name} for feature in features])
        if self.global_attention is None and all(mask is None for mask in given):
            return batch
        shape = batch["input_ids"].shape
        input_ids = batch["input_ids"].reshape(-1, shape[-1])
        attention_mask = batch.get("attention_mask", torch.ones(shape, dtype=torch.long)).reshape(-1, shape[-1])
        masks = self._build(input_ids, attention_mask).reshape(shape)
        for row, mask in enumerate(given):
            if mask is not None:
                masks[row] = self._pad(mask, features[row]["input_ids"], masks[row])
        batch["global_attention_mask"] = masks
        return batch

    def _build(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if callable(self.global_attention):
            return self.global_attention(input_ids, attention_mask).long()
        if self.global_attention in (None, "none"):
            return torch.zeros_like(input_ids)
        kind: dict[str, Any] = {str(self.global_attention): True, "sep_token_id": self.tokenizer.sep_token_id}
        return global_attention_mask(input_ids, attention_mask, **kind)

    def _pad(self, mask: Any, input_ids: Any, like: torch.Tensor) -> torch.Tensor:
        if like.dim() > 1:  # choices, each of its own length
            choices = zip(mask, input_ids, like, strict=True)
            return torch.stack([self._pad(*choice) for choice in choices])
        if not len(mask) == len(input_ids) <= len(like):
            raise ValueError(
                "global_attention_mask of a feature must be as long as its input_ids, "
                f"got {len(mask)} entries for {len(input_ids)} tokens in a batch padded to {len(like)}"
            )
        missing = len(like) - len(mask)
        left = missing if self.tokenizer.padding_side == "left" else 0
        return torch.nn.functional.pad(torch.as_tensor(mask, dtype=like.dtype), (left, missing - left))


# What tensors of a batch are filled up with, if it is not an id.
FILLED_WITH = {
    "attention_mask": 0,
    "global_attention_mask": 0,
    "candidates": False,
    "labels": -100,
    "special_tokens_mask": 1,
}


@dataclass
class DataCollatorToLengths:
    """Fills batches up to one of a few lengths: a compiled model has a program, or a CUDA graph, for each of them and
    for each number of texts (`dataloader_drop_last=True` leaves one number).

    Args:
        tokenizer: Knows the ids of padding; its padding side must be the right.
        lengths: Tokens, at least one length. A batch takes the smallest that holds it; one that none holds is refused.
        collator: Any other collator, which makes the batch; `DataCollatorWithPadding(tokenizer)` if left out.

    Raises:
        ValueError: If lengths or padding side are others; on a batch, if it is longer than all lengths, or has a tensor
            `(batch, S)` that nobody knows how to fill up.
    """

    tokenizer: PreTrainedTokenizerBase
    lengths: Sequence[int]
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError(f"lengths must be whole numbers of at least 1, got {list(self.lengths)}")
        if self.tokenizer.padding_side != "right":
            raise ValueError(f"texts must be padded on the right, got padding_side={self.tokenizer.padding_side!r}")

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Collates features to a batch `(batch, S)`, S one of the lengths."""
        batch = dict((self.collator or DataCollatorWithPadding(self.tokenizer))(features))
        shape = batch["input_ids"].shape
        length = min((length for length in self.lengths if length >= shape[-1]), default=None)
        if length is None:
            raise ValueError(f"a batch of {shape[-1]} tokens fits none of the lengths {sorted(self.lengths)}: cut it")
        if "attention_mask" not in batch:
            batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        ids = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": self.tokenizer.pad_token_type_id}
        for name, tensor in batch.items():
            if not isinstance(tensor, torch.Tensor) or tensor.shape != shape:
                continue
            if name not in FILLED_WITH | ids:
                raise ValueError(f"{name} has the shape of input_ids, {tuple(shape)}, and cannot be filled up")
            fill = ids[name] if name in ids else FILLED_WITH[name]
            batch[name] = torch.nn.functional.pad(tensor, (0, length - shape[-1]), value=fill)
        return batch


__all__ = ["DataCollatorToLengths", "DataCollatorWithGlobalAttention", "global_attention_mask"]
