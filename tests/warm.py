# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Processes of their own without the seconds that imports take: children of one process that has imported everything
and done nothing else.

`python tests/warm.py SOCKET` is that process. It is asked by `run`, and, as `python tests/warm.py SOCKET COMMAND …`, by
the commands that `commands` puts into a folder for shells to find; every request is a list of words, a folder, an
environment and three open files.
"""

import array
import contextlib
import json
import os
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

PRELOADED = ("datasets", "hf_longformer_cli", "hf_longformer.finetune.pipelines", "matplotlib.figure")
COMMANDS = {"hf-longformer": "hf-longformer", "python": "python", "python3": "python"}


@cache
def address() -> str:
    """Where the process listens, which lives as long as this one."""
    path = str(Path(tempfile.mkdtemp(prefix="warm-")) / "socket")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen(
        [sys.executable, __file__, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return path


@cache
def commands() -> str:
    """A folder with `hf-longformer` and `python` that run so."""
    folder = Path(address()).parent / "bin"
    folder.mkdir()
    for name, word in COMMANDS.items():
        words = shlex.join([sys.executable, "-IS", __file__, address(), word])
        (folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (folder / name).chmod(0o755)
    return str(folder)


def run(words: Sequence[object], place: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """What `python SCRIPT …`, `python -m MODULE …`, `python -c CODE …` or `hf-longformer …` says, as `subprocess.run`.

    Args:
        words: The command line.
        place: Where it runs.
        **variables: Of its environment, besides those that are here.
    """
    environment = {**os.environ, **variables}
    with tempfile.TemporaryFile("w+b") as output, tempfile.TemporaryFile("w+b") as error:
        with open(os.devnull) as nothing:
            files = [nothing.fileno(), output.fileno(), error.fileno()]
            code = _ask(address(), [str(word) for word in words], place or Path.cwd(), environment, files)
        texts = []
        for file in (output, error):
            file.seek(0)
            texts.append(file.read().decode("utf-8"))
    return subprocess.CompletedProcess(list(words), code, *texts)


def run_two(words: Sequence[object], place: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The same in two processes."""
    return run_several(2, words, place)


def run_several(number: int, words: Sequence[object], place: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The same in so many processes, as `torchrun --standalone --nproc_per_node 2` starts two: what they say, one
    behind the other, and the exit code of one that failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {
        "WORLD_SIZE": str(number),
        "LOCAL_WORLD_SIZE": str(number),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    done: list[subprocess.CompletedProcess[str]] = []

    def start(rank: int) -> None:
        done.append(run(words, place, RANK=str(rank), LOCAL_RANK=str(rank), OMP_NUM_THREADS="1", **common))

    threads = [threading.Thread(target=start, args=(rank,)) for rank in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == number
    code = next((one.returncode for one in done if one.returncode), 0)
    output, error = ("".join(getattr(one, name) for one in done) for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(list(words), code, output, error)


def _ask(path: str, words: list[str], place: Path, environment: Mapping[str, str], files: list[int]) -> int:
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(path)
        asked.sendmsg([b"?"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])
        asked.sendall(json.dumps([words, str(place), dict(environment)]).encode() + b"\n")
        return int(asked.makefile().read() or 70)


def _listen(path: str) -> None:
    """Answers every request by a child, which waits for its own child, the command, and says how that ended."""
    for name in PRELOADED:
        __import__(name)
    threading.Thread(target=_end_with_parent, args=(Path(path).parent,), daemon=True).start()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(16)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
        os.write(1, b"ready\n")
        while True:
            asked, _ = server.accept()
            if os.fork():
                asked.close()
                continue
            server.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _, control, *_ = asked.recvmsg(1, socket.CMSG_SPACE(3 * 4))
            files = array.array("i", control[0][2])
            words, place, environment = json.loads(asked.makefile().readline())
            child = os.fork()
            if not child:
                asked.close()
                return _become(words, place, environment, list(files))
            _, status = os.waitpid(child, 0)
            with contextlib.suppress(OSError):
                asked.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)


def _end_with_parent(folder: Path) -> None:
    os.read(0, 1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _become(words: list[str], place: str, environment: dict[str, str], files: list[int]) -> None:
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    command, *rest = words
    if command == "hf-longformer":
        sys.argv = words
        import hf_longformer_cli

        return hf_longformer_cli.main()
    if rest[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[2:]], ""
        exec(compile(rest[1], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
    elif rest[0] == "-m":
        sys.argv, sys.path[0] = rest[1:], place
        runpy.run_module(rest[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = rest, str(Path(rest[0]).resolve().parent)
        runpy.run_path(rest[0], run_name="__main__")
    return None


if __name__ == "__main__":
    if sys.argv[2:]:
        sys.exit(_ask(sys.argv[1], sys.argv[2:], Path.cwd(), os.environ, [0, 1, 2]))
    _listen(sys.argv[1])
