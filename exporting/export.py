# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Export to a graph: written, read back, compared with the checkpoint, and put in its place if it is equal."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

import hf_longformer
from hf_longformer.conversion import GateError, InputError
from hf_longformer.conversion.files import check_output, new_folder, read_json, write_json, write_text
from hf_longformer.conversion.gate import failures
from hf_longformer.conversion.plan import target_class
from hf_longformer.conversion.sentence_modules import copy_modules
from hf_longformer.conversion.source import load_converted_config, load_tokenizer
from hf_longformer.conversion.weights import Weights
from hf_longformer.finetune.prediction_defaults import DEFAULTS

from .card import render
from .formats import FORMATS, REPORT, Format
from .gate import compare
from .heads import head_of, input_dimensions
from .samples import TRACED, Case, sample
from .sessions import open_session


def export(
    checkpoint: str | Path,
    output: str | Path,
    *,
    format: str = "onnx",
    global_attention_mask: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Writes a checkpoint as a graph that runs without PyTorch, for any number and length of texts.

    Args:
        checkpoint: A folder with an `hf_longformer` checkpoint: an encoder, with a head of `heads.HEADS` or without.
        output: The folder to write: it appears whole, or not at all. Beside the graph it holds configuration and
            tokenizer, the modules of sentence-transformers where there are any, a report and a card.
        format: One of `formats.FORMATS`.
        global_attention_mask: Whether the graph takes a third input of this name, always, in the place of the model's
            own choice of global tokens.
        overwrite: Whether to replace a checkpoint at `output`.
        progress: Called with the name of every step.

    Returns:
        The report: `format`, `model_class`, `max_length`, `inputs` and `outputs` with the names of their dimensions,
        `checks`, `bytes` and `versions`.

    Raises:
        InputError: If the checkpoint, its head or an option cannot be used.
        GateError: If the outputs differ. Nothing is written.
        ImportError: If something is not installed that the format needs.
    """
    folder, output = Path(checkpoint), Path(output)
    if format not in FORMATS:
        raise InputError(f"--format must be one of {', '.join(FORMATS)}, got {format!r}")
    chosen = FORMATS[format]
    if not folder.is_dir():
        raise InputError(f"CHECKPOINT must be a folder, got {checkpoint}")
    check_output(output, overwrite, folder)
    config: Any = load_converted_config(folder)
    dimensions = input_dimensions(config, global_attention_mask)
    for module in chosen.needs:
        importlib.import_module(module)
    model = load_model(folder, config)
    with new_folder(output) as new:
        progress("tracing the model")
        _write(model, dimensions, chosen, new)
        _write_beside(folder, new, model)
        progress("comparing outputs")
        session = open_session(new, format)
        checks = compare(model, session.run, global_attention_mask)
        report = _report(model, format, dimensions, session.outputs, checks)
        report["bytes"] = sum(file.stat().st_size for file in new.glob(f"{chosen.file}*"))
        if failed := failures(checks):
            raise GateError(f"the export is not equal to its checkpoint: {'; '.join(failed)}", report)
        write_json(new / REPORT, report)
        write_text(new / "README.md", render(report, folder / "README.md"))
    return report


def load_model(folder: Path, config: Any) -> Any:
    """A checkpoint in float32, all of it from its files; a base model without the pooler that it has no weights for.

    Raises:
        InputError: If it cannot be loaded.
    """
    head = head_of(config)
    has_pooler = head != "Model" or "pooler.dense.weight" in Weights(folder)
    options = {"add_pooling_layer": has_pooler} if head == "Model" else {}
    try:
        model, info = target_class(head).from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder} cannot be loaded: {' '.join(str(error).split())}") from error
    if missing := sorted(info["missing_keys"]):
        raise InputError(f"{folder} must have all weights of its model, got none for {', '.join(missing[:3])}")
    return model.eval()


def _write(model: Any, dimensions: dict[str, tuple[str, ...]], chosen: Format, folder: Path) -> None:
    has_mask = "global_attention_mask" in dimensions
    inputs = sample(model.config, Case(*TRACED, "right", 3 if has_mask else None), has_mask)
    writer = importlib.import_module(f".{chosen.module}", __package__)
    writer.write(model, inputs, dimensions, folder / chosen.file)


def _write_beside(source: Path, folder: Path, model: Any) -> None:
    """Configuration, tokenizer, and what sentence-transformers needs."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if (tokenizer := load_tokenizer(source)) is not None:
        tokenizer.save_pretrained(folder)
    copy_modules(source, folder, model.config.max_length_tokens)
    if (source / DEFAULTS).is_file():  # how inputs were cut in training
        write_json(folder / DEFAULTS, read_json(source / DEFAULTS))


def _report(
    model: Any, format: str, dimensions: dict[str, tuple[str, ...]], outputs: tuple[str, ...], checks: list[dict]
) -> dict[str, Any]:
    modules = {name: importlib.import_module(name) for name in FORMATS[format].needs}
    modules |= {"hf-longformer": hf_longformer, "transformers": transformers, "torch": torch}
    return {
        "format": format,
        "model_class": type(model).__name__,
        "max_length": model.config.max_length_tokens,
        "attention_window": model.config.attention_window,
        "global_attention": "an input" if "global_attention_mask" in dimensions else "in the graph",
        "inputs": {name: list(names) for name, names in dimensions.items()},
        "outputs": list(outputs),
        "checks": checks,
        "versions": {name: str(module.__version__).split("+")[0] for name, module in modules.items()},
    }


__all__ = ["export", "load_model"]
