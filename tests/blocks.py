# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Code blocks of README files: finding them, and running them as a reader would."""

import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock


def blocks(text: str, language: str = r"\w+") -> list[tuple[str, str]]:
    """Language and code of all blocks, or of those in one language."""
    return re.findall(rf"^```({language})\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run(command: list[str] | str, place: Path) -> str:
    """What a command, or a block of shell, prints in a folder without the network; it must end well."""
    environment = {**os.environ, **_environment()}
    words = ["/bin/bash", "-ec", command] if isinstance(command, str) else command
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def run_python(code: str, place: Path) -> str:
    """What a block of Python prints, as `run`: in a process of its own, in which what takes seconds to import is there
    already.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["datasets", "hf_longformer", "hf_longformer.finetune.pipelines"])
    with mock.patch.dict(os.environ, _environment()):
        forkserver.ensure_running()
    with tempfile.TemporaryDirectory() as folder:
        output, error = Path(folder) / "output", Path(folder) / "error"
        process = context.Process(target=_execute, args=(code, str(place), str(output), str(error)))
        process.start()
        process.join()
        assert process.exitcode == 0, error.read_text(encoding="utf-8")[-3000:]
        return output.read_text(encoding="utf-8")


def _environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}


def _execute(code: str, place: str, output: str, error: str) -> None:
    os.chdir(place)
    for number, file in ((1, output), (2, error)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    exec(compile(code, "<block>", "exec"), {"__name__": "__main__"})  # noqa: S102 (our own README)
    sys.stdout.flush()
