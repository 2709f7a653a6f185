# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The answer to a question among candidates, beside documents of any length: WikiHop in section 6 of the paper."""

from .task import MultipleChoice

__all__ = ["TASK"]

TASK = MultipleChoice
