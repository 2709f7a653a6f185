# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of encoders on one text, each in a process of its own, so that none pays for another."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPEATS = 3
MEBIBYTE = 2**20


def compare(folders: Mapping[str, Path], length: int, repeats: int = REPEATS) -> dict[str, dict[str, float]]:
    """Inference of several checkpoints on a text of random tokens, batch 1, `<s>` global where there is such a thing.

    Args:
        folders: Name to checkpoint folder; all of one vocabulary.
        length: Tokens.
        repeats: Timed passes after one that is not; the median counts.

    Returns:
        For every name `seconds`, the median of one pass; `spread`, the largest minus the smallest; and
        `peak_megabytes`, the most memory the process held above that of the loaded model.

    Raises:
        RuntimeError: If a measurement fails.
    """
    results = {}
    for name, folder in folders.items():
        command = [sys.executable, "-m", "hf_longformer.benchmarks.measure", str(folder), str(length), str(repeats)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own module)
        if done.returncode:
            raise RuntimeError(f"measuring {name} failed: {done.stderr.strip().splitlines()[-1:]}")
        results[name] = json.loads(done.stdout.splitlines()[-1])
    return results


def machine() -> dict[str, Any]:
    """What a figure must carry: processor, cores used, versions and date."""
    import platform

    import torch
    import transformers

    import hf_longformer

    return {
        "processor": _processor() or platform.machine(),
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
        return ""
    found = [name for name, flag in (("AVX-512", "avx512f"), ("AMX", "amx_bf16"), ("AVX2", "avx2")) if flag in flags]
    return f"{platform.machine()} with {' and '.join(found[:2])}" if found else platform.machine()


def _measure(folder: str, length: int, repeats: int) -> dict[str, float]:
    import torch
    from transformers import AutoModel

    import hf_longformer  # noqa: F401 (registers the model)

    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    generator = torch.Generator().manual_seed(0)
    inputs = {"input_ids": torch.randint(5, model.config.vocab_size, (1, length), generator=generator)}
    if "longformer" in model.config.model_type:
        inputs["global_attention_mask"] = torch.nn.functional.one_hot(torch.tensor([0]), length)
    times = []
    with torch.inference_mode():
        for parameter in model.parameters():  # weights are read from disk when they are first used
            parameter.sum()
        model(inputs["input_ids"][:, :8])
        loaded = _reset_peak_memory()
        for _ in range(repeats + 1):
            start = time.perf_counter()
            model(**inputs)
            times.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(times[1:]),
        "spread": max(times[1:]) - min(times[1:]),
        "peak_megabytes": (_peak_memory() - loaded) / MEBIBYTE,
    }


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


def main() -> None:
    """Measures one checkpoint and writes the result as the last line of standard output."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder")
    parser.add_argument("length", type=int)
    parser.add_argument("repeats", type=int)
    sys.stdout.write(json.dumps(_measure(**vars(parser.parse_args()))) + "\n")


if __name__ == "__main__":
    main()
