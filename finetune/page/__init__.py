# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""One HTML page on which documents are read with what was predicted of them."""

from .write import hashes, page_of, write_page

__all__ = ["hashes", "page_of", "write_page"]
