# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Embeddings of documents: what gives them, and the training of sentence encoders."""

from typing import Any

from .predictor import PREDICTOR, Embedder, EmbeddingPredictor, shortened

__all__ = ["PREDICTOR", "TASK", "Embedder", "EmbeddingPredictor", "shortened"]


def __getattr__(name: str) -> Any:
    """`TASK`, which needs sentence-transformers, where the rest does not."""
    if name == "TASK":
        from .task import SentenceEmbeddings

        return SentenceEmbeddings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
