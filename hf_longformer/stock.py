# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Models of this package in the place of stock Longformer's and LED's, for software that knows stock alone."""

from collections.abc import Iterator
from threading import RLock
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, TOKENIZER_MAPPING, LEDConfig, LongformerConfig

from .configuration_encoder_decoder_hf_longformer import HfLongformerEncoderDecoderConfig
from .configuration_hf_longformer import HfLongformerConfig
from .modeling_encoder_decoder_hf_longformer import (
    HfLongformerEncoderDecoderModel,
    HfLongformerEncoderDecoderPreTrainedModel,
    HfLongformerForConditionalGeneration,
)
from .modeling_heads_hf_longformer import (
    HfLongformerForMaskedLM,
    HfLongformerForMultipleChoice,
    HfLongformerForQuestionAnswering,
    HfLongformerForSequenceClassification,
    HfLongformerForTokenClassification,
)
from .modeling_hf_longformer import HfLongformerModel, HfLongformerPreTrainedModel
from .transformers_internals import auto_mappings, registered

MODELS = (
    *(HfLongformerPreTrainedModel, HfLongformerModel, HfLongformerForMaskedLM, HfLongformerForMultipleChoice),
    *(HfLongformerForQuestionAnswering, HfLongformerForSequenceClassification, HfLongformerForTokenClassification),
)
BY_STOCK_NAME: dict[str, type] = {
    **{model.__name__.removeprefix("Hf"): model for model in MODELS},
    "LEDPreTrainedModel": HfLongformerEncoderDecoderPreTrainedModel,
    "LEDModel": HfLongformerEncoderDecoderModel,
    "LEDForConditionalGeneration": HfLongformerForConditionalGeneration,
}

_MISSING = object()
_before: list[tuple[dict[Any, Any], Any, Any]] = []  # dictionary, key, and what stood there; empty: nothing is replaced
_holders: set["StockReplacement"] = set()  # a first call, and the blocks that are open, whichever thread is in them
_lock = RLock()


class StockReplacement:
    """What `replace_stock` returns: leaves the replacement with `undo`, or at the end of a `with` block."""

    def __init__(self) -> None:
        self._entered = 0

    def undo(self) -> None:
        """Makes stock stock again, however often `replace_stock` was called; a second time does nothing."""
        with _lock:
            _holders.clear()
            _undo()

    def __enter__(self) -> "StockReplacement":
        with _lock:
            _replace()
            _holders.add(self)
            self._entered += 1
        return self

    def __exit__(self, *error: object) -> None:
        with _lock:
            self._entered -= 1
            if not self._entered:
                _holders.discard(self)
            if not _holders:
                _undo()


class _ConfigOfStock(HfLongformerConfig):
    """Stands for stock's class where Auto classes look it up: made of stock's fields, it is a configuration of ours."""

    def __new__(cls, *args: Any, **fields: Any) -> Any:
        return HfLongformerConfig.of_stock(LongformerConfig(*args, **fields))

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        return HfLongformerConfig.from_dict(config_dict, **kwargs)


class _ConfigOfStockLed(HfLongformerEncoderDecoderConfig):
    """The same for stock LED."""

    def __new__(cls, *args: Any, **fields: Any) -> Any:
        return HfLongformerEncoderDecoderConfig.of_stock(LEDConfig(*args, **fields))

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        return HfLongformerEncoderDecoderConfig.from_dict(config_dict, **kwargs)


# Stock's classes of configurations, ours, and what stands for stock's.
CONFIGS: tuple[tuple[Any, Any, type], ...] = (
    (LongformerConfig, HfLongformerConfig, _ConfigOfStock),
    (LEDConfig, HfLongformerEncoderDecoderConfig, _ConfigOfStockLed),
)


def replace_stock() -> StockReplacement:
    """Puts the models of this package in the place of stock Longformer's and LED's, in the whole process.

    `AutoConfig` reads a checkpoint of model type `longformer` as `HfLongformerConfig`, and one of `led` as
    `HfLongformerEncoderDecoderConfig`; every Auto class that knows stock's makes the model of this package from it, or
    from a `LongformerConfig` or `LEDConfig`; and `transformers.LongformerModel`, `LongformerPreTrainedModel` and the
    heads, `LEDModel`, `LEDPreTrainedModel` and `LEDForConditionalGeneration` are this package's. A call while stock is
    replaced changes nothing; a `with` block leaves at its end what stood at its beginning, or, if another thread is in
    one by then, the last of them does.

    Models made so compute what stock computes on real tokens, whatever their length, padded to the window or not.
    Positions are counted as stock counts them: by `input_ids`, not by `attention_mask`. What differs:

    * Hidden states of padding mean nothing, as in stock, and are others. `global_attentions` are as long as the text,
      not padded to the window, and 0 in columns beyond the global tokens of a text.
    * Texts padded on the left: the first real token is pooled, classified and global; said once when it happens. The
      loss of question answering leaves padding out; said once.
    * `attention_mask` takes 0 and 1 alone: masks with 2 for global tokens, and global tokens on padding, are refused.
      Questions without exactly three separators, which stock refuses, are answered.
    * `attn_implementation` in a `LongformerConfig` is not taken over, since stock's models write theirs into it; as a
      keyword of `from_config` and `from_pretrained` it is.
    * `is_decoder` is refused, which stock passes over; other fields that stock does not read are left out, and named.
    * `model.config` is an `HfLongformerConfig` of `model_type` `"hf_longformer"`, not the `LongformerConfig` that was
      given, whose later changes it does not see; what `save_pretrained` writes is of that form, and `hf-longformer
      export FOLDER OUTPUT` makes stock of it again.
    * Names that were imported before (`from transformers import LongformerModel`), names of
      `transformers.models.longformer`, `LongformerSelfAttention` and models that exist stay stock's. `LongformerConfig`
      stays it, too: models take it as it is.
    * Texts padded on the left keep their positions in the encoder-decoder; stock's LED shifts them. Without
      `attention_mask` it reads all tokens but `pad_token_id`; without `global_attention_mask` none is global, as in
      stock. The decoder is that of BART, with its attention. `LEDForQuestionAnswering` stays stock's, and no Auto class
      makes it.

    Returns:
        A context manager, which also has `undo()`.
    """
    replacement = StockReplacement()
    with _lock:
        if not _before:
            _replace()
            _holders.add(replacement)
    return replacement


def _replace() -> None:
    if _before:
        return
    for entries, key, value in list(_replacements()):  # all of them, or none if one cannot be had
        _before.append((entries, key, entries.get(key, _MISSING)))
        entries[key] = value
    for _, config, _ in CONFIGS:
        config.reads_stock_as_stock = True


def _replacements() -> Iterator[tuple[dict[Any, Any], Any, Any]]:
    """Dictionaries, keys and what is to stand there."""
    for stock, ours, of_stock in CONFIGS:
        for mapping, name in auto_mappings(stock.model_type):
            if name not in BY_STOCK_NAME:
                continue
            yield registered(mapping), stock, BY_STOCK_NAME[name]
            yield registered(mapping), ours, BY_STOCK_NAME[name]
        yield registered(TOKENIZER_MAPPING), ours, TOKENIZER_MAPPING[stock]
        yield registered(CONFIG_MAPPING), stock.model_type, of_stock
    for name, model in BY_STOCK_NAME.items():
        yield vars(transformers), name, model


def _undo() -> None:
    for _, config, _ in CONFIGS:
        config.reads_stock_as_stock = False
    while _before:
        entries, key, value = _before.pop()
        if value is _MISSING:
            del entries[key]
        else:
            entries[key] = value


__all__ = ["StockReplacement", "replace_stock"]
