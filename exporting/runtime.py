# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""An exported checkpoint that is called like the model it was made of."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import ModelOutput

from hf_longformer import HfLongformerConfig
from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import read_json
from hf_longformer.conversion.plan import target_class
from hf_longformer.conversion.source import load_converted_config

from .formats import BACKENDS, FORMATS, REPORT
from .heads import GLOBAL, HEADS, TOKEN_TYPES, head_of
from .sessions import Session, open_session


class ExportedModel:
    """What `load_exported` gives: it takes the masks and ids that a model in PyTorch takes, refuses what that refuses,
    and gives the same outputs, as tensors. It runs on a CPU and cannot be trained.

    Args:
        folder: What `hf-longformer export` wrote.
        session: Its graph.
        config: The configuration of the checkpoint.
    """

    dtype = torch.float32
    device = torch.device("cpu")
    training = False

    def __init__(self, folder: Path, session: Session, config: HfLongformerConfig) -> None:
        self.config, self.session, self.name_or_path = config, session, str(folder)
        self.model_class: Any = target_class(head_of(config))
        with torch.device("meta"):  # for its choice of global tokens
            self._rules: Any = self.model_class(config)

    def eval(self) -> "ExportedModel":
        """Itself: there is no other mode."""
        return self

    def to(self, device: Any = "cpu") -> "ExportedModel":
        """Itself; `InputError` if anything but a CPU is asked for."""
        if torch.device(device).type != "cpu":
            raise InputError(f"an exported model runs on a CPU, got {device}")
        return self

    def __call__(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **others: Any,
    ) -> ModelOutput:
        """Outputs by name, float32 tensors of the shapes that the model in PyTorch gives.

        Args:
            input_ids: `(batch, length)`, of multiple choice `(batch, choices, length)`.
            attention_mask: The same shape, 1 for real tokens; all are real if left out.
            global_attention_mask: The same shape, 1 for global tokens, if the file was written to take one; the model's
                own choice if left out.
            token_type_ids: The same shape; 0 if left out.
            **others: None are taken; `return_dict=True` is.

        Raises:
            ValueError: If a shape, an id or a mask is wrong, or a text too long.
            NotImplementedError: If something is given that the graph does not take.
        """
        given = {name for name, value in others.items() if value is not None and (name, value) != ("return_dict", True)}
        if GLOBAL not in self.session.inputs and global_attention_mask is not None:
            given.add(GLOBAL)
        if given:
            raise NotImplementedError(
                f"this file takes {', '.join(self.session.inputs)}, got {', '.join(sorted(given))}"
                + (": export it with --global-attention-mask" if GLOBAL in given else "")
            )
        rank = len(HEADS[head_of(self.config)])
        if input_ids.dim() != rank or 0 in input_ids.shape:
            raise ValueError(f"input_ids must have {rank} dimensions, none empty, got {tuple(input_ids.shape)}")
        attention_mask = self._mask_of(input_ids) if attention_mask is None else attention_mask
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        if global_attention_mask is None and GLOBAL in self.session.inputs:
            global_attention_mask = self._default(input_ids, attention_mask)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, TOKEN_TYPES: token_type_ids}
        if global_attention_mask is not None:
            inputs[GLOBAL] = global_attention_mask
        self._check(inputs)
        arrays = {
            name: np.ascontiguousarray(inputs[name].cpu().numpy(), dtype=np.int64) for name in self.session.inputs
        }
        return ModelOutput(
            (name, torch.from_numpy(np.asarray(array, dtype=np.float32)))
            for name, array in self.session.run(arrays).items()
        )

    def default_global_attention_mask(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """As that of the model in PyTorch."""
        return self._rules.default_global_attention_mask(input_ids, attention_mask)

    def _default(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = self.default_global_attention_mask(input_ids, attention_mask)
        return torch.zeros_like(input_ids) if mask is None else mask.view_as(input_ids)

    def _mask_of(self, input_ids: torch.Tensor) -> torch.Tensor:
        """1 everywhere; without a mask a model counts positions by ids, which the graph does not."""
        if self.config.pad_token_id is not None and bool((input_ids == self.config.pad_token_id).any()):
            raise ValueError("attention_mask is needed where input_ids hold pad_token_id, got none")
        return torch.ones_like(input_ids)

    def _check(self, inputs: dict[str, torch.Tensor]) -> None:
        """Refuses what the model in PyTorch refuses; of runtimes, some give numbers all the same."""
        config, ids, mask = self.config, inputs["input_ids"], inputs["attention_mask"]
        for name, tensor in inputs.items():
            if tensor.shape != ids.shape:
                raise ValueError(f"{name} must have the shape {tuple(ids.shape)}, got {tuple(tensor.shape)}")
        for name in {"attention_mask", GLOBAL} & inputs.keys():
            if bool(((inputs[name] != 0) & (inputs[name] != 1)).any()):
                raise ValueError(f"{name} must hold 0 and 1 only, got {sorted(set(inputs[name].flatten().tolist()))}")
        if GLOBAL in inputs and bool((inputs[GLOBAL] > mask).any()):
            raise ValueError("a global token must be a real token, got global_attention_mask=1 and attention_mask=0")
        for name, limit in {"input_ids": config.vocab_size, TOKEN_TYPES: max(1, config.type_vocab_size)}.items():
            least, most = int(inputs[name].min()), int(inputs[name].max())
            if not 0 <= least <= most < limit:
                raise ValueError(f"{name} must lie in 0 … {limit - 1}, got {least} … {most}")
        by_ids = config.position_counting == "input_ids" and config.pad_token_id is not None
        counted = ids != config.pad_token_id if by_ids else mask
        longest = int(counted.sum(dim=-1).max())
        if longest > config.max_length_tokens:
            raise ValueError(
                f"the longest text has {longest} tokens, the model takes {config.max_length_tokens}: truncate it, or "
                "cut it into overlapping parts"
            )


def load_exported(folder: str | Path, backend: str = "onnx", threads: int | None = None) -> ExportedModel:
    """An exported checkpoint, ready to be called like the model it was made of.

    Args:
        folder: What `hf-longformer export` wrote.
        backend: `"onnx"`: ONNX Runtime, `"openvino"`, `"torch-export"`: PyTorch's own, or `"executorch"`.
        threads: To compute with; PyTorch's number if left out.

    Raises:
        InputError: If the folder holds no such export, or it cannot be opened.
        ImportError: If the runtime is not installed.
    """
    folder = Path(folder)
    if backend not in BACKENDS:
        raise InputError(f"a backend must be one of {', '.join(BACKENDS)}, got {backend}")
    if not (folder / REPORT).is_file():
        raise InputError(f"{folder} must be written by `hf-longformer export --format {backend}`, got no {REPORT}")
    written = read_json(folder / REPORT).get("format")
    if not isinstance(written, str) or written not in FORMATS or FORMATS[written].file != FORMATS[backend].file:
        raise InputError(f"{folder} must be exported with --format {backend}, got an export to {written}")
    config: Any = load_converted_config(folder)
    return ExportedModel(folder, open_session(folder, backend, threads), config)


__all__ = ["ExportedModel", "load_exported"]
