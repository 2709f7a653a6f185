# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The file of results of `hf-longformer bench needle` and `bench retrieval`, which goes on where it stopped."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import read_json, write_json


def read_results(
    output: Path, facts: dict[str, Any], remembered: Iterable[str], is_cell: Callable[[Any], bool], anew: bool
) -> dict[str, Any]:
    """The results so far, none if there are none or they are not wanted.

    Args:
        output: The JSON file.
        facts: What is measured now, and with what.
        remembered: Names of facts that are the same for all of a file.
        is_cell: Whether something is an entry of the list `cells`.
        anew: Whether results are not wanted.

    Raises:
        InputError: If they are damaged, or were measured otherwise or on another machine.
    """
    if not output.parent.is_dir() or output.is_dir():
        raise InputError(f"--output must be a file in a folder that exists, got {output}")
    if anew or not output.exists():
        return {**facts, "cells": []}
    results = read_json(output)
    cells = results.get("cells")
    if not isinstance(cells, list) or not all(map(is_cell, cells)):
        raise InputError(f"{output.name} must hold results of this command, got something else")
    for name in remembered:
        if results.get(name) != facts[name]:
            raise InputError(
                f"{output} was measured with other {name}, {results.get(name)} instead of {facts[name]}: choose "
                "another --output, or --anew to begin again"
            )
    return {**results, **facts}


def write_results(output: Path, results: dict[str, Any]) -> None:
    """Writes them, whole or not at all.

    Raises:
        InputError: If the file cannot be written.
    """
    try:
        write_json(output, results)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from error


def check_no_repeats(**values: Iterable[int]) -> None:
    """Refuses numbers that are named twice, by the names of their options.

    Raises:
        InputError: If there are any.
    """
    for name, numbers in values.items():
        listed = list(numbers)
        if len(set(listed)) < len(listed):
            raise InputError(f"--{name} must name nothing twice, got {', '.join(map(str, listed))}")
