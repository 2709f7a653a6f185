# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Bits per character of a masked language model on a text: the figure by which table 5 of the paper compares."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .errors import InputError
from .plan import Plan

MASKED_SHARE = 0.15
BEHIND_MASK, SEEN = 0.8, 0.1  # shares of the chosen tokens; the rest is replaced by any token
LONGEST_TEXT = 2**26  # bytes


class Bits(NamedTuple):
    """What a masked language model needs for a text.

    Args:
        bits_per_character: `bits_per_token` times the text's tokens, over its characters, spaces included.
        bits_per_token: Of chosen tokens, loss / ln 2: what the paper calls BPC.
        tokens: Length of the pieces that the text was cut into, special tokens included.
        masked: Number of chosen tokens.
        characters: Of the text.
    """

    bits_per_character: float
    bits_per_token: float
    tokens: int
    masked: int
    characters: int


def read_text(file: Path, plan: Plan) -> str:
    """A text to measure on.

    Raises:
        InputError: If it cannot be read, or the source cannot predict masked tokens.
    """
    tokenizer: Any = plan.source.tokenizer
    if plan.source.head != "ForMaskedLM":
        raise InputError(f"--eval-text needs a masked language model, got {plan.source.class_name}")
    if tokenizer is None or tokenizer.mask_token_id is None:
        raise InputError("--eval-text needs a tokenizer with a mask token, and the source has none")
    try:
        if file.stat().st_size > LONGEST_TEXT:
            raise InputError(f"--eval-text takes at most {LONGEST_TEXT:,} bytes, got {file.stat().st_size:,}")
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--eval-text must be a readable UTF-8 file, got {file}: {error}") from error
    if len(text.split()) < 2:
        raise InputError(f"--eval-text must hold words to predict, got {file}")
    return text


@torch.no_grad()
def bits_of_text(model: Any, tokenizer: Any, text: str, max_length: int, seed: int = 0) -> Bits:
    """Chooses 15 % of a text's tokens, the same ones at every length, and sums the bits that predicting them costs.

    As in training, and as `finetune mlm` measures: 80 % of them are behind the mask, 10 % are any token, 10 % are seen.

    Args:
        model: A masked language model, of this package or of Transformers.
        tokenizer: Its tokenizer, with a mask token.
        text: Any length: cut into pieces without overlap.
        max_length: Length of the pieces in tokens, special tokens included.
        seed: Chooses the masked tokens.
    """
    ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(len(ids), generator=generator) < MASKED_SHARE
    if not chosen.any():
        chosen[len(ids) // 2] = True
    kind = torch.rand(len(ids), generator=generator)
    anything = torch.randint(len(tokenizer), ids.shape, generator=generator)
    shown = torch.where(kind < BEHIND_MASK, tokenizer.mask_token_id, torch.where(kind < 1 - SEEN, anything, ids))
    shown = torch.where(chosen, shown, ids)
    first, last = torch.tensor([tokenizer.cls_token_id]), torch.tensor([tokenizer.sep_token_id])
    room, nats = max_length - 2, 0.0
    model.eval()
    for start in range(0, len(ids), room):
        piece, masked = ids[start : start + room], chosen[start : start + room]
        if not masked.any():
            continue
        seen = torch.cat([first, shown[start : start + room], last])
        logits = model(seen[None]).logits[0, 1:-1]
        nats += float(torch.nn.functional.cross_entropy(logits[masked].float(), piece[masked], reduction="sum"))
    per_token = nats / math.log(2) / int(chosen.sum())
    return Bits(per_token * len(ids) / len(text), per_token, max_length, int(chosen.sum()), len(text))
