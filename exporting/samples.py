# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Random texts by which an exported file is compared with its checkpoint: short and long, padded on either side, with
no global token, one and many.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from .heads import CHOICES, GLOBAL, HEADS, TOKEN_TYPES, head_of

LONGEST, LONGEST_OF_SEVERAL = 4096, 2048  # tokens of a text, and of three at once
MANY = 9  # global tokens of the first text; the others have fewer
NUM_CHOICES = 2
TRACED = (2, 67)  # texts and tokens that are traced


class Case(NamedTuple):
    """Texts to compare by.

    Args:
        batch: How many.
        length: Tokens of each, padding included.
        padding: "left", "right" or "none": the first of several texts has more padding than the others.
        num_global: Global tokens of the first text, where the file is told which they are; one less in each other.
    """

    batch: int
    length: int
    padding: str
    num_global: int | None

    def __str__(self) -> str:
        told = "" if self.num_global is None else f", {self.num_global} global"
        return f"{self.batch} × {self.length} tokens, padding {self.padding}{told}"


def lengths_of(config: Any) -> list[int]:
    """Seven or eight lengths: one token, around one and two windows, between, and the longest (to 4,096 tokens)."""
    longest, window = min(config.max_length_tokens, LONGEST), max(config.attention_windows)
    wanted = {1, 7, window - 1, window + 1, 2 * window, 2 * window + 1, 3 * window // 2 + 6, longest}
    found = sorted(length for length in wanted if 1 <= length <= longest)
    spare = [length for length in (2, 3, 33, 65, 129, 257) if length <= longest and length not in found]
    return sorted([*found, *spare[: max(0, 7 - len(found))]])


def cases_of(config: Any, with_global_mask: bool) -> Iterator[Case]:
    """The cases of one checkpoint."""
    for length in lengths_of(config):
        counts = (0, 1, MANY) if with_global_mask else (None,)
        for number in counts:
            yield Case(1, length, "none", number)
            if length <= LONGEST_OF_SEVERAL:
                yield from (Case(3, length, side, number) for side in ("left", "right"))
            elif number in (None, MANY):
                yield Case(1, length, "left", number)


def sample(config: Any, case: Case, with_global_mask: bool, seed: int = 0) -> dict[str, torch.Tensor]:
    """Inputs of one case: `(batch, length)` or `(batch, choices, length)`, int64."""
    generator = torch.Generator().manual_seed(seed + 7919 * case.length + case.batch)
    has_choices = HEADS[head_of(config)] is CHOICES
    rows = case.batch * (NUM_CHOICES if has_choices else 1)
    shape = (rows, case.length)
    input_ids = _words(config)[torch.randint(len(_words(config)), shape, generator=generator)]
    if config.sep_token_id is not None and case.length > 4:
        places = torch.randint(1, case.length - 1, (rows,), generator=generator)
        input_ids[torch.arange(rows), places] = config.sep_token_id
    attention_mask = _mask(rows, case)
    input_ids[attention_mask == 0] = config.pad_token_id or 0
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if config.type_vocab_size > 1:
        inputs[TOKEN_TYPES] = (torch.arange(case.length) > case.length // 3).long().repeat(rows, 1)
    if with_global_mask:
        inputs[GLOBAL] = _global_mask(attention_mask, case.num_global or 0, generator)
    if has_choices:
        inputs = {name: tensor.unflatten(0, (case.batch, NUM_CHOICES)) for name, tensor in inputs.items()}
    return inputs


def _words(config: Any) -> torch.Tensor:
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    special = {config.pad_token_id, config.bos_token_id, config.sep_token_id, *ends}
    return torch.tensor([token for token in range(config.vocab_size) if token not in special])


def _mask(rows: int, case: Case) -> torch.Tensor:
    """At least one token of every text is real."""
    mask = torch.ones(rows, case.length, dtype=torch.long)
    if case.padding == "none":
        return mask
    for row in range(rows):
        padded = min(case.length - 1, case.length * (3 - row % 3) // 5)
        columns = slice(padded) if case.padding == "left" else slice(case.length - padded, None)
        mask[row, columns] = 0
    return mask


def _global_mask(attention_mask: torch.Tensor, number: int, generator: torch.Generator) -> torch.Tensor:
    mask = torch.zeros_like(attention_mask)
    for row, real in enumerate(attention_mask):
        places = real.nonzero().flatten()
        chosen = torch.randperm(len(places), generator=generator)[: max(0, number - row)]
        mask[row, places[chosen]] = 1
    return mask
