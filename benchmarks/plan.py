# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What is to be measured: cells, each of one length, window, dtype …, in which all peers meet."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import torch

from hf_longformer.conversion import InputError

from .peers import CAUSAL, COMPILED, INFERENCE, ON_GPUS, OPERATOR, PADDING, SEQ2SEQ, SIZES, TRAINING, WRITERS

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What the C library is told (glibc), by environment variables: nothing; to keep freed pages for later; or to return
# everything of 128 KiB and more to the system as soon as it is freed, so that nothing but living tensors is held.
ALLOCATORS = {
    "default": {},
    "keeps": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62), "MALLOC_TOP_PAD_": str(2**26)},
    "returns": {"MALLOC_MMAP_THRESHOLD_": str(2**17), "MALLOC_TRIM_THRESHOLD_": str(2**17)},
}
MEMORY = ("inference", "training", "training-checkpointing")
# What is measured, and who takes part.
SUITES: dict[str, tuple[str, ...]] = {
    "operator forward": OPERATOR,
    "operator forward and backward": OPERATOR,
    "inference": INFERENCE,
    "training": TRAINING,
    "causal training": CAUSAL,
    "encoder-decoder inference": SEQ2SEQ,
    "encoder-decoder training": SEQ2SEQ,
    "encoder-decoder generation": WRITERS,
    "padding": PADDING,
    "memory": MEMORY,
}
NOT_IN_ALL = ("memory", *(suite for suite in SUITES if suite.startswith("encoder-decoder")))
CHOICES = ("operator", "inference", "training", "causal", "encoder-decoder", "padding", "memory", "all")


@dataclass(frozen=True)
class Cell:
    """One place in the tables, where all peers are measured in turns.

    Args:
        suite: One of `SUITES`.
        size: One of `SIZES`.
        length: Tokens per text.
        attention_window, attention_dilation: Of those that have one.
        dtype: What is computed in: weights and all in inference, by autocast in training.
        batch: Texts.
        allocator: One of `ALLOCATORS`.
        device: `"cpu"` or `"cuda"`.
    """

    suite: str
    size: str
    length: int
    attention_window: int
    attention_dilation: int
    dtype: str
    batch: int
    allocator: str
    device: str

    @property
    def group(self) -> "Cell":
        """What one process measures: the same with any length, except for memory, where nothing may come before."""
        return self if self.suite == "memory" else replace(self, length=0)


def make_cells(
    what: str,
    *,
    size: str,
    lengths: Sequence[int],
    windows: Sequence[int],
    dilations: Sequence[int],
    dtypes: Sequence[str],
    batches: Sequence[int],
    allocators: Sequence[str],
    device: str,
) -> list[Cell]:
    """All combinations, the cells of one process beside one another, short lengths first.

    Raises:
        InputError: If a value is unknown or impossible.
    """
    _check("WHAT", [what], CHOICES)
    _check("--size", [size], SIZES)
    _check("--dtype", dtypes, DTYPES)
    _check("--allocator", allocators, ALLOCATORS)
    for name, values, least in (("--lengths", lengths, 3), ("--dilations", dilations, 1), ("--batch", batches, 1)):
        if not values or min(values) < least:
            raise InputError(f"{name} must be whole numbers from {least} on, got {_listed(values)}")
    if not windows or any(window < 2 or window % 2 for window in windows):
        raise InputError(f"--windows must be even numbers from 2 on, got {_listed(windows)}")
    suites = [suite for suite in SUITES if what == suite.split()[0] or (what == "all" and suite not in NOT_IN_ALL)]
    if "float16" in dtypes and any(suite.endswith("training") or suite == "memory" for suite in suites):
        raise InputError("training is measured in float32 and bfloat16, got --dtype float16")
    if device not in ("cpu", "cuda"):
        raise InputError(f"--device must be cpu or cuda, got {device}")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda needs a GPU that PyTorch sees, got none")
    if device == "cuda" and ("memory" in suites or list(allocators) != ["default"]):
        raise InputError("--allocator and memory are about the C library on a CPU, got --device cuda")
    if "memory" in suites:
        allocators = ["returns", "default"] if list(allocators) == ["default"] else allocators
    combinations = product(suites, windows, dilations, dtypes, sorted(set(batches)), allocators, sorted(set(lengths)))
    return [
        Cell(suite, size, length, window, dilation, dtype, batch, allocator, device)
        for suite, window, dilation, dtype, batch, allocator, length in combinations
    ]


def choose_peers(cell: Cell, peers: Iterable[str] | None) -> list[str]:
    """Those of a cell's peers that are wanted and possible; all if None, but what is compiled on GPUs only."""
    known = SUITES[cell.suite]
    chosen = [name for name in known if peers is None or name in peers]
    if peers is None and cell.device == "cpu":  # compilers take minutes there, and kernels are others
        chosen = [name for name in chosen if name not in ON_GPUS]
    if cell.attention_dilation > 1:
        chosen = [name for name in chosen if COMPILED.get(name, name) not in ("stock", "led")]  # which ignore dilation
    return chosen


def check_peers(peers: Iterable[str] | None, cells: Iterable[Cell]) -> None:
    """Refuses names that take no part in any cell.

    Raises:
        InputError: If there is one.
    """
    if peers is not None:
        _check("--peers", peers, dict.fromkeys(name for cell in cells for name in SUITES[cell.suite]))


def parse_numbers(name: str, text: str) -> list[int]:
    """Whole numbers separated by commas.

    Raises:
        InputError: If it is something else.
    """
    try:
        return [int(word.replace("_", "")) for word in text.split(",")]
    except ValueError as error:
        raise InputError(f"{name} must be whole numbers separated by commas, got {text!r}") from error


def find(results: dict[str, Any], cell: Cell) -> dict[str, Any] | None:
    """The entry of a cell in a file of results."""
    facts = asdict(cell)
    return next((entry for entry in results["cells"] if facts.items() <= entry.items()), None)


def _check(name: str, values: Iterable[str], known: Iterable[str]) -> None:
    if unknown := [value for value in values if value not in known]:
        raise InputError(f"{name} must be one of {', '.join(known)}, got {_listed(unknown)}")


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values)) or "nothing"
