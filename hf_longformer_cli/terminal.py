# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What commands show on the terminal besides their results."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer


def show_checks(report: dict[str, Any], echo: Callable[[str], None] = typer.echo) -> None:
    """Prints the gate's table."""
    from hf_longformer.conversion import check_lines

    for line in check_lines(report["checks"]):
        echo(line)


def refusal(message: str) -> Exception:
    """The error that ends a command with one sentence and exit code 2."""
    from hf_longformer.conversion import InputError

    return InputError(message)


@contextmanager
def steps(total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on standard error whose label is the step at work."""
    from tqdm import tqdm

    quiet()
    start = time.monotonic()
    with tqdm(total=total, file=sys.stderr, bar_format="{bar:20} {n_fmt}/{total_fmt} {desc}", leave=False) as bar:

        def step(name: str) -> None:
            bar.set_description_str(f"{name} ({time.monotonic() - start:.0f} s)")
            bar.update()

        yield step


def quiet() -> None:
    """Leaves the terminal to this program: no bars and remarks of the libraries underneath."""
    from transformers.utils import logging as transformers_logging

    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    for name in ("huggingface_hub", "hf_longformer", "sentence_transformers"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
