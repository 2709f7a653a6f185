# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Conversion: a source checkpoint with 512 positions becomes a Longformer with 4,096, and is proven equal to it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import hf_longformer
from hf_longformer import HfLongformerConfig
from hf_longformer.model_cards import render_card

from .errors import GateError, InputError
from .files import check_output, new_folder
from .gate import failures, run_gate
from .source import Source, find_weights, load_converted_config, load_source

REPORT = "conversion_report.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Fields of the source's config that the new one takes over; the rest is set in `target_config`.
KEPT_FIELDS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "type_vocab_size"),
    *("initializer_range", "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings"),
    *("id2label", "label2id", "problem_type", "chunk_size_feed_forward"),
)


def convert(
    source: str | Path,
    output: str | Path,
    *,
    max_length: int = 4096,
    attention_window: int = 512,
    attention_dilation: int = 1,
    position_init: str = "copy",
    architecture: str = "auto",
    dtype: str = "auto",
    check: bool = True,
    overwrite: bool = False,
    revision: str | None = None,
    local_files_only: bool = False,
    allow_pickle: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Converts a RoBERTa or BERT checkpoint and writes model, tokenizer, report and card to a new folder.

    The position rows are copied again and again (section 5 of arXiv 2004.05150), the global projections are clones of
    the local ones, and everything else stays as it is. Nothing is trained.

    Args:
        source: A folder or a Hub name.
        output: The folder to write: it appears whole, or not at all.
        max_length: Longest input of the result in tokens, at least that of the source.
        attention_window: Total width of the window in tokens: even.
        attention_dilation: Distance between neighbouring keys of the window, 1 = no gaps.
        position_init: `"copy"`, or `"random"` for rows as a new model would have (a baseline that loses the source).
        architecture: `"auto"`: as the source's config.json says; or a class name, such as `"RobertaModel"`.
        dtype: `"auto"`: the source's; or `"float32"`, `"bfloat16"`, `"float16"`.
        check: Whether to prove the result before it is written.
        overwrite: Whether to replace a checkpoint at `output`.
        revision: Branch, tag or commit of a Hub repository.
        local_files_only: Whether to stay off the network.
        allow_pickle: Whether to accept pickled weights, with PyTorch's restricted loader.
        seed: For `position_init="random"`.
        progress: Called with the name of every step.

    Returns:
        The report, as written to `conversion_report.json`.

    Raises:
        InputError: If the source, the output or an option cannot be used.
        GateError: If the result is not equal to the source. Nothing is written.
    """
    output = Path(output)
    _check_options(attention_window, attention_dilation, position_init, dtype)
    check_output(output, overwrite, Path(source) if Path(source).is_dir() else None)
    progress("loading the source")
    loaded = load_source(
        str(source),
        architecture=architecture,
        revision=revision,
        local_files_only=local_files_only,
        allow_pickle=allow_pickle,
    )
    if max_length < loaded.max_length:
        raise InputError(f"--max-length must be at least the source's {loaded.max_length} tokens, got {max_length}")
    target_dtype = loaded.model.dtype if dtype == "auto" else DTYPES[dtype]
    config = target_config(loaded, max_length, attention_window, attention_dilation)
    progress("extending positions")
    state = target_state(loaded, config, position_init, seed)
    model = build_model(loaded, config, state, target_dtype)
    with new_folder(output) as folder:
        progress("writing the model")
        model.save_pretrained(folder)
        if loaded.tokenizer is not None:
            save_tokenizer(loaded.tokenizer, folder, max_length)
        checks = run_gate(loaded, folder, model.state_dict(), position_init, progress) if check else []
        report = _report(loaded, config, model, checks, position_init)
        if failed := failures(checks):
            raise GateError(f"the result is not equal to its source: {'; '.join(failed)}", report)
        progress("writing report and card")
        (folder / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        render_card(report, loaded.folder / "README.md").save(folder / "README.md")
    return report


def verify(
    source: str | Path,
    converted: str | Path,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    allow_pickle: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Proves, without trusting the report, that a folder is a faithful conversion of a source that was not trained on.

    Args:
        source: A folder or a Hub name.
        converted: The folder to check.
        revision: Branch, tag or commit of a Hub repository.
        local_files_only: Whether to stay off the network.
        allow_pickle: Whether to accept pickled weights of the source, with PyTorch's restricted loader.
        progress: Called with the name of every step.

    Returns:
        A report as `convert` makes it.

    Raises:
        InputError: If one of the folders cannot be used.
        GateError: If they are not equal.
    """
    folder = Path(converted)
    config = load_converted_config(folder)
    progress("loading the source")
    loaded = load_source(
        str(source),
        architecture=str(config.architectures[0]),
        revision=revision,
        local_files_only=local_files_only,
        allow_pickle=allow_pickle,
    )
    expected_config = target_config(
        loaded, config.max_length_tokens, config.attention_window, config.attention_dilation
    )
    state = target_state(loaded, expected_config, "copy", seed=0)
    model = build_model(loaded, expected_config, state, find_weights(folder)[1] or loaded.model.dtype)
    checks = run_gate(loaded, folder, model.state_dict(), "copy", progress)
    report = _report(loaded, config, model, checks, "copy")
    if failed := failures(checks):
        raise GateError(f"the checkpoint is not equal to its source: {'; '.join(failed)}", report)
    return report


def target_config(
    source: Source, max_length: int, attention_window: Any, attention_dilation: Any
) -> HfLongformerConfig:
    """The new configuration: the source's own values, and only what must change changed."""
    given = source.model.config.to_dict()
    kept = {name: given[name] for name in KEPT_FIELDS if name in given}
    kept["pad_token_id"] = given.get("pad_token_id", 0)
    sep_token_id = given.get("sep_token_id")
    if sep_token_id is None and source.tokenizer is not None:
        sep_token_id = source.tokenizer.sep_token_id
    if sep_token_id is None:
        sep_token_id = given.get("eos_token_id")
    return HfLongformerConfig(
        **{"bos_token_id": None, "eos_token_id": None, **kept},
        sep_token_id=sep_token_id,
        attention_window=attention_window,
        attention_dilation=attention_dilation,
        max_position_embeddings=max_length + kept["pad_token_id"] + 1,
    )


def extend_positions(
    table: torch.Tensor, first_position: int, new_first_position: int, max_length: int
) -> torch.Tensor:
    """A longer position table: `new[new_first + i] = old[first + (i mod n)]`, special rows verbatim.

    Args:
        table: `(first_position + n, hidden_size)`.
        first_position: Row of the first real token in `table`.
        new_first_position: The same in the result. If `table` has no special rows, zeros are put there.
        max_length: Real rows of the result.

    Returns:
        `(new_first_position + max_length, hidden_size)`.
    """
    special = table[:first_position] if first_position else table.new_zeros(new_first_position, table.shape[1])
    learned = table[first_position:]
    return torch.cat([special, learned[torch.arange(max_length) % learned.shape[0]]])


def target_state(source: Source, config: HfLongformerConfig, position_init: str, seed: int) -> dict[str, torch.Tensor]:
    """The new model's weights by name; most are the source's own tensors."""
    state = {source.family.target_name(name, source.head): weight for name, weight in _kept_weights(source).items()}
    base = "" if source.head == "Model" else "longformer."
    name = f"{base}embeddings.position_embeddings.weight"
    state[name] = extend_positions(state[name], source.first_position, config.first_position, config.max_length_tokens)
    if position_init == "random":
        random = torch.empty_like(state[name], dtype=torch.float32)
        random.normal_(0.0, config.initializer_range, generator=torch.Generator().manual_seed(seed))
        state[name][config.first_position :] = random[config.first_position :]
    for name in [name for name in state if ".attention.self." in name]:
        layer, projection, kind = name.rsplit(".", 2)
        state[f"{layer}.{projection}_global.{kind}"] = state[name].clone()
    return state


def build_model(
    source: Source, config: HfLongformerConfig, state: Mapping[str, torch.Tensor], dtype: torch.dtype
) -> PreTrainedModel:
    """The new model, without copying weights that need no change.

    Raises:
        InputError: If names or shapes do not fit: the checkpoint is not what its config.json says.
    """
    model_class = getattr(hf_longformer, f"HfLongformer{source.head}")
    options = {"add_pooling_layer": not source.lacks_pooler} if source.head == "Model" else {}
    with torch.device("meta"):
        model = model_class(config, **options)
    try:
        model.load_state_dict({name: weight.to(dtype) for name, weight in state.items()}, strict=True, assign=True)
    except RuntimeError as error:
        raise InputError(f"the weights of {source.name} do not fit its config.json: {error}") from error
    model.tie_weights()
    model.config.architectures = [model_class.__name__]
    return model.eval()


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Saves the source's tokenizer, as its own class, with every length limit on disk set to `max_length` tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # tokenizer.json may carry the truncation and padding of the source's training
        backend.no_truncation()
        backend.no_padding()
    before = tokenizer.model_max_length, tokenizer.init_kwargs.get("model_max_length")
    tokenizer.model_max_length = tokenizer.init_kwargs["model_max_length"] = max_length
    tokenizer.init_kwargs.pop("max_length", None)
    tokenizer.save_pretrained(folder)
    tokenizer.model_max_length, tokenizer.init_kwargs["model_max_length"] = before


def _kept_weights(source: Source) -> dict[str, torch.Tensor]:
    skipped = "pooler." if source.lacks_pooler else None
    weights = source.model.state_dict()
    return {name: weights[name] for name in weights if skipped is None or not name.startswith(skipped)}


def _check_options(attention_window: int, attention_dilation: int, position_init: str, dtype: str) -> None:
    try:
        hf_longformer.WindowPattern(attention_window, attention_dilation)
    except ValueError as error:
        raise InputError(str(error)) from error
    if position_init not in ("copy", "random"):
        raise InputError(f"--position-init must be copy or random, got {position_init!r}")
    if dtype not in ("auto", *DTYPES):
        raise InputError(f"--dtype must be auto, {', '.join(DTYPES)}, got {dtype!r}")


def _report(
    source: Source, config: HfLongformerConfig, model: PreTrainedModel, checks: list[dict], position_init: str
) -> dict[str, Any]:
    return {
        "source": source.name if source.revision else Path(source.name).name,
        "revision": source.revision,
        "from_hub": source.revision is not None,
        "source_class": type(source.model).__name__,
        "source_max_length": source.max_length,
        "model_class": type(model).__name__,
        "max_length": config.max_length_tokens,
        "attention_window": config.attention_window,
        "attention_dilation": config.attention_dilation,
        "position_init": position_init,
        "global_projections": "copied",
        "dtype": str(model.dtype).removeprefix("torch."),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokenizer": None if source.tokenizer is None else type(source.tokenizer).__name__,
        "dropped_weights": source.dropped,
        "new_weights": "clones of query, key and value as global projections, position rows beyond the source's",
        "checks": checks,
        "versions": {
            "hf-longformer": hf_longformer.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__.split("+")[0],
        },
    }
