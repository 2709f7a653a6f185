# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Texts as rows of tokens: cut at a limit, or cut into overlapping windows."""

from typing import Any

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

from hf_longformer.conversion import InputError

CUT = "cut"  # the column with the tokens of a text that are left out


def check_length(asked: int | None, limit: int, name: str = "--max_seq_length") -> int:
    """Tokens at once: what was asked for, or the model's limit.

    Raises:
        InputError: If the model cannot read that many, or it is too few for anything.
    """
    if asked is not None and not 3 <= asked <= limit:
        raise InputError(f"{name} must lie between 3 and the model's {limit} tokens, got {asked}")
    return asked or limit


def check_stride(asked: int | None, length: int) -> int:
    """Tokens that neighbouring windows share: what was asked for, or a quarter of the window, at most 128.

    Args:
        asked: None to leave the choice.
        length: Tokens of a window.

    Raises:
        InputError: If windows would share all that they hold.
    """
    if asked is not None and not 0 <= asked < length - 2:
        raise InputError(f"--stride must be 0 or more, and less than a window of {length} tokens, got {asked}")
    return min(128, length // 4) if asked is None else asked


def encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    pairs: list[str] | None = None,
    *,
    length: int,
    stride: int | None = None,
    offsets: bool = False,
) -> dict[str, list[Any]]:
    """Token ids of texts or of pairs of texts.

    Args:
        tokenizer: Of the model.
        texts: The texts, or the first ones of the pairs.
        pairs: The second ones.
        length: Tokens at once, special ones included.
        stride: Tokens that neighbouring windows share. None: what is beyond the first window is left out.
        offsets: Whether the characters of every token are wanted, `offset_mapping`: first and behind the last one in
            the only or second text, and -1 twice for all other tokens.

    Returns:
        Columns with one entry per window: the tokenizer's own, `length`, `text`, the index of the text, and `cut`, how
        many tokens of it were left out.

    Raises:
        InputError: If a first text leaves no room for its second one, windows would share everything, or this
            tokenizer cannot make windows.
    """
    given: list[Any] = [texts] if pairs is None else [texts, pairs]
    special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if stride is not None:
        if not tokenizer.is_fast:  # the others would silently leave out what is beyond the first window
            raise InputError(f"windows need a tokenizer of the library tokenizers, got {type(tokenizer).__name__}")
        bare = {} if pairs is None else tokenizer(texts, add_special_tokens=False, verbose=False)
        first = max(map(len, bare.get("input_ids", [[]])))
        room = length - special - first
        if room < 1:
            raise InputError(
                f"the first of two texts must leave room for windows of the second within {length} tokens, got one of "
                f"{first}: shorten it, read more tokens at once, or cut both off (--overflow truncate)"
            )
        if not 0 <= stride < room:
            raise InputError(
                f"--stride must be 0 or more, and less than the {room} tokens of a text that a window of {length} "
                f"holds beside what comes with it, got {stride}"
            )
    # Only the second of two texts is cut into windows: the first is short and needed in all of them.
    truncation: Any = "longest_first" if stride is None else ("only_first" if pairs is None else "only_second")
    encoded = tokenizer(
        *given,
        max_length=length,
        truncation=truncation,
        stride=stride or 0,
        return_overflowing_tokens=stride is not None,
        return_offsets_mapping=offsets,
        verbose=False,
    )
    columns = dict(encoded)
    mapping = columns.pop("overflow_to_sample_mapping", None)
    if offsets:
        last = len(given) - 1
        columns["offset_mapping"] = [
            [
                pair if text == last else (-1, -1)
                for pair, text in zip(characters, encoded.sequence_ids(row), strict=True)
            ]
            for row, characters in enumerate(columns["offset_mapping"])
        ]
    columns["text"] = list(range(len(texts))) if mapping is None else list(mapping)
    columns["length"] = [len(ids) for ids in columns["input_ids"]]
    columns[CUT] = [0] * len(columns["text"])
    if stride is None:
        for row, kept in enumerate(columns["length"]):
            if kept >= length:  # or nothing can have been left out
                columns[CUT][row] = _tokens(tokenizer, *(texts[row] for texts in given)) - kept
    return columns


def _tokens(tokenizer: PreTrainedTokenizerBase, *texts: str) -> int:
    """Of a text or a pair of texts as a whole, special ones included."""
    return len(tokenizer(*texts, verbose=False)["input_ids"])


def with_prefix_space(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, changed to read every text as if a space stood before it, if it cares at all.

    To a byte-level tokenizer, such as RoBERTa's, a word has other tokens behind a space than without one. Words that
    come one by one stood behind spaces in the texts that the model was trained on. The change is saved with it.

    Args:
        tokenizer: Of the model; changed in place.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    first: Any = getattr(backend, "pre_tokenizer", None)
    steps: Any = first if isinstance(first, pre_tokenizers.Sequence) else [first]
    for step in steps:
        if isinstance(step, pre_tokenizers.ByteLevel) and not step.add_prefix_space:
            step.add_prefix_space = True
            tokenizer.add_prefix_space = True
    return tokenizer
