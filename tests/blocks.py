# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Code blocks of README files: finding them, and running them as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

import warm


def blocks(text: str, language: str = r"\w+") -> list[tuple[str, str]]:
    """Language and code of all blocks, or of those in one language."""
    return re.findall(rf"^```({language})\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run(command: str, place: Path) -> str:
    """What a block of shell prints in a folder without the network; it must end well. `hf-longformer` and `python` are
    processes of their own in which what takes seconds to import is there already.
    """
    environment = {**os.environ, **_environment()}
    words = ["/bin/bash", "-ec", command]
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def run_python(code: str, place: Path) -> str:
    """What a block of Python prints, as `run`."""
    done = warm.run(["python", "-c", code], place, **_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _environment() -> dict[str, str]:
    path = os.pathsep.join([warm.commands(), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"PATH": path, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
