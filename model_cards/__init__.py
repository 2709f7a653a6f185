# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Model cards, rendered from what was measured."""

from .render import GLOBAL_PROJECTIONS, render_card, render_trained_card

__all__ = ["GLOBAL_PROJECTIONS", "render_card", "render_trained_card"]
