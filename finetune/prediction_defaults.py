# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""How inputs were cut for a checkpoint, in a file beside it, so that prediction does the same."""

from pathlib import Path
from typing import Any

from hf_longformer.conversion.files import write_json

DEFAULTS = "prediction.json"


def save_defaults(folder: Path, task: str, options: dict[str, Any]) -> None:
    """Writes the file.

    Args:
        folder: The checkpoint's.
        task: As `hf-longformer predict` calls it.
        options: Names and values.
    """
    write_json(folder / DEFAULTS, {"task": task, **options})
