# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The memory of a causal model: an index of the chunks of documents, and what is found in it for those of a text."""

from .build import build_index
from .corpus import Document, read_corpus
from .index import Index, open_index
from .neighbours import TextNeighbours, find_neighbours
from .overlap import THRESHOLDS, by_overlap, overlap

__all__ = [
    "THRESHOLDS",
    "Document",
    "Index",
    "TextNeighbours",
    "build_index",
    "by_overlap",
    "find_neighbours",
    "open_index",
    "overlap",
    "read_corpus",
]
