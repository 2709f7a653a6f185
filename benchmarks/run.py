# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer bench`: measures what is not measured yet, and keeps every result as soon as it is there."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import read_json, write_json

from .measure import machine
from .plan import ALLOCATORS, Cell, check_peers, choose_peers, find

IDENTITY = ("processor", "threads", "versions")  # figures of different machines do not stand in one table


def run_cells(
    cells: Sequence[Cell],
    output: Path,
    *,
    peers: Sequence[str] | None = None,
    passes: int = 3,
    longest: float = 120.0,
    threads: int | None = None,
    anew: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Measures cells and writes them into a file of results, one after the other.

    Args:
        cells: What is to be measured, the cells of one group beside one another.
        output: The JSON file. What it holds already is kept, and not measured again.
        peers: Who takes part; all if None.
        passes: Timed rounds.
        longest: A step that takes more seconds is timed once, and not tried at greater lengths.
        threads: Of the CPU; PyTorch's own number if None.
        anew: Whether to measure again what is there.
        command: The command line, kept beside every figure.

    Returns:
        What the file then holds.

    Raises:
        InputError: If a name is unknown, or the file cannot be read or written or comes from another machine.
        RuntimeError: If parity is red or a process fails: what was measured before is kept.
    """
    from tqdm import tqdm

    check_peers(peers, cells)
    if threads is not None:
        torch.set_num_threads(threads)
    facts = machine(cells[0].device)
    results = _read(output, facts, anew)
    missing = [cell for cell in cells if choose_peers(cell, peers) and (anew or not _is_done(results, cell, peers))]
    job: dict[str, Any] = {"passes": passes, "longest": longest, "threads": facts["threads"]}
    processes = list(_processes(missing, peers))
    with tqdm(total=sum(len(members) for members, _ in processes), file=sys.stderr, unit="cell", leave=False) as bar:
        for members, names in processes:
            bar.set_description_str(_label(members[0]))
            job |= {"cells": [asdict(cell) for cell in members], "peers": names}
            for cell, result in zip(members, _work(job, members[0].allocator), strict=True):
                _put(results, cell, {**result, "date": facts["date"], "command": command})
                _write(output, results)
                bar.update()
    return results


def _processes(cells: Sequence[Cell], peers: Sequence[str] | None) -> Iterator[tuple[list[Cell], list[str]]]:
    """Cells and peers that share a process: those of a group; but when memory is measured every task is alone."""
    for group, members in groupby(cells, key=lambda cell: cell.group):
        names = choose_peers(group, peers)
        alone = group.suite == "memory"
        yield from (([group], [name]) for name in names) if alone else [(list(members), names)]


def _work(job: dict[str, Any], allocator: str) -> Iterator[dict[str, Any]]:
    """Starts a process with an allocator and gives its results, one by one."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(job["threads"]), "TQDM_DISABLE": "1"}
    for settings in ALLOCATORS.values():
        for name in settings:
            environment.pop(name, None)
    environment |= ALLOCATORS[allocator]
    command = [sys.executable, "-m", f"{__package__}.worker"]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603 (our own module)
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        try:
            process.stdin.write(json.dumps(job))
            process.stdin.close()
            for line in process.stdout:
                result = json.loads(line)
                if "error" in result:
                    raise RuntimeError(result["error"])
                yield result
        except BaseException:
            process.kill()
            raise
        if process.wait():
            errors.seek(0)
            complaint = errors.read().strip().splitlines()[-1:]
            raise RuntimeError(f"measuring ended with exit code {process.returncode}: {''.join(complaint)}")


def _read(output: Path, facts: dict[str, Any], anew: bool) -> dict[str, Any]:
    """The results so far; an empty file of results if there are none, or they are another machine's and not wanted."""
    if not output.parent.is_dir() or output.is_dir():
        raise InputError(f"--output must be a file in a folder that exists, got {output}")
    empty = {**facts, "cells": []}
    if not output.exists():
        return empty
    results = read_json(output)
    if not isinstance(results.get("cells"), list):
        raise InputError(f"{output.name} must hold results of this command, got something else")
    if other := [name for name in IDENTITY if results.get(name) != facts[name]]:
        if anew:
            return empty
        name = other[0]
        raise InputError(
            f"{output} was measured with other {name}, {results.get(name)} instead of {facts[name]}: "
            "choose another --output, or --anew to begin again"
        )
    return {**results, **facts}


def _is_done(results: dict[str, Any], cell: Cell, peers: Sequence[str] | None) -> bool:
    entry = find(results, cell)
    return entry is not None and set(choose_peers(cell, peers)) <= set(entry["peers"])


def _put(results: dict[str, Any], cell: Cell, result: dict[str, Any]) -> None:
    """Replaces a cell's entry. Memory is measured task by task: there, one joins the others."""
    entry = find(results, cell)
    if entry is not None:
        if cell.suite == "memory":
            result = {**result, "peers": {**entry["peers"], **result["peers"]}}
        results["cells"].remove(entry)
    results["cells"].append({**asdict(cell), **result})


def _write(output: Path, results: dict[str, Any]) -> None:
    try:
        write_json(output, results)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from error


def _label(cell: Cell) -> str:
    return f"{cell.suite}, {cell.size}, {cell.dtype}, window {cell.attention_window}"
