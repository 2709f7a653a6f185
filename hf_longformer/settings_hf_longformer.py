# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Fields of the configuration that are dictionaries, because one head alone reads them: their defaults and checks."""

from typing import Any

COREFERENCE: dict[str, Any] = {"size": 512, "width": 30, "share": 0.4, "farthest": None, "singletons": True}
RETRIEVAL: dict[str, Any] = {
    **{"chunk_size": 64, "neighbours": 2, "neighbour_length": None, "layers": None, "encoder_layers": 2}
}


def check_coreference(settings: dict[str, Any]) -> None:
    """Raises `ValueError` if a setting of coreference, all of which are given, is not allowed."""
    if unknown := sorted(set(settings) - set(COREFERENCE)):
        raise ValueError(f"coreference knows {', '.join(COREFERENCE)}, got {', '.join(unknown)}")
    for name in ("size", "width", "farthest"):
        value = settings[name]
        if (value is None and name != "farthest") or (value is not None and (type(value) is not int or value < 1)):
            raise ValueError(f"coreference must have a whole number of at least 1 as {name}, got {value!r}")
    if isinstance(settings["share"], bool) or not 0 < settings["share"] <= 10:
        raise ValueError(f"coreference must have a share above 0 and at most 10, got {settings['share']!r}")


def check_retrieval(config: Any) -> None:
    """Raises `ValueError` if a setting of a configuration's retrieval is not allowed, and `NotImplementedError` if the
    model cannot have any.
    """
    if config.retrieval is None:
        return
    settings = config.retrieval_settings
    if unknown := sorted(set(settings) - set(RETRIEVAL)):
        raise ValueError(f"retrieval knows {', '.join(RETRIEVAL)}, got {', '.join(unknown)}")
    for name in ("chunk_size", "neighbours", "neighbour_length", "encoder_layers"):
        if type(settings[name]) is not int or settings[name] < 1:
            raise ValueError(f"retrieval must have a whole number of at least 1 as {name}, got {settings[name]!r}")
    layers = settings["layers"]
    is_list = isinstance(layers, list) and layers and all(type(layer) is int for layer in layers)
    if not is_list or layers != sorted({layer for layer in layers if 0 <= layer < config.num_hidden_layers}):
        raise ValueError(
            f"retrieval must have some of the layers 0 to {config.num_hidden_layers - 1}, in order, as layers, "
            f"got {layers}"
        )
    if not config.is_decoder:
        raise NotImplementedError(
            "retrieval is of causal models, whose chunks are read one after the other: set is_decoder=True, or leave "
            f"retrieval out, got {config.retrieval}"
        )
    if config.hidden_size // config.num_attention_heads % 2:
        raise ValueError(
            "retrieval counts positions in neighbours by rotation, which needs an even number of dimensions per head, "
            f"got {config.hidden_size // config.num_attention_heads}"
        )


__all__ = ["COREFERENCE", "RETRIEVAL", "check_coreference", "check_retrieval"]
