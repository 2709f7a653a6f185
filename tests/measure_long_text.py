# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Time and memory of one long text, encoded in segments: `python tests/measure_long_text.py TOKENS`.

A random model of base size, float32. Its time per token is compared with that of a text of 4,096 tokens, which is
encoded again after every layer of the long one, so that both see the same machine. Memory is the largest resident size
of the process above what it had with the model.

With `--training`, a step of sequence classification with dropout, gradient checkpointing and AdamW is measured instead,
between steps of 4,096 tokens; `hf-longformer bench --estimate-memory base --checkpointing` says what it is expected to
take.
"""

import argparse
import json
import resource
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from hf_longformer import HfLongformerConfig, HfLongformerForSequenceClassification, HfLongformerModel, text_segments

SHORT = 4096  # tokens


def resident() -> int:
    """Bytes that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Inside, the only element is the largest resident size, looked at every 20 ms."""
    peak, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.02):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        is_over.set()
        watcher.join()


class Alternating:
    """Encodes a short text after every layer of a long one, and keeps the seconds that this takes."""

    def __init__(self, model: Any, ids: torch.Tensor, marked: torch.Tensor) -> None:
        self.model, self.ids, self.marked = model, ids[:, :SHORT], marked[:, :SHORT]
        self.seconds: list[float] = []

    def encode_short(self) -> None:
        start = time.perf_counter()
        self.model(self.ids, global_attention_mask=self.marked)
        self.seconds.append(time.perf_counter() - start)

    def __enter__(self) -> "Alternating":
        self.encode_short()  # not counted: memory is taken for the first time
        self.seconds.clear()
        self.apply = apply = text_segments.apply_layer

        def alternate(walk: Any, *args: Any) -> None:
            apply(walk, *args)
            self.encode_short()

        text_segments.apply_layer = alternate  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        text_segments.apply_layer = self.apply  # type: ignore[method-assign]


def training_step(config: HfLongformerConfig, tokens: int) -> dict[str, Any]:
    """Seconds and memory of a step: forward, backward and AdamW."""
    model = HfLongformerForSequenceClassification(config).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters())

    def step(length: int) -> tuple[float, float]:
        ids = torch.randint(5, 50000, (1, length))
        start = time.perf_counter()
        loss = model(ids, labels=torch.ones(1, dtype=torch.long)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - start, float(loss.detach())

    step(SHORT)  # not counted: AdamW takes the memory of its states
    of_short = [step(SHORT)[0] / SHORT for _ in range(2)]
    with peak_memory() as peak:
        seconds, loss = step(tokens)
    of_short += [step(SHORT)[0] / SHORT for _ in range(2)]
    return {
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "ratio": round(seconds / tokens / statistics.mean(of_short), 3),
        "of_short": [round(each * 1e6, 1) for each in of_short],
        "mib_of_process": round(peak[0] / 2**20),
        "threads": torch.get_num_threads(),
        "loss": loss,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokens", type=int)
    parser.add_argument("--segment_length", type=int)
    parser.add_argument("--training", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    config = HfLongformerConfig(
        vocab_size=50265, type_vocab_size=1, max_position_embeddings=514, repeat_positions=True, pad_token_id=1
    )
    row = training_step(config, options.tokens) if options.training else encoding(config, options)
    sys.stdout.write(json.dumps(row) + "\n")


@torch.no_grad()
def encoding(config: HfLongformerConfig, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of encoding a text."""
    model = HfLongformerModel(config, add_pooling_layer=False).eval()
    ids = torch.randint(5, 50000, (1, options.tokens))
    marked = torch.zeros_like(ids)
    marked[:, 0] = 1
    with Alternating(model, ids, marked) as alternating, peak_memory() as peak:
        before, start = resident(), time.perf_counter()
        outputs = model(
            ids, global_attention_mask=marked, segment_length=options.segment_length or text_segments.SEGMENT
        )
        seconds = time.perf_counter() - start - sum(alternating.seconds)
    states = outputs.last_hidden_state
    of_long, of_short = seconds / options.tokens, [each / SHORT for each in alternating.seconds]
    return {
        "tokens": options.tokens,
        "seconds": round(seconds, 1),
        "microseconds_per_token": round(of_long * 1e6, 1),
        "of_short": [round(each * 1e6, 1) for each in of_short],
        "ratio": round(of_long / statistics.mean(of_short), 3),
        "mib_above_model": round((peak[0] - before) / 2**20),
        "mib_of_states": round(states.numel() * states.element_size() / 2**20),
        "threads": torch.get_num_threads(),
        "is_finite": bool(states.isfinite().all()),
    }


if __name__ == "__main__":
    main()
