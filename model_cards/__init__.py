# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Model cards, rendered from what was measured, and the small models that come along."""

from .embedded import embedded_model
from .render import GLOBAL_PROJECTIONS, render_card, render_trained_card

__all__ = ["GLOBAL_PROJECTIONS", "embedded_model", "render_card", "render_trained_card"]
