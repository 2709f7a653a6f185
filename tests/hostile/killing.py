# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a command in a process of its own and kills it when it touches the file system for the n-th time.

Between two such moments nothing changes on the disk, so that to kill at each of them is to kill at any time.
"""

import contextlib
import hashlib
import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")
FACTS_OF_A_RUN = ("seconds.json", "training_args.bin")  # of a time, not of what was trained

forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(["hf_longformer_cli", "hf_longformer.finetune.run_classification"])


def run(arguments: Sequence[Any], place: Path, kill_at: int = 0) -> tuple[int | None, int]:
    """Runs `hf-longformer ARGUMENTS`, in silence.

    Args:
        arguments: Of the command line.
        place: Only what happens to files in this folder is counted.
        kill_at: When, from 1; 0: never.

    Returns:
        The exit code, `-9` for a kill; and how many times files were touched, 0 after a kill.
    """
    counted = forkserver.Value("l", 0)
    process = forkserver.Process(
        target=_command, args=([str(word) for word in arguments], str(place), kill_at, counted)
    )
    process.start()
    process.join(300)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{arguments[0]} did not end within five minutes")
    return process.exitcode, counted.value


def _command(arguments: list[str], place: str, kill_at: int, counted: Any) -> None:
    import hf_longformer_cli as cli

    number = 0

    def hear(event: str, details: tuple) -> None:
        nonlocal number
        if event not in FILE_EVENTS or not details or not str(details[0]).startswith(place):
            return
        if event == "open" and not _writes(details):
            return
        number += 1
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)
    sys.argv = ["hf-longformer", *arguments]
    code, said = 0, io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    if code:
        os.write(2, said.getvalue().encode()[-500:])  # what pytest shows of a failed test
    counted.value = number
    os._exit(code)


def _writes(details: tuple) -> bool:
    mode, flags = details[1], details[2]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def fingerprint(folder: Path, wanted: Callable[[Path], bool] = lambda file: True) -> dict[str, str] | None:
    """The files of a folder with a hash of what they hold; None where there is no folder."""
    if not folder.exists():
        return None
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and wanted(file)]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def moments(total: int, number: int, seed: int = 0) -> list[int]:
    """Some of the moments of a run that touches files so many times: the first, the last, and others at random."""
    from random import Random

    between = Random(seed).sample(range(2, total), min(number, total) - 2) if min(number, total) > 2 else []
    return sorted({1, total, *between})
