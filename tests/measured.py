# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What the measurements of trained models share: runs that are done once, and tables in a README."""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Run:
    """A training: the name of the script's module, its recipe, where its results go, and what else it is given."""

    script: str
    recipe: Path
    folder: Path
    options: dict[str, Any]


def read_arguments(description: str | None, data: str, help_for_data: str) -> argparse.Namespace:
    """The command line of a measurement: where runs are kept, its data, seeds, and how many trainings run at a time."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("place", type=Path, help="where runs are kept")
    parser.add_argument(data, type=Path, required=True, help=help_for_data)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--anew", action="store_true", help="measure again what the file of results has")
    parser.add_argument("--processes", type=int, default=1, help="trainings at a time, which share the cores")
    given = parser.parse_args()
    given.place.mkdir(parents=True, exist_ok=True)
    return given


def read_known(file: Path, anew: bool) -> dict[str, Any]:
    """What was measured before, on whichever machine, and is not to be measured again."""
    return {} if anew or not file.exists() else json.loads(file.read_text(encoding="utf-8"))


def wanted(rows: list[dict[str, Any]], key: str, names: Iterable[str], seeds: Iterable[int]) -> list[tuple[str, int]]:
    """Names and seeds that have no row yet."""
    known = {(row[key], row["seed"]) for row in rows}
    return [(name, seed) for seed in seeds for name in names if (name, seed) not in known]


def in_processes(function: Callable[[Any], Any], items: Sequence[Any], processes: int) -> Iterator[Any]:
    """What a function gives for items, in their order, each in a process of its own. Two that have one thread each take
    less time than one after the other with two threads, if models are small.
    """
    threads = max(1, torch.get_num_threads() // processes)
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, torch.set_num_threads, (threads,), max_tasks_per_child=1) as pool:
        yield from tqdm(pool.map(function, items), total=len(items))


def run_all(runs: Sequence[Run], processes: int) -> Iterator[dict[str, Any]]:
    """What runs measured, in their order."""
    return in_processes(run_once, runs, processes)


def run_once(run: Run) -> dict[str, Any]:
    """What a run measured; it is not repeated if it is done, and goes on if it was killed."""
    done = run.folder / "results.json"
    if not done.exists():
        words = [str(run.recipe), "--output_dir", str(run.folder), "--report_to", "none"]
        for name, value in run.options.items():
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
        sys.argv = [f"{run.script.rpartition('.')[2]}.py", *words]  # what results.json keeps as the command
        import_module(run.script).main(words)
        for checkpoint in run.folder.glob("**/checkpoint-*"):
            shutil.rmtree(checkpoint)
    return json.loads(done.read_text(encoding="utf-8"))


def kept(found: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's results is worth keeping for good."""
    names = ("scores", "training", "command", "hyperparameters", "phases", "rows", "questions", "windows")
    names += ("link_threshold", "processor", "threads", "date")
    return {
        name: _without_folders(found[name]) if name == "command" else found[name] for name in names if name in found
    }


def _without_folders(command: str) -> str:
    """Where somebody's files lay is of no use to others."""
    return " ".join(word.rpartition("/")[2] for word in command.split())


def spread(scores: Iterable[float], digits: int = 1) -> str:
    """Cells of a table: mean, standard deviation, and every score."""
    scores = list(scores)
    deviation = f"{statistics.stdev(scores):.{digits}f}" if len(scores) > 1 else ""
    every = ", ".join(f"{score:.{digits}f}" for score in scores)
    return f"{statistics.mean(scores):.{digits}f} | {deviation} | {every}"
