# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Trainings in which several processes share every text: `--context_parallel_size`.

Processes that share a text are given the same batches, and to `Trainer` they all seem to compute them: it averages
gradients over all processes, and of what it gathers each text is kept once.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import recursively_apply
from torch.distributed.device_mesh import init_device_mesh

from hf_longformer.context_parallel import context_parallel
from hf_longformer.conversion.errors import InputError

from .samplers import TokenBatchSampler


def check_division(task: str, divides: bool, arguments: Any) -> None:
    """Refuses to divide texts where that cannot be done.

    Args:
        task: The name of the task.
        divides: Whether its texts can be.
        arguments: A `LongTrainingArguments`.

    Raises:
        InputError: If it was asked for in vain.
    """
    size, processes = arguments.context_parallel_size, int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return
    if not divides:
        raise InputError(f"--context_parallel_size must be 1 for {task}, whose texts are not divided, got {size}")
    if processes % size:
        raise InputError(
            f"--context_parallel_size must divide the number of processes, got {size} and {processes}: start as many, "
            f"such as torchrun --nproc_per_node {size}"
        )
    if arguments.torch_compile:
        raise InputError("--torch_compile takes whole texts: leave it out, or --context_parallel_size")


@contextmanager
def divided(trainer: Any) -> Iterator[None]:
    """Inside, the texts of a trainer's model are divided, if its arguments say so.

    Raises:
        InputError: If the model's cannot be.
    """
    size = trainer.args.context_parallel_size
    if size == 1:
        yield
        return
    shape = (trainer.args.world_size // size, size)
    mesh = init_device_mesh(trainer.args.device.type, shape, mesh_dim_names=("batches", "texts"))
    try:
        with context_parallel(trainer.model, mesh["texts"]) as trainer.division:
            yield
    except NotImplementedError as error:
        raise InputError(f"--context_parallel_size cannot be {size}: {error}") from error
    finally:
        trainer.division = None


def share_batches(loader: Any, arguments: Any) -> Any:
    """A data loader as accelerate prepared it, which now gives processes that share texts the same batches.

    Raises:
        InputError: If the data is read as a stream.
    """
    size = arguments.context_parallel_size
    if size == 1:
        return loader
    if isinstance(loader.dataset, torch.utils.data.IterableDataset):
        raise InputError(f"--streaming must be False while --context_parallel_size is {size}")
    shard = loader.batch_sampler
    if not isinstance(getattr(shard, "batch_sampler", None), TokenBatchSampler):  # which knows
        shard.num_processes //= size
        shard.process_index //= size
        shard.even_batches = shard.num_processes > 1  # a last batch that is smaller stays so where all get it
    return loader


def gather_once(accelerator: Any, size: int, tensors: Any) -> Any:
    """What `gather_for_metrics` gathers, of the first of every `size` processes: others have the same texts."""
    gather, processes = accelerator.gather, accelerator.num_processes

    def first_of_each(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.unflatten(0, (processes // size, size, -1))[:, 0].flatten(0, 1)

    accelerator.gather = lambda given: recursively_apply(first_of_each, gather(given))
    try:
        return accelerator.gather_for_metrics(tensors)
    finally:
        accelerator.gather = gather


__all__ = ["check_division", "divided", "gather_once", "share_batches"]
