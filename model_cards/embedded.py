# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The small models that come along, each in a folder beside its card: one with the package, the others with its source
only.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = ("roberta-tiny-en", "longformer-tiny-en-4096", "characters-tiny-en")


def embedded_model(name: str) -> Path:
    """The folder of a small model that needs no download.

    Args:
        name: `"roberta-tiny-en"`, 512 tokens, which the installed package has; `"longformer-tiny-en-4096"`, which was
            made of it; or `"characters-tiny-en"`, which writes. The latter two are in the repository and in the source
            distribution only.

    Raises:
        ValueError: If there is no such model, or if it is not here; the message says how to get it.
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(sorted(NAMES))}, got {name!r}")
    folder = FOLDER / name
    if not (folder / "config.json").exists():
        raise ValueError(
            f"{name} is not in the installed package, to keep it small: `pip install --editable .` in a clone of the "
            f"repository has it, and so has the clone's folder model_cards/{name}, got {FOLDER}"
        )
    return folder
