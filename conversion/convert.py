# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Conversion: a source checkpoint with 512 positions becomes a Longformer with 4,096, and is proven equal to it."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, PreTrainedTokenizerBase

import hf_longformer
from hf_longformer.model_cards import render_card

from .bits import Bits, bits_of_text, read_text
from .errors import GateError, InputError, first_line, one_line
from .files import check_output, new_folder, write_json
from .gate import NO_LIMIT, failures, reference_outputs, run_gate, source_model
from .plan import POSITION_INITS, Plan, empty_model, make_plan, target_class, target_config
from .sentence_modules import MODULES, copy_modules
from .source import (
    GENERATION,
    Source,
    encoder_config,
    generation_settings,
    load_converted_config,
    open_source,
)
from .weights import Weights, local_names

REPORT = "conversion_report.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LONGEST_LENGTH = 2**24  # tokens
UNLIMITED = "unlimited"


def convert(
    source: str | Path,
    output: str | Path,
    *,
    max_length: int | str | None = None,
    attention_window: int | None = None,
    attention_dilation: int | None = None,
    position_init: str = "copy",
    architecture: str = "auto",
    dtype: str = "auto",
    check: bool = True,
    eval_text: str | Path | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    local_files_only: bool = False,
    allow_pickle: bool = False,
    seed: int = 0,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Converts a checkpoint and writes model, tokenizer, report and card to a new folder.

    The position rows are copied again and again (section 5 of arXiv 2004.05150), the global projections are clones of
    the local ones unless the source has its own, and everything else stays as it is: of an encoder-decoder also the
    decoder (section 7). Nothing is trained.

    Args:
        source: A folder or a Hub name: any of `families.FAMILIES`, or a sentence-transformers folder with one.
        output: The folder to write: it appears whole, or not at all.
        max_length: Longest input of the result in tokens, at least that of the source. None: 4,096, or the source's if
            that is more; of encoder-decoders 16,384. `"unlimited"`: the source's position rows stay as they are and
            are repeated while texts are read, of any length (`config.repeat_positions`).
        attention_window: Total width of the window in tokens: even. None: the source's own, or 512, of BART 1,024.
        attention_dilation: Distance between neighbouring keys of the window, 1 = no gaps. None: the source's own, or 1.
        position_init: `"copy"`; `"interpolate"` for the source's rows stretched over all (short texts are no longer
            read as by the source); `"random"` for rows as a new model would have (a baseline that loses the source).
        architecture: `"auto"`: as the source's config.json says; or a class name, such as `"RobertaModel"`.
        dtype: `"auto"`: the source's; or `"float32"`, `"bfloat16"`, `"float16"`.
        check: Whether to prove the result before it is written.
        eval_text: A UTF-8 text file on which source and result predict masked tokens; for language models.
        overwrite: Whether to replace a checkpoint at `output`.
        revision: Branch, tag or commit of a Hub repository.
        local_files_only: Whether to stay off the network.
        allow_pickle: Whether to accept pickled weights, with PyTorch's restricted loader.
        seed: For `position_init="random"`.
        dry_run: Whether to return after everything that can be decided without reading a weight; `output` is not
            written.
        progress: Called with the name of every step.

    Returns:
        The report, as written to `conversion_report.json`; with `dry_run`, the facts of `describe`.

    Raises:
        InputError: If the source, the output or an option cannot be used.
        GateError: If the result is not equal to the source. Nothing is written.
    """
    output = Path(output)
    _check_options(max_length, attention_window, attention_dilation, position_init, dtype)
    read = None if eval_text is None else Path(eval_text)
    check_output(output, overwrite, Path(source) if Path(source).is_dir() else None, read)
    progress("opening the source")
    kept: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only, "allow_pickle": allow_pickle}
    opened = open_source(str(source), architecture=architecture, **kept)
    length = _length(opened, max_length, position_init)
    config = target_config(opened, length, attention_window, attention_dilation)
    target_dtype = opened.weights.dtype if dtype == "auto" else DTYPES[dtype]
    plan = make_plan(opened, config, target_dtype, position_init, seed)
    text = None if read is None else read_text(read, plan)
    if dry_run:
        return describe(plan)
    plan.settle_ties()
    reference = None
    if check:
        progress("running the source")
        reference = reference_outputs(plan)
    with new_folder(output) as folder:
        progress("writing the model")
        write_model(plan, folder)
        if opened.tokenizer is not None:
            save_tokenizer(opened.tokenizer, folder, length or NO_LIMIT, plan.encoder.type_vocab_size)
        copy_modules(opened.root, folder, plan.encoder.max_length_tokens, allow_pickle)
        checks = [] if reference is None else run_gate(plan, folder, reference, progress)
        bits = [] if text is None else measure_bits(plan, folder, text, progress)
        report = _report(plan, checks, bits)
        if failed := failures(checks):
            raise GateError(f"the result is not equal to its source: {'; '.join(failed)}", report)
        progress("writing report and card")
        write_json(folder / REPORT, report)
        render_card(report, opened.root / "README.md").save(folder / "README.md")
    return report


def _length(opened: Source, max_length: int | str | None, position_init: str) -> int | None:
    """Tokens that the result takes: never fewer than the source; None for any number."""
    if max_length is None and getattr(opened.encoder_config, "repeat_positions", False):
        max_length = UNLIMITED
    if isinstance(max_length, str):
        if position_init != "copy":
            raise InputError(
                f"--max-length {UNLIMITED} repeats the source's positions, got --position-init {position_init}"
            )
        return None
    length = max(opened.family.default_length, opened.max_length) if max_length is None else max_length
    if length < opened.max_length:
        raise InputError(f"--max-length must be at least the source's {opened.max_length} tokens, got {length}")
    return length


def verify(
    source: str | Path,
    converted: str | Path,
    *,
    position_init: str = "copy",
    revision: str | None = None,
    local_files_only: bool = False,
    allow_pickle: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Proves, without trusting the report, that a folder is a faithful conversion of a source that was not trained on.

    Args:
        source: A folder or a Hub name.
        converted: The folder to check.
        position_init: What the conversion was asked for.
        revision: Branch, tag or commit of a Hub repository.
        local_files_only: Whether to stay off the network.
        allow_pickle: Whether to accept pickled weights of the source, with PyTorch's restricted loader.
        seed: What the conversion was asked for.
        progress: Called with the name of every step.

    Returns:
        A report as `convert` makes it.

    Raises:
        InputError: If one of the folders cannot be used.
        GateError: If they are not equal.
    """
    folder = Path(converted)
    config: Any = load_converted_config(folder)
    progress("opening the source")
    opened = open_source(
        str(source),
        architecture=str(config.architectures[0]),
        revision=revision,
        local_files_only=local_files_only,
        allow_pickle=allow_pickle,
    )
    encoder = encoder_config(config)
    length = None if encoder.repeat_positions else encoder.max_length_tokens
    expected = target_config(opened, length, encoder.attention_window, encoder.attention_dilation)
    plan = make_plan(opened, expected, Weights(folder).dtype, position_init, seed)
    plan.settle_ties()
    progress("running the source")
    reference = reference_outputs(plan)
    checks = run_gate(plan, folder, reference, progress)
    report = _report(plan, checks, [])
    if failed := failures(checks):
        raise GateError(f"the checkpoint is not equal to its source: {'; '.join(failed)}", report)
    return report


