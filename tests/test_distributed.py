# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Two processes train what one process trains with both batches, and no parameter goes without a gradient.

`DistributedDataParallel` without `find_unused_parameters` stops with an error where a parameter is not used.
"""

import os
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch
from helpers import random_ids, tiny_config
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from transformers.utils.logging import disable_progress_bar
from warm import run_two

from hf_longformer import HfLongformerForMaskedLM, HfLongformerForSequenceClassification
from hf_longformer.transformers_internals import CHECKPOINTING

# Which of the two texts, one for each process, has global tokens.
MARKED = {"neither": [[], []], "both": [[0], [0, 9]], "one of them": [[0], []]}
CASES = list(product(("eager", "sdpa"), MARKED, (False, True)))


def batches() -> dict[str, torch.Tensor]:
    """Two texts of as many real tokens, so that the mean over both is the mean of two means."""
    ids = random_ids(2, 40)
    mask = torch.ones_like(ids)
    mask[:, 35:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.where(mask.bool(), -100)}


def make_problem(implementation: str, marked: str, checkpointing: bool) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(3)
    model = HfLongformerForMaskedLM(tiny_config(attn_implementation=implementation)).train()
    if checkpointing:
        getattr(model, f"{CHECKPOINTING}_enable")()
    inputs = batches()
    inputs["global_attention_mask"] = torch.zeros_like(inputs["input_ids"])
    for row, positions in enumerate(MARKED[marked]):
        inputs["global_attention_mask"][row, positions] = 1
    return model, inputs


def make_classification() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Here the head decides what is global."""
    torch.manual_seed(3)
    model = HfLongformerForSequenceClassification(tiny_config()).train()
    return model, batches() | {"labels": torch.tensor([0, 1])}


def problems() -> dict[str, tuple[nn.Module, dict[str, torch.Tensor]]]:
    found = {f"{case}": make_problem(*case) for case in CASES}
    return found | {"classification": make_classification()}


def train(model: nn.Module, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The loss before, between and after two steps."""
    optimiser, losses = torch.optim.SGD(model.parameters(), lr=0.3), []
    for _ in range(2):
        loss = model(**inputs).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    with torch.no_grad():
        losses.append(model(**inputs).loss)
    return losses


def work(rank: int, folder: str) -> None:
    """What each process does."""
    torch.set_num_threads(1)
    disable_progress_bar()
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    results: dict[str, Any] = {}
    for name, (model, inputs) in problems().items():
        rows = {key: tensor[rank : rank + 1] for key, tensor in inputs.items()}
        losses = torch.stack(train(DistributedDataParallel(model), rows))
        distributed.all_reduce(losses)
        results[name] = (losses / 2, {key: value.detach() for key, value in model.named_parameters()})
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_train_what_one_trains(tmp_path: Path):
    done = run_two(["python", __file__, tmp_path])
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    expected = {name: (train(model, inputs), model) for name, (model, inputs) in problems().items()}
    assert len(first) == len(expected) == 13
    for name, (losses, model) in expected.items():
        assert losses[2] < losses[1] < losses[0], name
        torch.testing.assert_close(
            first[name][0], torch.stack(losses), rtol=1e-5, atol=1e-6, msg=lambda t, n=name: f"{n} {t}"
        )
        for key, parameter in model.named_parameters():
            assert torch.equal(first[name][1][key], second[name][1][key]), (name, key)
            torch.testing.assert_close(first[name][1][key], parameter.detach(), rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    work(int(os.environ["RANK"]), sys.argv[1])
