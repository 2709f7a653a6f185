# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Predictions for documents of any length: windows, batches by tokens, and one result per document."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import DataCollatorWithPadding, PreTrainedConfig

from hf_longformer.conversion import InputError
from hf_longformer.conversion.source import load_tokenizer, refusing
from hf_longformer.exporting import ExportedModel, load_exported

from .checkpoints import LOADABLE, OURS, load_checkpoint
from .data import text_of
from .prediction_defaults import read_defaults
from .windows import check_length, check_stride

TOKENS_PER_BATCH = 16_384
COUNTS = ("n_best", "max_answer_length", "max_question_length")


class Predictor:
    """A checkpoint that answers: rows in, one result per row out, whatever their lengths.

    Args:
        model: The fine-tuned model, or what `exporting.load_exported` makes of its export.
        tokenizer: Its tokenizer.
        tokens_per_batch: Tokens at once, padding included; at least one window.
        local_files_only: Whether to stay off the network.
        **options: How inputs are cut; what is left out or None is what the checkpoint was trained with.

    Raises:
        InputError: If an option cannot be used.
    """

    task: str
    model_class: Any
    columns: tuple[str, ...]
    may_be_empty: tuple[str, ...] = ()
    one_of: bool = False  # whether a row has one of the columns, not all of them
    defaults: dict[str, Any]

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        tokens_per_batch: int = TOKENS_PER_BATCH,
        local_files_only: bool = False,
        **options: Any,
    ) -> None:
        kind = model.model_class if isinstance(model, ExportedModel) else type(model)
        if not issubclass(kind, self.model_class):
            is_ours = issubclass(kind, OURS)
            what = "trained for another task" if is_ours else "not converted: run `hf-longformer convert` first"
            raise InputError(f"{self.task} needs a {self.model_class.__name__}, got a {kind.__name__}, {what}")
        if tokenizer is None:
            raise InputError(f"a tokenizer is needed, got none beside {model.name_or_path}")
        self.model, self.tokenizer, self.tokens_per_batch = model.eval(), tokenizer, tokens_per_batch
        unknown = set(options) - set(self.defaults)
        if unknown:
            raise InputError(f"options must be of {', '.join(self.defaults)}, got {', '.join(sorted(unknown))}")
        given = {name: value for name, value in options.items() if value is not None}
        self.options = {**self.defaults, **self._of_training(local_files_only), **given}
        counts = {"tokens_per_batch": tokens_per_batch} | {name: self.options.get(name, 1) for name in COUNTS}
        for name, value in counts.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
        limit = model.config.max_length_tokens
        self.options["max_seq_length"] = check_length(self.options["max_seq_length"], limit, "the longest input")
        self.options["stride"] = check_stride(self.options["stride"], self.options["max_seq_length"])
        self.collate: Callable[[list[dict[str, Any]]], Any] = DataCollatorWithPadding(tokenizer)

    @classmethod
    def load(
        cls,
        checkpoint: str,
        *,
        device: str | None = None,
        dtype: str = "float32",
        backend: str = "torch",
        local_files_only: bool = False,
        **options: Any,
    ) -> "Predictor":
        """A predictor from a checkpoint.

        Args:
            checkpoint: A folder or a Hub name.
            device: Where to compute, as torch names it; an accelerator if there is one, if left out.
            dtype: What is computed in, as torch names it; `"auto"`: what the weights are stored as.
            backend: `"torch"`, or the runtime of an export, which `checkpoint` is the folder of then.
            local_files_only: Whether to stay off the network.
            **options: As above.

        Raises:
            InputError: If the checkpoint cannot be loaded or is for another task, or an option cannot be used.
        """
        if backend != "torch":
            check_of_export(dtype, device)
            model: Any = load_exported(checkpoint, backend)
            return cls(model, load_tokenizer(Path(checkpoint)), local_files_only=True, **options)
        model, tokenizer = load_trained(cls, checkpoint, local_files_only=local_files_only, dtype=dtype)
        return cls(model.to(device or default_device()), tokenizer, local_files_only=local_files_only, **options)

    def _of_training(self, local_files_only: bool) -> dict[str, Any]:
        if not self.model.name_or_path:  # it was made here, and has no files
            return {}
        content = read_defaults(self.model.name_or_path, local_files_only)
        return {name: value for name, value in content.items() if name in self.defaults}

    def __call__(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One result per row; of a row of which something was left out, with `truncated` and `tokens_cut`.

        Args:
            rows: With the entries that `columns` names: texts, or lists of paragraphs, that are not empty.

        Raises:
            InputError: If an entry is no text, or cannot be cut as it is wanted.
            RuntimeError: If the model gives no numbers.
        """
        rows, windows = self.prepare(rows)
        return self.finish(rows, windows, self.outputs(windows))

    def prepare(self, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows as they were read, and their windows: what comes before the model.

        Raises:
            InputError: If an entry is no text, or cannot be cut as it is wanted.
        """
        rows = [self.read(row) for row in rows]
        return rows, self.windows(rows)

    def finish(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """One result per row: what comes behind the model.

        Args:
            rows, windows: As `prepare` gives them.
            outputs: What the model says of the windows.
        """
        results = self.results(rows, windows, outputs)
        cut = {one["text"]: one["cut"] for one in windows}
        return [
            {**result, "truncated": True, "tokens_cut": cut[number]} if cut[number] else result
            for number, result in enumerate(results)
        ]

    def outputs(self, windows: list[dict[str, Any]]) -> list[Any]:
        """What the model says of windows, in batches of about the same length.

        Raises:
            RuntimeError: If it gives no numbers.
        """
        found: list[Any] = [None] * len(windows)
        with torch.inference_mode():
            for chosen in token_batches([len(one["input_ids"]) for one in windows], self.tokens_per_batch):
                for index, output in zip(chosen, self.forward([windows[index] for index in chosen]), strict=True):
                    found[index] = self._checked(output)
        return found

    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        """What `windows` and `results` need of a row; new, so that they can add to it.

        Raises:
            InputError: If an entry is no text.
        """
        return {name: text_of(row[name]) for name in self.columns}

    def complaint(self, row: dict[str, Any], names: Mapping[str, str] = MappingProxyType({})) -> str | None:
        """What is wrong with a row; None if nothing is.

        Args:
            row: The row.
            names: What its entries are called elsewhere.
        """
        for name in self.columns:
            called = names.get(name, name)
            if name not in row:
                return f"an entry {called} is needed, got none"
            try:
                text = text_of(row[name])
            except InputError as error:
                return f"{called}: {error}"
            if not text.strip() and name not in self.may_be_empty:
                return f"{called} must not be empty"
        return None

    def _checked(self, output: Any) -> Any:
        if np.isnan(np.asarray(output)).any():
            raise RuntimeError(
                "the model must give numbers, got NaN: its weights, or the dtype, cannot be computed with"
            )
        return output

    def windows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of tokens, each with the index `text` of its row, and `cut`, how many tokens of that were left out."""
        raise NotImplementedError

    def forward(self, windows: list[dict[str, Any]]) -> Iterable[Any]:
        """What the model says of every window of a batch."""
        raise NotImplementedError

    def results(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """What is said of every row."""
        raise NotImplementedError

    def fields(self) -> dict[str, pa.DataType]:
        """What the entries of a result are as columns of a table, the same for every result of this checkpoint."""
        raise NotImplementedError(
            f"results of {self.task} cannot stand in a table: {type(self).__name__} has no fields"
        )

    def row_of_table(self, result: dict[str, Any]) -> dict[str, Any]:
        """A result as a row of that table; an entry that is missing there is null."""
        return result


def default_device() -> Any:
    """An accelerator if there is one."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or "cpu"


def check_of_export(dtype: str, device: str | None) -> None:
    """Refuses what an export does not leave open.

    Raises:
        InputError: If another dtype or device is asked for.
    """
    if dtype != "float32" or device not in (None, "cpu"):
        raise InputError(
            f"an export computes on a CPU in what it was exported as, got {dtype} on {device or 'cpu'}: leave both "
            "out, and choose with `hf-longformer export --dtype`"
        )


def load_trained(predictor: type[Predictor], checkpoint: str, **options: Any) -> tuple[Any, Any]:
    """A model that was trained for a predictor's task, all of it from its files, and its tokenizer.

    Args:
        predictor: The class.
        checkpoint: A folder or a Hub name.
        **options: For `load_checkpoint`.

    Raises:
        InputError: If it is not converted, is for another task, or cannot be loaded as a whole.
    """
    with refusing(f"the checkpoint {checkpoint} cannot be loaded"):
        try:
            model, tokenizer, _ = load_checkpoint(predictor.model_class, checkpoint, **options)
        except InputError as error:
            config, _ = PreTrainedConfig.get_config_dict(checkpoint, local_files_only=True)
            named, types = config.get("architectures") or [None], [ours for ours, *_ in LOADABLE.values()]
            if config.get("model_type") in types and named[0] != predictor.model_class.__name__:
                raise InputError(
                    f"{checkpoint} must be trained for {predictor.task}, got a {named[0]}: train it with "
                    f"`hf-longformer finetune {predictor.task}`"
                ) from error
            raise
    return model, tokenizer


def model_inputs(predictor: Any, windows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Windows as a batch where the model is."""
    names = predictor.tokenizer.model_input_names
    batch = predictor.collate([{name: one[name] for name in names if name in one} for one in windows])
    return {name: tensor.to(predictor.model.device) for name, tensor in batch.items()}


def as_rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Columns of one length as a row each, as `windows.encode` makes windows."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def token_batches(lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches of about the same length, the longest first, of at most so many tokens or of one text.

    Args:
        lengths: In tokens.
        budget: Tokens of a batch, padding included.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while order:
        size = max(1, budget // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]
