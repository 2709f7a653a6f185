# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs `finetune/run_qa.py` with sharded parameters (FSDP2) in processes on a CPU, where accelerate would not shard.

Accelerate is told that these are several GPUs; and what it gathers is waited for, as the copy from a GPU would.
"""

import atexit
import sys
from typing import Any

import accelerate
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch import distributed
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.tensor import DTensor

from hf_longformer.finetune import run_qa
from hf_longformer.finetune.qa.spans import QuestionAnsweringTrainer

initialise, gather = AcceleratorState.__init__, accelerate.Accelerator.get_state_dict


def initialise_as_gpus(self: Any, *args: Any, **kwargs: Any) -> None:
    if PartialState(cpu=True, backend="gloo").distributed_type == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    initialise(self, *args, **kwargs)


def gather_and_wait(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return {name: _wait(tensor) for name, tensor in gather(*args, **kwargs).items()}


def _wait(tensor: Any) -> Any:
    return tensor.wait() if isinstance(tensor, AsyncCollectiveTensor) else tensor


class Trainer(QuestionAnsweringTrainer):
    """Makes sure that parameters are sharded."""

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
        return super().training_step(model, *args, **kwargs)


if __name__ == "__main__":
    AcceleratorState.__init__ = initialise_as_gpus
    accelerate.Accelerator.get_state_dict = gather_and_wait
    run_qa.TASK.trainer_class = Trainer
    atexit.register(lambda: sys.stdout.write(f"parted: {not distributed.is_initialized()}\n"))
    run_qa.main(sys.argv[1:])
