# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of several ways to do one thing, in turns, in this process; and what the machine is."""

import ctypes
import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch

MEBIBYTE = 2**20
SHORTEST_TIMING = 0.2  # seconds; what is shorter is repeated within one timing
Step = Callable[[], Any]


def alternate(
    contestants: Mapping[str, Callable[[], AbstractContextManager[Step]]],
    device: torch.device,
    passes: int = 3,
    longest: float = math.inf,
) -> dict[str, dict[str, Any]]:
    """Time and peak memory of every contestant. They take turns, every other round in reverse: what disturbs one
    disturbs all.

    Args:
        contestants: Name to a function that makes a context: entering it prepares, untimed, and gives the step.
        device: Where the steps run.
        passes: Timed rounds after one in which memory is measured. What takes longer than `longest` gets one.
        longest: Seconds.

    Returns:
        For every name `seconds`, the median of one step; `spread`, the slowest minus the fastest; `passes`; and
        `peak_megabytes`, the most memory (in MiB) held above what was held before the step. Or, if memory did not
        suffice, `failed`.
    """
    results: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    repeats: dict[str, int] = {}
    for turn in range(passes + 1):
        for name in list(contestants)[:: 1 if turn % 2 else -1]:
            if "failed" in results.get(name, {}) or (times[name] and max(times[name]) > longest):
                continue
            try:
                with contestants[name]() as step:
                    if turn:
                        times[name].append(_seconds(step, repeats[name], device))
                    else:
                        peak, seconds = peak_memory(step, device)
                        results[name] = {"peak_megabytes": peak / MEBIBYTE}
                        repeats[name] = max(1, math.ceil(SHORTEST_TIMING / seconds))
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                results[name] = {"failed": "out of memory"}
    for name, measured in times.items():
        if "failed" not in results[name]:
            figures = {"seconds": statistics.median(measured), "spread": max(measured) - min(measured)}
            results[name] = {**figures, "passes": len(measured), **results[name]}
    return {name: results[name] for name in contestants}


@contextmanager
def bare(step: Step) -> Iterator[Step]:
    """The context of a step that needs no preparation."""
    yield step


def peak_memory(step: Step, device: torch.device) -> tuple[int, float]:
    """The most bytes held during one step above those held before it, and the seconds that it took."""
    if device.type == "cuda":
        step()  # libraries keep workspaces from their first use on
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        seconds = _seconds(step, 1, device)
        return torch.cuda.max_memory_allocated(device) - before, seconds
    give_back_memory()
    before = _reset_peak_memory()
    seconds = _seconds(step, 1, device)
    return _peak_memory() - before, seconds


def gemm_rate(shapes: list[tuple[int, int, int]], dtype: torch.dtype, device: torch.device) -> float:
    """The machine's own rate, the yardstick: FLOP per second of the best of some products `(m, k) @ (k, n)`.

    Args:
        shapes: `(m, k, n)` of each.
        dtype: Of both factors.
        device: Where.
    """
    from torch.utils.benchmark import Timer

    rates = []
    for m, k, n in shapes:
        names: dict[str, Any] = {"linear": torch.nn.functional.linear}
        names |= {"x": torch.rand(m, k, dtype=dtype, device=device), "w": torch.rand(n, k, dtype=dtype, device=device)}
        with torch.inference_mode():
            timer = Timer("linear(x, w)", globals=names, num_threads=torch.get_num_threads())
            rates.append(2 * m * k * n / timer.blocked_autorange(min_run_time=0.5).median)
    return max(rates)


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a figure must carry: processor, cores used, versions and date."""
    import platform

    import transformers

    import hf_longformer

    device = torch.device(device)
    return {
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
            "hf-longformer": hf_longformer.__version__,
        },
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    """Architecture and the extensions that matter for matrix products; no model names."""
    import platform

    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return platform.machine()
    found = [name for name, flag in (("AVX-512", "avx512f"), ("AMX", "amx_bf16"), ("AVX2", "avx2")) if flag in flags]
    return f"{platform.machine()} with {' and '.join(found[:2])}" if found else platform.machine()


def give_back_memory() -> None:
    """Lets the C library return the pages it keeps for later, so that a step that needs them shows it (Linux)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only the GNU library has it
        if trim is not None:
            trim(0)


def available_memory() -> int | None:
    """Bytes that programs can still have; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def _seconds(step: Step, repeats: int, device: torch.device) -> float:
    """Seconds of one step, the mean of so many in a row."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(repeats):
            step()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1000 / repeats  # from milliseconds
    began = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - began) / repeats


def _is_out_of_memory(error: Exception) -> bool:
    words = ("can't allocate memory", "bad_alloc", "out of memory", "could not create a memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)


def _reset_peak_memory() -> int:
    """Bytes held now; on Linux the recorded peak starts anew from here."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak_memory()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak_memory() -> int:
    """The most bytes this process has held."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
