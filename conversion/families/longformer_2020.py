# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Longformer checkpoints of 2020, from allenai's own code: named like RoBERTa, windows counted on one side."""

from typing import Any

from ..errors import InputError
from .family import SourceFamily

# How allenai's code computed the window; all are the same attention. Later files say "longformer" and count both sides.
ONE_SIDED_MODES = ("tvm", "sliding_chunks", "sliding_chunks_no_overlap", "n2")


def is_of_2020(config: dict[str, Any]) -> bool:
    """Whether a config.json is that of a RoBERTa with a window."""
    return config.get("model_type") in (None, "roberta", "longformer") and (
        config.get("attention_mode") in ONE_SIDED_MODES
        or (config.get("model_type") == "roberta" and "attention_window" in config)
    )


def as_stock(config: dict[str, Any]) -> dict[str, Any]:
    """The config.json as stock Longformer would have it: windows counted on both sides together.

    Raises:
        InputError: If it does not say how it counts, or has something that no trained checkpoint has.
    """
    mode, window = config.get("attention_mode"), config.get("attention_window")
    if mode not in (*ONE_SIDED_MODES, "longformer"):
        raise InputError(
            "whether attention_window counts one side or both cannot be seen from this config.json: put attention_mode "
            f"into it, 'sliding_chunks' for one side (allenai's code), 'longformer' for both, got {mode!r}"
        )
    if mode == "sliding_chunks_no_overlap":
        raise InputError(
            "attention_mode 'sliding_chunks_no_overlap' is a different attention, in blocks: ours cannot express it"
        )
    windows: list[Any] = window if isinstance(window, list) else [window]
    if not windows or any(type(one) is not int or one < 1 for one in windows):
        raise InputError(f"attention_window must be positive numbers of tokens, got {window!r}")
    dilations = config.get("attention_dilation", 1)
    if config.get("autoregressive") or {1} != set(dilations if isinstance(dilations, list) else [dilations]):
        raise InputError(
            "only undilated encoders can be converted, got "
            f"attention_dilation={dilations!r}, autoregressive={config.get('autoregressive')!r}"
        )
    sides = 1 if mode == "longformer" else 2
    known = {name: value for name, value in config.items() if name not in ("attention_dilation", "autoregressive")}
    doubled = [sides * one for one in windows]
    return {
        "architectures": ["LongformerForMaskedLM"],
        **known,
        "model_type": "longformer",
        "attention_window": doubled if isinstance(window, list) else doubled[0],
        "sep_token_id": config.get("sep_token_id", config.get("eos_token_id", 2)),
    }


FAMILY = SourceFamily(
    model_type="roberta with attention_window",
    class_prefix="Longformer",
    base_prefix="roberta",
    counts_from_padding=True,
    is_long=True,
    other_prefixes=("RobertaLong", "Roberta"),
    prepare=as_stock,
    key_mapping={r"^roberta\.": "longformer."},
)
