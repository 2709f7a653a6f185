# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Time and memory of one long text, encoded in segments: `python tests/measure_long_text.py TOKENS [--short 4096]`.

A random model of base size, float32. Time per token is compared with that of a text of `--short` tokens, which is
encoded anew between layers of the long one, so that both see the same machine. Memory is the largest resident size of
the process above what it had when the model was there.
"""

import argparse
import json
import resource
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import torch

from hf_longformer import HfLongformerConfig, HfLongformerModel


def resident() -> int:
    """Bytes that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Peak(threading.Thread):
    """The largest resident size, looked at every 20 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0

    def run(self) -> None:
        while True:
            self.bytes = max(self.bytes, resident())
            time.sleep(0.02)


def make(repeat: bool = True) -> HfLongformerModel:
    config = HfLongformerConfig(
        vocab_size=50265, type_vocab_size=1, max_position_embeddings=514, repeat_positions=repeat, pad_token_id=1
    )
    torch.manual_seed(0)
    return HfLongformerModel(config, add_pooling_layer=False).eval()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokens", type=int)
    parser.add_argument("--short", type=int, default=4096)
    parser.add_argument("--every", type=int, default=2, help="a short text is encoded after so many layers")
    parser.add_argument("--segment_length", type=int)
    options = parser.parse_args()
    model = make()
    ids = torch.randint(5, 50000, (1, options.tokens), generator=torch.Generator().manual_seed(0))
    marked = torch.zeros_like(ids)
    marked[:, 0] = 1
    short, marked_short = ids[:, : options.short], marked[:, : options.short]
    model(short, global_attention_mask=marked_short)
    before, of_short = resident(), []

    def once() -> float:
        start = time.perf_counter()
        model(short, global_attention_mask=marked_short)
        return time.perf_counter() - start

    peak = Peak()
    peak.start()
    spent = 0.0
    layers = list(model.encoder.layer)
    apply = layers[0].feed_forward.__func__
    state: dict[str, Any] = {"long": False, "tokens": 0}

    def counted(self: Any, hidden_states: torch.Tensor, roles: Any) -> torch.Tensor:
        nonlocal spent
        result = apply(self, hidden_states, roles)
        if state["long"]:
            state["tokens"] += hidden_states.shape[1]
            if state["tokens"] >= options.tokens * options.every:
                state.update(long=False, tokens=0)
                began = time.perf_counter()
                of_short.append(once())
                spent += time.perf_counter() - began
                state["long"] = True
        return result

    type(layers[0]).feed_forward = counted
    of_short.append(once())
    state["long"] = True
    start = time.perf_counter()
    states = model(ids, global_attention_mask=marked, segment_length=options.segment_length).last_hidden_state
    seconds = time.perf_counter() - start - spent
    state["long"] = False
    of_short.append(once())
    per_token = seconds / options.tokens
    per_short = statistics.median(of_short) / options.short
    print(
        json.dumps(
            {
                "tokens": options.tokens,
                "seconds": round(seconds, 1),
                "microseconds_per_token": round(per_token * 1e6, 1),
                "of_short": [round(x / options.short * 1e6, 1) for x in of_short],
                "ratio": round(per_token / per_short, 3),
                "mib_above_model": round((peak.bytes - before) / 2**20),
                "mib_of_states": round(states.numel() * 4 / 2**20),
                "threads": torch.get_num_threads(),
                "finite": bool(states.isfinite().all()),
            }
        )
    )


if __name__ == "__main__":
    main()
