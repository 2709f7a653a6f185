# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Which implementation of the attention a model takes for a batch, and why it does not take the others."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Cache

from .dispatch import IMPLEMENTATIONS, recorded_choices
from .modeling_hf_longformer import HfLongformerPreTrainedModel

TIMES = "{} times (once per layer and text that is read by itself)"
OTHERS = {
    "eager": "the definition, on dense weights",
    "weights": "explicit weights of windows, since they are asked for",
    "causal": "explicit weights of small blocks, behind a cache or with relative positions",
}


def explain_attention(model: HfLongformerPreTrainedModel, batch: Mapping[str, Any]) -> str:
    """What computes the attention of a batch, one implementation per line, with the reason why it is not taken.

    The model reads the batch once, without gradients: what is said is what happened, not what should.

    Args:
        model: Any model of this package, on its device and in its dtype.
        batch: Arguments of its `forward`.

    Raises:
        ValueError: If a cache is among them, which would go on by being read.
        NotImplementedError: If an implementation is asked for that cannot be had.
    """
    if any(isinstance(value, Cache) for value in batch.values()):
        raise ValueError("a cache would go on by what is read here: pass all tokens at once instead, got a cache")
    asked = model.config._attn_implementation
    with torch.no_grad(), recorded_choices() as choices:
        model(**batch)
    taken = Counter(name for name, reason in choices if reason is None)
    reasons = dict(choices)
    lines = [f'attn_implementation="{asked}" on {model.device} in {model.dtype}']
    lines += [f"{OTHERS[name]}: taken {TIMES.format(count)}" for name, count in taken.items() if name in OTHERS]
    if asked == "eager":
        return "\n".join(lines)
    for name in IMPLEMENTATIONS:
        if name in taken:
            lines.append(f"{name}: taken {TIMES.format(taken[name])}")
        elif name in reasons:
            lines.append(f"{name}: not taken, it {reasons[name]}")
        else:
            why = "only taken if it is asked for" if name.startswith("flex_attention") else "not needed"
            lines.append(f"{name}: {why}")
    return "\n".join(lines)


__all__ = ["explain_attention"]
