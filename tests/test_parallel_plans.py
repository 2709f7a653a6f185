# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`from_pretrained(…, distributed_config=…)`, Transformers' own sharding: two processes compute what one computes."""

import inspect
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_ids, randomise, tiny_config
from torch import distributed
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers.utils.logging import disable_progress_bar
from warm import run_two

from hf_longformer import HfLongformerForMaskedLM

ours = pytest.importorskip("transformers.distributed", reason="this release of Transformers shards no models itself")
if "fsdp_size" not in inspect.signature(ours.DistributedConfig).parameters:
    pytest.skip("this release of Transformers shards no models itself", allow_module_level=True)

SIZES = {"fsdp": {"fsdp_size": 2}, "tp": {"tp_size": 2}}
FIELDS: dict[str, Any] = {"num_hidden_layers": 3, "intermediate_size": 48}
FIELDS |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)


def outputs(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits, and gradients by name."""
    ids = random_ids(2, 40)
    marked = (torch.arange(40) % 17 == 0).long().expand(2, -1)
    found = model.train()(ids, global_attention_mask=marked, labels=ids)
    found.loss.backward()
    gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    whole = {name: one.full_tensor() if isinstance(one, DTensor) else one for name, one in gradients.items()}
    return found.logits.detach(), whole


def work(rank: int, folder: str) -> None:
    """What each process does."""
    torch.set_num_threads(1)
    disable_progress_bar()
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    results = {}
    for name, sizes in SIZES.items():
        model = HfLongformerForMaskedLM.from_pretrained(
            f"{folder}/model", distributed_config=ours.DistributedConfig(**sizes)
        )
        sharded = [name for name, one in model.named_parameters() if isinstance(one, DTensor)]
        wrapped = [name for name, one in model.named_modules() if isinstance(one, FSDPModule)]
        logits, gradients = outputs(model)
        results[name] = {"logits": logits, "gradients": gradients, "sharded": sharded, "wrapped": wrapped}
    if rank == 0:
        torch.save(results, f"{folder}/results.pt")
    distributed.destroy_process_group()


def test_two_processes_compute_what_one_computes(tmp_path: Path) -> None:
    model = randomise(HfLongformerForMaskedLM(tiny_config(**FIELDS)))
    model.save_pretrained(tmp_path / "model")
    done = run_two(["python", __file__, tmp_path])
    assert done.returncode == 0, done.stderr[-3000:]
    logits, gradients = outputs(model)
    results = torch.load(tmp_path / "results.pt")
    for name, found in results.items():
        torch.testing.assert_close(
            found["logits"], logits, rtol=1e-5, atol=1e-5, msg=lambda text, n=name: f"{n} {text}"
        )
        assert found["gradients"].keys() == gradients.keys()
        for key, gradient in gradients.items():
            torch.testing.assert_close(found["gradients"][key], gradient, rtol=1e-4, atol=1e-5)
    layers = {f"longformer.encoder.layer.{layer}" for layer in range(3)}
    assert set(results["fsdp"]["wrapped"]) == {"", "longformer.embeddings", *layers}  # gathered one by one
    assert len(results["fsdp"]["sharded"]) == len(list(model.parameters()))
    halves = {f"{layer}.{name}" for layer in layers for name in ("intermediate.dense.weight", "output.dense.weight")}
    assert halves <= set(results["tp"]["sharded"])
    assert not any(".attention." in name for name in results["tp"]["sharded"])


if __name__ == "__main__":
    work(int(os.environ["RANK"]), sys.argv[1])
