# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What the command line reads of the package without importing it, which would load PyTorch and Transformers."""

import runpy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@cache
def read(name: str) -> dict[str, Any]:
    """The names that a file of the package defines: one that imports nothing of the package.

    Args:
        name: `"version"` or `"finetune/tasks"`.

    Raises:
        ImportError: If there is no package.
    """
    package = find_spec("hf_longformer")
    if package is None or package.origin is None:
        raise ImportError("hf_longformer, which the command line belongs to, is not installed")
    inside = Path(package.origin).parent
    for folder in (inside, inside.parent):  # of an editable installation, what is built on the model lies beside it
        file = folder / f"{name}.py"
        if file.is_file():
            return runpy.run_path(str(file))
    raise ImportError(f"hf_longformer must have a file {name}.py, got none in {inside}")
