# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""ExecuTorch: one file for phones and small devices, through XNNPACK. Its programs have sizes that do not change (with
free ones its lowering fails): one text, as long as the longest that the checkpoint reads. Shorter ones are padded.
"""

from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad

from hf_longformer.conversion import InputError

from .heads import CHOICES, HEADS, head_of
from .to_onnx import silence
from .to_torch_export import Plain

# Methods of the file that take nothing and say what is in it: programs know no names.
LENGTH, INPUTS, OUTPUTS = "length", "inputs", "outputs"


def refuse(config: Any) -> None:
    """Raises `InputError` if a checkpoint cannot be a program of fixed sizes."""
    if HEADS[head_of(config)] is CHOICES:
        raise InputError("an ExecuTorch program reads one text, got a head that reads several choices")
    if config.repeat_positions:
        raise InputError(
            "an ExecuTorch program reads texts of one length, got a checkpoint for texts of any length: write one of "
            "some length with `hf-longformer convert --max-length` first"
        )


def write(
    model: Any,
    inputs: dict[str, torch.Tensor],
    dimensions: dict[str, tuple[str, ...]],
    file: Path,
    dtype: str = "float32",
    batches: None = None,
) -> None:
    """Writes a model as a program for one text of `config.max_length_tokens`.

    Args:
        model: In evaluation mode.
        inputs: Texts to trace it with, tensors by name; the first is taken.
        dimensions: Names of the dimensions of every input.
        file: To write.
        dtype: `"float32"`.
        batches: None are needed.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    length = model.config.max_length_tokens
    one = {name: pad(tensor[:1], (0, length - tensor.shape[1])) for name, tensor in inputs.items()}
    with silence(), torch.no_grad():
        program = torch.export.export(Plain(model), (), one)
        outputs: Any = program.call_spec.out_spec
        says = {LENGTH: length, INPUTS: " ".join(one), OUTPUTS: " ".join(outputs.context)}
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], constant_methods=says)
        file.write_bytes(lowered.to_executorch().buffer)


__all__ = ["INPUTS", "LENGTH", "OUTPUTS", "refuse", "write"]
