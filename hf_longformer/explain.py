# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Which implementation of the attention a model takes for a batch, and why it does not take the others."""

from collections.abc import Mapping
from typing import Any

import torch

from .dispatch import IMPLEMENTATIONS, recorded_choices
from .modeling_hf_longformer import HfLongformerPreTrainedModel


def explain_attention(model: HfLongformerPreTrainedModel, batch: Mapping[str, Any]) -> str:
    """What computes the attention of a batch, one implementation per line, with the reason why it is not taken.

    The model reads the batch once, without gradients: what is said is what happened, not what should.

    Args:
        model: Any model of this package, on its device and in its dtype.
        batch: Arguments of its `forward`.

    Raises:
        NotImplementedError: If an implementation is asked for that cannot be had.
    """
    asked = model.config._attn_implementation
    with torch.no_grad(), recorded_choices() as choices:
        model(**batch)
    taken = [name for name, reason in choices if reason is None]
    lines = [f'attn_implementation="{asked}" on {model.device} in {model.dtype}']
    if asked == "eager":
        return "\n".join([*lines, "eager: taken (the definition, on dense weights)"])
    if not taken:
        return "\n".join([*lines, "blocked: taken, by explicit weights: attention weights or a cache are asked for"])
    reasons = dict(choices)
    for name in IMPLEMENTATIONS:
        if name in taken:
            lines.append(f"{name}: taken {taken.count(name)} times (once per layer and text that is read by itself)")
        elif name in reasons:
            lines.append(f"{name}: not taken, it {reasons[name]}")
        else:
            why = "only taken if it is asked for" if name == "flex_attention" else "not needed"
            lines.append(f"{name}: {why}")
    return "\n".join(lines)


__all__ = ["explain_attention"]
