# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`torch.export`: a program of PyTorch's own operators, which runs without this package and without Transformers."""

from pathlib import Path
from typing import Any

import torch

from .to_onnx import free_sizes, silence


class Plain(torch.nn.Module):
    """Gives a dictionary, which programs can be loaded with by anybody."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        outputs = self.model(
            input_ids, attention_mask, global_attention_mask, token_type_ids=token_type_ids, return_dict=True
        )
        return dict(outputs.items())


def write(
    model: Any,
    inputs: dict[str, torch.Tensor],
    dimensions: dict[str, tuple[str, ...]],
    file: Path,
    dtype: str = "float32",
    batches: None = None,
) -> None:
    """Writes a model as a program whose dimensions are free.

    Args:
        model: In evaluation mode.
        inputs: Texts to trace it with, tensors by name: more than one, of more than one token.
        dimensions: Names of the dimensions of every input.
        file: To write.
        dtype: `"float32"`.
        batches: None are needed.
    """
    with silence(), torch.no_grad():
        program = torch.export.export(Plain(model), (), inputs, dynamic_shapes=free_sizes(dimensions))
        torch.export.save(program, file)


__all__ = ["Plain", "write"]
