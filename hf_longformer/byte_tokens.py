# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Bytes as tokens, for texts that are read letter by letter."""

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the 256 bytes, with their values as ids, and behind them `<pad>`, `<s>`, `</s>` and
    `<unk>`.

    It reads any text, and `decode` gives it back exactly. What looks like a special token in a text is text. Nothing is
    added to texts.
    """
    alphabet = _printable_bytes()
    names = ("<pad>", "<s>", "</s>", "<unk>")
    vocabulary = {letter: byte for byte, letter in enumerate(alphabet)}
    vocabulary |= {name: len(alphabet) + index for index, name in enumerate(names)}
    tokenizer = Tokenizer(BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevelDecoder()
    pad, first, last, unknown = names
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=first,
        eos_token=last,
        unk_token=unknown,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


def _printable_bytes() -> list[str]:
    """The letter that stands for every byte in byte-level vocabularies: itself if it can be printed, as in GPT-2."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in letters]
    letters |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


__all__ = ["byte_tokenizer"]
