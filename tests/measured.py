# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What the measurements of trained models share: runs that are done once, and tables in a README."""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SEEDS = (0, 1, 2)


def read_arguments(description: str | None) -> argparse.Namespace:
    """The command line of a measurement on books: where runs are kept, the books, and seeds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("place", type=Path, help="where runs are kept")
    parser.add_argument("--books", type=Path, required=True, help="a folder with novels, one .txt file each")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--anew", action="store_true", help="measure again what the file of results has")
    given = parser.parse_args()
    given.place.mkdir(parents=True, exist_ok=True)
    return given


def read_known(file: Path, anew: bool) -> dict[str, Any]:
    """What was measured before, on whichever machine, and is not to be measured again."""
    return {} if anew or not file.exists() else json.loads(file.read_text(encoding="utf-8"))


def run_once(script: Any, recipe: Path, folder: Path, **options: Any) -> dict[str, Any]:
    """What a run measured; it is not repeated if it is done, and goes on if it was killed."""
    done = folder / "results.json"
    if not done.exists():
        words = [str(recipe), "--output_dir", str(folder), "--report_to", "none"]
        for name, value in options.items():
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
        sys.argv[1:] = words  # what results.json keeps as the command
        script.main(words)
        for checkpoint in folder.glob("**/checkpoint-*"):
            shutil.rmtree(checkpoint)
    return json.loads(done.read_text(encoding="utf-8"))


def kept(found: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's results is worth keeping for good."""
    names = ("scores", "training", "command", "hyperparameters", "rows", "questions", "windows")
    names += ("processor", "threads", "date")
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
