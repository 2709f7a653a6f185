# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""How inputs were cut for a checkpoint, in a file beside it, so that prediction does the same."""

from pathlib import Path
from typing import Any

from hf_longformer.conversion.files import read_json, write_json
from hf_longformer.transformers_internals import find_file

DEFAULTS = "prediction.json"


def save_defaults(folder: Path, task: str, options: dict[str, Any]) -> None:
    """Writes the file.

    Args:
        folder: The checkpoint's.
        task: As `hf-longformer predict` calls it.
        options: Names and values.
    """
    write_json(folder / DEFAULTS, {"task": task, **options})


def read_defaults(checkpoint: str, local_files_only: bool) -> dict[str, Any]:
    """What the file of a checkpoint holds; nothing if it has none.

    Args:
        checkpoint: A folder or a Hub name.
        local_files_only: Whether to stay off the network.

    Raises:
        InputError: If the file cannot be read.
    """
    file = find_file(checkpoint, DEFAULTS, local_files_only=local_files_only)
    return {} if file is None else read_json(file)
