# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a model works out of its inputs before the first layer: shapes, positions, global tokens by default, and a
refusal of what would otherwise fail inside a kernel, or not at all.
"""

import difflib
import sys
from collections.abc import Collection
from typing import Any

import torch
from transformers.utils import logging

from .configuration_hf_longformer import UNLIMITED, HfLongformerConfig
from .global_masks import first_real_token, global_attention_mask as build_global_attention_mask
from .masks import read_numbers

logger = logging.get_logger(__name__)


def counted_tokens(
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    inputs_embeds: torch.Tensor | None,
    config: HfLongformerConfig,
) -> torch.Tensor:
    """Which tokens take a position of their own, `(batch, S)` bool.

    `attention_mask` decides, whatever the ids are. Without one, ids do, as in RoBERTa: all but `pad_token_id`. Where
    that also ends texts, and for embeddings, all tokens count. `generate` makes its mask by the same rule. With
    `config.position_counting="input_ids"` ids alone decide, as in stock.
    """
    by_ids = config.position_counting == "input_ids"
    if attention_mask is not None and not by_ids:
        return attention_mask != 0
    if input_ids is None:
        return torch.ones(inputs_embeds.shape[:2], dtype=torch.bool, device=inputs_embeds.device)
    if by_ids and config.pad_token_id is not None:
        return input_ids != config.pad_token_id
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    if config.pad_token_id is None or config.pad_token_id in ends:
        return torch.ones_like(input_ids, dtype=torch.bool)
    return input_ids != config.pad_token_id


def count_positions(counted: torch.Tensor, before: torch.Tensor | None, config: HfLongformerConfig) -> torch.Tensor:
    """Real tokens are counted from `first_position`; padding takes the row below, if there is one: `(batch, S)`.

    Args:
        counted: `(batch, S)` bool, what `counted_tokens` says.
        before: `(batch, 1)`, how many were counted in earlier segments.
        config: Of the model.
    """
    first = config.first_position
    number = counted.long().cumsum(dim=1) if before is None else counted.long().cumsum(dim=1) + before
    return (number * counted + first - 1).clamp(min=0)


# What collators give with several texts in one row, for kernels that tell them apart.
OF_PACKED_TEXTS = frozenset(["cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"])


def check_keywords(given: Collection[str], known: Collection[str]) -> None:
    """Refuses what would be passed over: texts packed into a row, and misspelt arguments.

    Args:
        given: Names of the keywords of `forward` that it does not name.
        known: Names of those it knows.

    Raises:
        NotImplementedError: If several texts stand in one row.
        TypeError: If a keyword is like one that is known.
    """
    for name in [name for name in given if name not in known]:
        if name in OF_PACKED_TEXTS:
            raise NotImplementedError(f"{PACKED}, got {name}")
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if close:
            raise TypeError(f"forward() got an unexpected keyword argument {name!r}; did you mean {close[0]!r}?")


PACKED = (
    "several texts in one row would see each other here: give each text a row of its own, and attention_mask for its "
    "padding, which costs nothing"
)


def check_text_is_whole() -> None:
    """Raises `NotImplementedError` if accelerate divides every text among devices: a window would end where its part
    does.
    """
    if _are_texts_divided():
        raise NotImplementedError(
            "texts are divided among devices (context or sequence parallelism), and windows would end where a part "
            "does: leave cp_size and sp_size of ParallelismConfig at 1, and divide batches (FSDP, DDP) instead"
        )


@torch.compiler.assume_constant_result
def _are_texts_divided() -> bool:
    state = sys.modules.get("accelerate.state")
    if state is None or not state.is_initialized():
        return False
    parallel = getattr(state.AcceleratorState(), "parallelism_config", None)
    return any((getattr(parallel, name, None) or 1) > 1 for name in ("cp_size", "sp_size"))


def token_shape(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> tuple[int, int]:
    """`(batch, S)` of whichever is given; `ValueError` if both or neither are, or it has another shape."""
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("pass either input_ids or inputs_embeds, got both or neither")
    name, given = ("input_ids", input_ids) if input_ids is not None else ("inputs_embeds", inputs_embeds)
    if not isinstance(given, torch.Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(given).__name__}: tokenize with return_tensors='pt'")
    if not (given.dtype in (torch.long, torch.int) if name == "input_ids" else given.is_floating_point()):
        kind = "torch.long or torch.int" if name == "input_ids" else "a floating-point type"
        raise ValueError(f"the dtype of {name} must be {kind}, got {given.dtype}")
    shape = tuple(given.shape)
    if len(shape) != (2 if input_ids is not None else 3) or 0 in shape:
        raise ValueError(
            "input_ids must have the shape (batch, S) and inputs_embeds (batch, S, hidden_size), neither empty, "
            f"got {shape}"
        )
    return shape[0], shape[1]


def check_mask_shape(name: str, mask: torch.Tensor | None, shape: tuple[int, ...]) -> None:
    """Raises `ValueError` if a mask is given and is not `(batch, S)`."""
    if mask is not None and tuple(mask.shape) != shape:
        raise ValueError(f"{name} must have the shape (batch, S) = {shape}, got {tuple(mask.shape)}")


def default_global_attention(config: HfLongformerConfig, auto: str, input_ids: torch.Tensor | None) -> str:
    """Which tokens are global if the caller does not say: `"none"` or an argument of `global_attention_mask`."""
    kind: str = auto if config.global_attention == "auto" else config.global_attention
    if kind in ("none", "cls") or (input_ids is not None and config.sep_token_id is not None):
        return kind
    logger.warning_once(
        "the question cannot be found without input_ids and config.sep_token_id: the first token gets global "
        "attention instead; pass global_attention_mask to decide otherwise"
    )
    return "cls"


def mask_of_kind(
    kind: str,
    config: HfLongformerConfig,
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    inputs_embeds: torch.Tensor | None,
) -> torch.Tensor | None:
    """The mask `(batch, S)` of global tokens of such a kind; None for `"none"`."""
    shape = token_shape(input_ids, inputs_embeds)
    if kind == "none":
        return None
    check_mask_shape("attention_mask", attention_mask, shape)
    if input_ids is None:
        real = torch.ones(shape, dtype=torch.bool, device=inputs_embeds.device)
        return first_real_token(real if attention_mask is None else attention_mask.bool()).long()
    choice: dict[str, Any] = {kind: True, "sep_token_id": config.sep_token_id}
    return build_global_attention_mask(input_ids, attention_mask, **choice)


def warn_of_left_padding(numbers: dict[str, int]) -> None:
    """Says once that a text's first token is taken where stock takes the padding in front of it.

    Args:
        numbers: What was read, with `padded_first`: how many texts begin with padding.
    """
    if numbers.get("padded_first"):
        logger.warning_once(
            "texts are padded on the left: their first token is pooled, classified and global here, where stock "
            "Longformer takes the padding in the first column, which means nothing"
        )


def restarts_of(position_ids: torch.Tensor | None, attention_mask: torch.Tensor | None) -> torch.Tensor | None:
    """How often positions `(1, S)` fall back to where they began, as those of texts packed into one row do; None if
    that cannot be meant.
    """
    if position_ids is None or attention_mask is not None or position_ids.dim() != 2 or len(position_ids) != 1:
        return None
    before, after = position_ids[:, :-1], position_ids[:, 1:]
    return ((after < before) & (after == position_ids[:, :1])).sum()


def check_inputs(
    config: HfLongformerConfig,
    shape: tuple[int, int],
    counts: dict[str, torch.Tensor],
    input_ids: torch.Tensor | None,
    token_type_ids: torch.Tensor | None,
    position_ids: torch.Tensor,
    restarts: torch.Tensor | None,
    vocabulary: int,
) -> dict[str, int]:
    """Refuses what would otherwise be an IndexError, or an assertion inside a kernel; one transfer from the device.

    Args:
        config: Of the model.
        shape: `(batch, S)`.
        counts: What `count_in_masks` says of the masks.
        input_ids, token_type_ids, position_ids: `(batch, S)`.
        restarts: What `restarts_of` says of positions that were given.
        vocabulary: How many ids have an embedding: more than `config.vocab_size` where a model around this one, with a
            configuration of its own, gave it more.

    Returns:
        The counts as numbers, and what else was read.

    Raises:
        ValueError: If a text is too long, or an id out of range.
        NotImplementedError: If positions say that several texts stand in one row.
    """
    if restarts is not None:
        counts["restarts"] = restarts
    rows = UNLIMITED if config.repeat_positions else config.max_position_embeddings
    ranges = {
        "input_ids": (input_ids, vocabulary, "word_embeddings.num_embeddings"),
        "token_type_ids": (token_type_ids, max(1, config.type_vocab_size), "config.type_vocab_size"),
        "position_ids": (position_ids, rows, "config.max_position_embeddings"),
    }
    if config.position_embedding_type != "absolute":
        del ranges["position_ids"]  # of any size
    for name, (ids, _, _) in ranges.items():
        if ids is not None:
            counts[f"{name}_min"], counts[f"{name}_max"] = ids.min(), ids.max()
    numbers = read_numbers(counts)
    if numbers.get("restarts"):
        raise NotImplementedError(f"{PACKED}, got position_ids that begin anew {numbers['restarts']} times")
    length = numbers.get("position_ids_max", 0) - config.first_position + 1
    if (
        "position_ids" in ranges and config.max_length_tokens < length <= shape[1]
    ):  # else the caller passed positions of their own
        raise ValueError(
            f"the longest text has {length} tokens, the model takes {config.max_length_tokens}: truncate it, cut it "
            "into overlapping parts, or convert the model again with a larger --max-length"
        )
    for name, (ids, limit, field) in ranges.items():
        if ids is not None and not 0 <= numbers[f"{name}_min"] <= numbers[f"{name}_max"] < limit:
            raise ValueError(
                f"{name} must lie in 0 … {limit - 1} ({field}={limit}), "
                f"got {numbers[f'{name}_min']} … {numbers[f'{name}_max']}"
            )
    return numbers
