# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""A training step of one long text in one process beside the same in several, one thread each, in turns:
`python tests/measure_context_parallel.py --tokens 16384 --processes 2`.

A random classifier of base width without dropout. Before times count, loss and gradients are compared. Times are those
of the clock and of the processor, of a forward and a backward pass.
"""

import argparse
import json
import os
import socket
import statistics
import sys
import time
from typing import Any

import torch
from torch import distributed, multiprocessing

from hf_longformer import HfLongformerConfig, HfLongformerForSequenceClassification
from hf_longformer.context_parallel import context_parallel


def make(tokens: int, layers: int) -> tuple[Any, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    config = HfLongformerConfig(
        num_hidden_layers=layers,
        max_position_embeddings=tokens + 2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=2,
    )
    model = HfLongformerForSequenceClassification(config).train()
    return model, {"input_ids": torch.randint(5, 30000, (1, tokens)), "labels": torch.tensor([1])}


def step(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss, and seconds of the clock and of the processor."""
    model.zero_grad()
    clock, processor = time.perf_counter(), time.process_time()
    loss = model(**batch).loss
    loss.backward()
    seconds = [time.perf_counter() - clock, time.process_time() - processor]
    return loss.detach(), torch.tensor(seconds, dtype=torch.float64)


def gradients(model: Any) -> torch.Tensor:
    return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])


def work(rank: int, port: int, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=options.processes)
    model, batch = make(options.tokens, options.layers)
    alone, together = [], []
    for number in range(options.rounds + 1):
        distributed.barrier()
        if rank == 0:
            loss, seconds = step(model, batch)
            expected = gradients(model)
            alone.append(seconds.tolist())
        distributed.barrier()
        with context_parallel(model, distributed.group.WORLD):
            loss_together, seconds = step(model, batch)
        distributed.all_reduce(seconds, distributed.ReduceOp.MAX)
        together.append(seconds.tolist())
        if number == 0:
            found = gradients(model)
            distributed.all_reduce(found)
            if rank == 0:
                torch.testing.assert_close(loss_together, loss, rtol=1e-5, atol=1e-6)
                torch.testing.assert_close(found / options.processes, expected, rtol=1e-3, atol=1e-5)
    if rank == 0:
        report(options, alone[1:], together[1:])
    distributed.destroy_process_group()


def report(options: argparse.Namespace, alone: list[list[float]], together: list[list[float]]) -> None:
    row: dict[str, Any] = dict(vars(options))
    for place, name in enumerate(("clock", "processor")):
        one, several = [each[place] for each in alone], [each[place] for each in together]
        row[name] = {
            "one process": [round(each, 2) for each in one],
            "each of several, the slowest": [round(each, 2) for each in several],
            "ratio of medians": round(statistics.median(one) / statistics.median(several), 2),
        }
    sys.stdout.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, number in {"tokens": 16384, "layers": 2, "rounds": 5, "processes": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    multiprocessing.start_processes(work, (port, options), nprocs=options.processes, start_method="spawn")


if __name__ == "__main__":
    main()
