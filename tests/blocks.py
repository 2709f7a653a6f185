# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Code blocks of README files: finding them, and running them as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path


def blocks(text: str, language: str = r"\w+") -> list[tuple[str, str]]:
    """Language and code of all blocks, or of those in one language."""
    return re.findall(rf"^```({language})\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run(command: list[str] | str, place: Path) -> str:
    """What a command, or a block of shell, prints in a folder without the network; it must end well."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
    words = ["/bin/bash", "-ec", command] if isinstance(command, str) else command
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
