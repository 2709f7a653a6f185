# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, by whose fault it is."""


class TrainingError(RuntimeError):
    """Training was begun and cannot be finished, as when the loss is no number, or its result not be uploaded."""
