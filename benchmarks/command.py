# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What stands behind `hf-longformer bench`: words of the command line to cells, and results to lines of text."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hf_longformer.conversion import InputError

from .memory import Setting, estimate, estimate_lines, parameter_counts, read_config
from .plan import find, make_cells, parse_numbers
from .report import draw as draw_cells, table as table_of_cells
from .run import run_cells


def measure_command(what: str, output: Path, choices: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Measures, writes the results and their plots, and gives the tables of what was asked for.

    Args:
        what: One of `plan.CHOICES`.
        output: The JSON file.
        choices: `size`, `device`; and, each a list separated by commas, `lengths`, `windows`, `dilations`, `batch`,
            `dtypes`, `allocators`, and `peers` or None.
        settings: `passes`, `longest`, `threads` and `anew` of `run.run_cells`.

    Raises:
        InputError: If something cannot be measured, or the file not be read or written.
        RuntimeError: If parity is red or measuring fails.
    """
    numbers: dict[str, Any] = {
        name: parse_numbers(f"--{name}", choices[name]) for name in ("lengths", "windows", "dilations")
    }
    numbers["batches"] = parse_numbers("--batch", choices["batch"])
    words: dict[str, Any] = {name: _words(choices[name]) for name in ("dtypes", "allocators")}
    peers = None if choices["peers"] is None else _words(choices["peers"])
    same: dict[str, Any] = {name: choices[name] for name in ("size", "device")}
    cells = make_cells(what, **same, **numbers, **words)
    command = shlex.join(["hf-longformer", *sys.argv[1:]])
    results = run_cells(cells, output, peers=peers, command=command, **settings)
    plots = draw_cells(results, output)
    entries = [entry for cell in cells if (entry := find(results, cell)) is not None]
    lines = table_of_cells(entries).splitlines()
    return [*lines, *(f"plot in {plot}" for plot in plots), f"results in {output}"]


def needle_command(output: Path, numbers: dict[str, str | None], *, threads: int | None, **settings: Any) -> list[str]:
    """Asks for names in long texts, writes the results and their picture, and gives the table.

    Args:
        output: The JSON file.
        numbers: `lengths`, `depths` and `seeds`, each a list separated by commas, or None for the usual ones.
        threads: Of the CPU; PyTorch's own number if None.
        **settings: `books`, `checkpoint` and `anew` of `needle.run_needle`.

    Raises:
        InputError: If something cannot be measured, or the file not be read or written.
    """
    from .needle import run_needle
    from .needle_report import draw, table

    return _search(run_needle, draw, table, output, numbers, threads, settings)


def retrieval_command(
    output: Path, numbers: dict[str, str | None], *, threads: int | None, **settings: Any
) -> list[str]:
    """Looks for long texts by what they say, writes the results and their picture, and gives the table.

    Args:
        output: The JSON file.
        numbers: `lengths` and `seeds`, each a list separated by commas, or None for the usual ones.
        threads: Of the CPU; PyTorch's own number if None.
        **settings: `source`, `checkpoints`, `books`, `questions`, `distractors` and `anew` of
            `retrieval.run_retrieval`.

    Raises:
        InputError: If something cannot be measured, or the file not be read or written.
    """
    from .retrieval import run_retrieval
    from .retrieval_report import draw, table

    return _search(run_retrieval, draw, table, output, numbers, threads, settings)


def overhead_command(output: Path, lengths: str | None, *, threads: int | None, **settings: Any) -> list[str]:
    """Measures short texts beside RoBERTa, writes the results, and gives the table.

    Args:
        output: The JSON file.
        lengths: A list separated by commas, or None for the usual ones.
        threads: Of the CPU; one if None.
        **settings: `passes` and `anew` of `overhead.run_overhead`.

    Raises:
        InputError: If something cannot be measured, or the file not be read or written.
        RuntimeError: If parity is red.
    """
    from .overhead import run_overhead, table

    torch.set_num_threads(threads or 1)
    if lengths is not None:
        settings["lengths"] = parse_numbers("--lengths", lengths)
    results = run_overhead(output, **settings)
    return [*table(results).splitlines(), f"results in {output}"]


def _search(
    run: Callable[..., dict[str, Any]],
    draw: Callable[[dict[str, Any], Path], None],
    table: Callable[[dict[str, Any]], str],
    output: Path,
    numbers: dict[str, str | None],
    threads: int | None,
    settings: dict[str, Any],
) -> list[str]:
    """Runs it, draws what it found beside the results, and gives the table."""
    if threads is not None:
        torch.set_num_threads(threads)
    wanted = {name: parse_numbers(f"--{name}", text) for name, text in numbers.items() if text is not None}
    results = run(output, **wanted, **settings)
    picture = output.with_suffix(".png")
    draw(results, picture)
    return [*table(results).splitlines(), f"picture in {picture}", f"results in {output}"]


def estimate_command(model: str, length: int, batches: str, dtype: str, checkpointing: bool) -> list[str]:
    """The expected peak memory of a checkpoint, or a size, as lines of text.

    Raises:
        InputError: If there is no such model, or it cannot read so much.
    """
    if dtype not in ("float32", "bfloat16"):
        raise InputError(f"--dtype must be float32 or bfloat16 for --estimate-memory, got {dtype}")
    numbers = parse_numbers("--batch", batches)
    if len(numbers) > 1 or numbers[0] < 1:
        raise InputError(f"--batch must be one whole number from 1 on for --estimate-memory, got {batches}")
    [batch] = numbers
    config = read_config(model, length)
    setting = Setting(length, batch, dtype, checkpointing)
    return estimate_lines(model, setting, estimate(config, setting, *parameter_counts(config)))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]
