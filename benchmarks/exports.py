# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Exports beside the model in PyTorch: one encoder of base size with random weights, each runtime in a process of its
own, in turns, and how far its numbers are off. `python benchmarks/exports.py` writes a line per runtime and length.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from hf_longformer import HfLongformerConfig, HfLongformerModel
from hf_longformer.exporting import to_onnx, to_openvino
from hf_longformer.exporting.heads import input_dimensions
from hf_longformer.exporting.quantize import to_int8
from hf_longformer.exporting.samples import TRACED, Case, sample
from hf_longformer.exporting.sessions import open_session

RUNTIMES = ("torch", "onnx", "openvino", "onnx-int8", "onnx-int8-static", "openvino-int8")
THREADS = 2


def make(place: Path, layers: int, size: int) -> None:
    """The model and its exports, a folder each."""
    torch.manual_seed(0)
    config = HfLongformerConfig(
        num_hidden_layers=layers,
        hidden_size=size,
        num_attention_heads=size // 64,
        intermediate_size=4 * size,
        attention_window=512,
        max_position_embeddings=16386,
        vocab_size=50265,
        type_vocab_size=1,
        global_attention="cls",
    )
    model = HfLongformerModel(config, add_pooling_layer=False).eval()
    config.architectures = ["HfLongformerModel"]
    model.save_pretrained(place / "torch")
    dimensions, inputs = input_dimensions(config, False), sample(config, Case(*TRACED, "right", None), False)
    for name in RUNTIMES[1:]:
        (place / name).mkdir()
    to_onnx.write(model, inputs, dimensions, place / "onnx" / "model.onnx")
    measured = [{name: ids.numpy() for name, ids in sample(config, Case(4, 512, "right", None), False).items()}]
    for name, batches in {"onnx-int8": None, "onnx-int8-static": measured}.items():
        to_int8(place / "onnx" / "model.onnx", place / name / "model.onnx", batches)
    for name in ("openvino", "openvino-int8"):
        to_openvino.convert(place / "onnx" / "model.onnx", place / name / "openvino_model.xml", name.endswith("int8"))


def opened(place: Path, runtime: str) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """What computes the last hidden states."""
    if runtime != "torch":
        session = open_session(place / runtime, runtime.split("-")[0], THREADS)
        return lambda inputs: session.run(inputs)["last_hidden_state"]
    torch.set_num_threads(THREADS)
    model = HfLongformerModel.from_pretrained(place / "torch", add_pooling_layer=False).eval()

    def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            return model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).last_hidden_state.numpy()

    return run


def memory(name: str) -> float:
    """Of this process in MiB: `VmRSS`, or `VmHWM`, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def work(place: Path, runtime: str) -> None:
    """Answers lengths on standard input with seconds, MiB above what was there before, and a sum to compare by."""
    run = opened(place, runtime)
    texts = np.random.default_rng(0).integers(5, 50000, (1, 16384))
    run({name: np.ones((1, 64), dtype=np.int64) for name in ("input_ids", "attention_mask")})
    for line in sys.stdin:
        ids = texts[:, : int(line)]
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        start = time.perf_counter()
        states = run(inputs)
        seconds, peak = time.perf_counter() - start, memory("VmHWM") - before
        np.save(place / f"{runtime}.npy", states)
        sys.stdout.write(json.dumps([seconds, peak]) + "\n")
        sys.stdout.flush()


def measure(place: Path, lengths: list[int], passes: int) -> None:
    """Asks all in turns and writes medians."""
    command = [sys.executable, __file__, "work", str(place)]
    workers = {
        name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        for name in RUNTIMES
    }
    for length in lengths:
        found: dict[str, list[list[float]]] = {name: [] for name in RUNTIMES}
        for _ in range(passes):
            for name, worker in workers.items():
                pipes: Any = worker
                pipes.stdin.write(f"{length}\n")
                pipes.stdin.flush()
                found[name].append(json.loads(pipes.stdout.readline()))
        expected = np.load(place / "torch.npy")
        base = statistics.median(seconds for seconds, _ in found["torch"])
        for name, pairs in found.items():
            seconds, peak = statistics.median(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
            error = float(abs(np.load(place / f"{name}.npy") - expected).max())
            times = ", ".join(f"{pair[0]:.2f}" for pair in pairs)
            sys.stdout.write(
                f"{length:>6} {name:<17} {seconds:6.2f} s, {seconds / base:.2f} of torch ({times}), +{peak:,.0f} MiB, "
                f"largest difference {error:.1e}\n"
            )
            sys.stdout.flush()
    for worker in workers.values():
        worker.communicate()


def main(words: list[str]) -> None:
    """`exports.py [LENGTHS [PASSES [LAYERS SIZE]]]`, or `work PLACE RUNTIME` in the processes that compute."""
    if words[:1] == ["work"]:
        work(Path(words[1]), words[2])
        return
    lengths = [int(one) for one in (words[0] if words else "1024,4096").split(",")]
    passes, layers, size = (int(one) for one in [*words[1:4], *("3", "12", "768")[len(words[1:4]) :]])
    names = ("torch", "transformers", "onnxruntime", "openvino")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    sys.stdout.write(f"{versions}, {THREADS} threads, float32, batch 1\n")
    with TemporaryDirectory() as folder:
        make(Path(folder), layers, size)
        measure(Path(folder), lengths, passes)


if __name__ == "__main__":
    main(sys.argv[1:])