def write_model(plan: Plan, folder: Path) -> None:
    """Writes config.json and weights; what does not change goes from file to file."""
    _settle_global_projections(plan)
    model: Any = empty_model(plan.source, plan.config)
    if (settings := generation_settings(plan.source)) is not None:
        _check_settings(settings, plan.source.name)
        model.generation_config = settings
    model.load_state_dict(plan.all_weights(), strict=True, assign=True)
    model.tie_weights()
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)


def _check_settings(settings: GenerationConfig, name: str) -> None:
    """Refuses what Transformers would read, and not write."""
    with TemporaryDirectory() as folder:
        try:
            settings.save_pretrained(folder)
        except ValueError as error:
            raise InputError(
                f"the generation settings of {name} contradict each other: {one_line(error)}: mend its {GENERATION}"
            ) from error


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int, token_types: int = 2) -> None:
    """Saves the source's tokenizer, as its own class, with every length limit on disk set to `max_length` tokens.

    It does not give token types to a model that has none: DistilBERT passes over BERT's, ours refuses them.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # tokenizer.json may carry the truncation and padding of the source's training
        backend.no_truncation()
        backend.no_padding()
    before = tokenizer.model_max_length, tokenizer.init_kwargs.get("model_max_length")
    tokenizer.model_max_length = tokenizer.init_kwargs["model_max_length"] = max_length
    tokenizer.init_kwargs.pop("max_length", None)
    if token_types < 2 and "token_type_ids" in tokenizer.model_input_names:
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
    try:
        tokenizer.save_pretrained(folder)
    except OSError:  # a full disk, perhaps
        raise
    except Exception as error:  # whatever comes of settings that no tokenizer has ever had
        raise InputError(f"the tokenizer of the source cannot be saved: {first_line(error)}") from error
    tokenizer.model_max_length, tokenizer.init_kwargs["model_max_length"] = before


def measure_bits(plan: Plan, folder: Path, text: str, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Bits per character of source and result on a text: the source at its length, the result there and at its own."""
    tokenizer: Any = plan.source.tokenizer
    is_endless = plan.encoder.repeat_positions
    longest = plan.source.family.default_length if is_endless else plan.encoder.max_length_tokens
    lengths = sorted({plan.source.max_length, longest})
    rows = []
    progress("predicting masked tokens with the source")
    rows.append(_bits_row("source", bits_of_text(source_model(plan, torch.float32), tokenizer, text, lengths[0])))
    result = target_class(plan.source.head).from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    for length in lengths:
        progress(f"predicting masked tokens at {length:,} tokens")
        rows.append(_bits_row("result", bits_of_text(result, tokenizer, text, length)))
    return rows


