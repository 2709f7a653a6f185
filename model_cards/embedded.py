# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The small models that come with the package, each in a folder beside its card."""

from pathlib import Path

FOLDER = Path(__file__).parent


def embedded_model(name: str) -> Path:
    """The folder of a small model that needs no download.

    Args:
        name: `"roberta-tiny-en"`, 512 tokens; `"longformer-tiny-en-4096"`, which was made of it; or
            `"characters-tiny-en"`, which writes.

    Raises:
        ValueError: If there is no such model.
    """
    known = sorted(file.parent.name for file in FOLDER.glob("*/config.json"))
    if name not in known:
        raise ValueError(f"name must be one of {', '.join(known)}, got {name!r}")
    return FOLDER / name
