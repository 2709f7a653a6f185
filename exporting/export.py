# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Export to a graph: written, read back, compared with the checkpoint, and put in its place if it is equal."""

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable
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

from . import to_executorch, to_web
from .card import render
from .formats import FORMATS, REPORT, Format
from .gate import TOLERANCE, check, compare
from .heads import head_of, input_dimensions
from .quality import calibration_batches, halves, inputs_of, measure, sentences_of
from .samples import TRACED, Case, sample
from .sessions import open_session
from .to_openvino import import_openvino


def export(
    checkpoint: str | Path,
    output: str | Path,
    *,
    format: str = "onnx",
    dtype: str = "float32",
    global_attention_mask: bool = False,
    eval_text: Path | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Writes a checkpoint as a graph that runs without PyTorch, for any number and length of texts (of ExecuTorch: for
    one text at a time, which costs what the longest does).

    Args:
        checkpoint: A folder with an `hf_longformer` checkpoint: an encoder, with a head of `heads.HEADS` or without.
        output: The folder to write: it appears whole, or not at all. Beside the graph it holds configuration and
            tokenizer, the modules of sentence-transformers where there are any, a report and a card.
        format: One of `formats.FORMATS`.
        dtype: One of the format's `dtypes`. `"float16"`: weights are stored so, and computed is in float32.
            `"int8"`: of ONNX, products with weights are computed in 8 bits with scales that every batch makes anew
            (dynamic); of OpenVINO, weights are stored in 8 bits. `"int8-static"`: in 8 bits, with scales measured
            beforehand. Of all but `"float32"` what it costs is measured, if there is a tokenizer.
        global_attention_mask: Whether the graph takes a third input of this name, always, in the place of the model's
            own choice of global tokens.
        eval_text: A text file whose sentences scales and losses are measured on; a story of some sixty sentences that
            comes with the package if left out.
        overwrite: Whether to replace a checkpoint at `output`.
        progress: Called with the name of every step.

    Returns:
        The report: `format`, `model_class`, `max_length`, `inputs` and `outputs` with the names of their dimensions,
        `checks`, `loss` (what `quality.measure` says, or None), `bytes` and `versions`.

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
    if dtype not in chosen.dtypes:
        raise InputError(f"--dtype of {format} must be one of {', '.join(chosen.dtypes)}, got {dtype!r}")
    check_output(output, overwrite, folder, eval_text)
    config: Any = load_converted_config(folder)
    dimensions = input_dimensions(config, global_attention_mask)
    _refuse_model(format, config, folder, global_attention_mask)
    for module in chosen.needs:
        import_openvino() if module == "openvino" else importlib.import_module(module)
    model, tokenizer = load_model(folder, config), load_tokenizer(folder)
    sentences = None if dtype == "float32" or tokenizer is None else halves(sentences_of(eval_text))
    if sentences is None and dtype == "int8-static":
        raise InputError(f"scales of int8-static are measured on texts, which need a tokenizer, got none in {folder}")
    if dtype == "float32" and eval_text is not None:
        raise InputError("--eval-text is for what float16 and int8 cost, got it with float32, which costs nothing")
    with new_folder(output) as new:
        progress("tracing the model")
        batches = None if sentences is None else _batches(model, tokenizer, sentences[0], dimensions)
        _write(model, dimensions, chosen, new, dtype, batches)
        _write_beside(folder, new, model)
        progress("comparing outputs")
        session = open_session(new, format)
        report = _report(model, format, dtype, dimensions, session.outputs)
        beside = (new / chosen.file).parent.glob(f"{Path(chosen.file).stem}.*")
        report["bytes"] = sum(file.stat().st_size for file in beside)
        if sentences is not None:
            report["loss"] = measure(model, session.run, session.inputs, tokenizer, sentences[1])
        expected = model.half().float() if dtype == "float16" else model
        tolerance = None if dtype.startswith("int8") else TOLERANCE
        report["checks"] = compare(expected, session.run, global_attention_mask, tolerance)
        if format == "web":
            report |= to_web.finish(new, model, tokenizer)
            report["checks"] += report.pop("of_smaller_files")
        if dtype != "int8" or format != "onnx":
            report["checks"] += _check_batches(report["loss"])
        if failed := failures(report["checks"]):
            raise GateError(f"the export is not equal to its checkpoint: {'; '.join(failed)}", report)
        write_json(new / REPORT, report)
        write_text(new / "README.md", render(report, folder / "README.md"))
    return report


def _refuse_model(format: str, config: Any, folder: Path, global_attention_mask: bool) -> None:
    """What a format cannot hold of a checkpoint, though another can."""
    if format == "web":
        to_web.refuse(config, load_tokenizer(folder), global_attention_mask)
    elif format == "executorch":
        to_executorch.refuse(config)


def _check_batches(loss: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Whether what is said of a text depends on the texts beside it: all but dynamic quantization must not."""
    if loss is None:
        return []
    limit = loss["of"] // 100
    name = f"{loss['unit']} that depend on the batch, of {loss['of']:,}"
    return [check(name, loss["changed_by_batch"] <= limit, loss["changed_by_batch"], limit)]


def _batches(model: Any, tokenizer: Any, sentences: list[str], names: Iterable[str]) -> list[dict[str, Any]]:
    found = calibration_batches(tokenizer, head_of(model.config), model.config, sentences)
    return [inputs_of(model, batch, names) for batch in found]


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


def _write(
    model: Any, dimensions: dict[str, tuple[str, ...]], chosen: Format, folder: Path, dtype: str, batches: Any
) -> None:
    has_mask = "global_attention_mask" in dimensions
    inputs = sample(model.config, Case(*TRACED, "right", 3 if has_mask else None), has_mask)
    writer = importlib.import_module(f".{chosen.module}", __package__)
    writer.write(model, inputs, dimensions, folder / chosen.file, dtype, batches)


def _write_beside(source: Path, folder: Path, model: Any) -> None:
    """Configuration, tokenizer, and what sentence-transformers needs."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if (tokenizer := load_tokenizer(source)) is not None:
        tokenizer.save_pretrained(folder)
    copy_modules(source, folder, model.config.max_length_tokens)
    if (source / DEFAULTS).is_file():  # how inputs were cut in training
        write_json(folder / DEFAULTS, read_json(source / DEFAULTS))


def _version_of(name: str, module: Any) -> str:
    found = getattr(module, "__version__", None) or importlib.metadata.version(name)
    return str(found).split("+")[0]


def _report(
    model: Any, format: str, dtype: str, dimensions: dict[str, tuple[str, ...]], outputs: tuple[str, ...]
) -> dict[str, Any]:
    modules = {name: importlib.import_module(name) for name in FORMATS[format].needs}
    modules |= {"hf-longformer": hf_longformer, "transformers": transformers, "torch": torch}
    return {
        "format": format,
        "dtype": dtype,
        "model_class": type(model).__name__,
        "max_length": None if model.config.repeat_positions else model.config.max_length_tokens,
        "attention_window": model.config.attention_window,
        "global_attention": "an input" if "global_attention_mask" in dimensions else "in the graph",
        "inputs": {name: list(names) for name, names in dimensions.items()},
        "outputs": list(outputs),
        "loss": None,
        "versions": {name: _version_of(name, module) for name, module in modules.items()},
    }


__all__ = ["export", "load_model"]