def describe(plan: Plan) -> dict[str, Any]:
    """What a conversion would do, from names, shapes and sizes alone: bytes, tokens and numbers of weights."""
    source, config = plan.source, plan.config
    tied = plan.ties if config.tie_word_embeddings else {}
    stored = {name: shape for name, shape in plan.shapes.items() if name not in tied}
    parameters = sum(torch.Size(shape).numel() for shape in stored.values())
    size = sum(weight.numel * weight.dtype.itemsize for weight in source.weights.values())
    return {
        **_facts(plan),
        "source_bytes": size,
        "bytes": parameters * plan.dtype.itemsize,
        "parameters": parameters,
        "window_each_side": [window // 2 for window in plan.encoder.attention_windows],
        "special_rows": plan.encoder.first_position,
        "position_rows": plan.encoder.learned_positions,
        "taken_over": len(plan.taken) - 1,
        "cloned": sorted(f"{origin} → {name}" for name, origin in plan.made.items() if origin and name in stored),
        "zeros": sorted(name for name, origin in plan.made.items() if not origin),
        "memory_bytes": _memory(plan, size, parameters * plan.dtype.itemsize),
    }


def _memory(plan: Plan, source_bytes: int, result_bytes: int) -> int:
    """Weights are mapped from files, source and result one after the other; the largest is widened and compared."""
    largest = max(torch.Size(shape).numel() for shape in plan.shapes.values())
    cast = result_bytes if plan.dtype != plan.source.weights.dtype else 0
    return max(result_bytes + 2 * largest * torch.float32.itemsize, source_bytes + cast)


def _settle_global_projections(plan: Plan) -> None:
    """A long source without a record of its global projections: whether they differ from the local ones is measured."""
    if plan.encoder.global_projections is None:
        pairs = local_names(plan.shapes).items()
        same = all(torch.equal(plan.weight(one), plan.weight(other)) for one, other in pairs)
        plan.encoder.global_projections = "copied" if same else "trained"


def _bits_row(model: str, bits: Bits) -> dict[str, Any]:
    return {"model": model, **bits._asdict()}


def _check_options(
    max_length: int | str | None,
    attention_window: int | None,
    attention_dilation: int | None,
    position_init: str,
    dtype: str,
) -> None:
    if isinstance(max_length, str) and max_length != UNLIMITED:
        raise InputError(f"--max-length must be a number of tokens, or {UNLIMITED}, got {max_length!r}")
    numbers = (max_length, attention_window, attention_dilation)
    largest = max(one for one in (0, *numbers) if isinstance(one, int))
    if largest > LONGEST_LENGTH:
        raise InputError(f"--max-length, window and dilation can be {LONGEST_LENGTH:,} tokens at most, got {largest:,}")
    try:
        window = 512 if attention_window is None else attention_window
        hf_longformer.WindowPattern(window, 1 if attention_dilation is None else attention_dilation)
    except ValueError as error:
        raise InputError(str(error)) from error
    if position_init not in POSITION_INITS:
        raise InputError(f"--position-init must be one of {', '.join(POSITION_INITS)}, got {position_init!r}")
    if dtype not in ("auto", *DTYPES):
        raise InputError(f"--dtype must be auto, {', '.join(DTYPES)}, got {dtype!r}")


def _facts(plan: Plan) -> dict[str, Any]:
    source, config = plan.source, plan.encoder
    decoder = getattr(plan.config, "decoder", None)
    return {
        "source": source.name if source.revision else Path(source.name).resolve().name,
        "revision": source.revision,
        "from_hub": source.revision is not None,
        "source_class": source.class_name,
        "source_max_length": source.max_length,
        "source_is_long": source.family.is_long,
        "model_class": f"HfLongformer{source.head}",
        "max_length": None if config.repeat_positions else config.max_length_tokens,
        "decoder_max_length": None if decoder is None else decoder.max_position_embeddings,
        "attention_window": config.attention_window,
        "attention_dilation": config.attention_dilation,
        "position_init": plan.position_init,
        "global_projections": config.global_projections,
        "dtype": str(plan.dtype).removeprefix("torch."),
        "tokenizer": None if source.tokenizer is None else type(source.tokenizer).__name__,
        "dropped_weights": plan.dropped,
    }


def _notes(plan: Plan) -> list[str]:
    """What the result does otherwise than its source where nobody asks for anything."""
    if plan.source.family.pads_to_windows and plan.encoder.global_attention == "auto":
        return [
            "without a global_attention_mask the first token is global here, and none is in stock LED: "
            "config.encoder.global_attention='none' makes both the same"
        ]
    return []


def _report(plan: Plan, checks: list[dict], bits: list[dict]) -> dict[str, Any]:
    described = describe(plan)
    return {
        **_facts(plan),
        "parameters": described["parameters"],
        "new_weights": f"{len(described['cloned'])} clones of query, key and value, "
        f"{plan.encoder.learned_positions - plan.source.max_length} position rows beyond the source's",
        "notes": _notes(plan),
        "sentence_transformers": (plan.source.root / MODULES).exists(),
        "checks": checks,
        "bits": bits,
        "versions": {
            "hf-longformer": hf_longformer.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__.split("+")[0],
        },
    }
