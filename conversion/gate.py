# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The gate: what must be true of a converted checkpoint, measured on the files that were written."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_longformer import HfLongformerConfig

from .errors import InputError, first_line
from .outputs import Reference, compute_in, last_states, outputs_on_texts, settings_of
from .plan import Plan, target_class
from .sentence_modules import read_modules
from .source import (
    Source,
    embeddings_of,
    encoder_config,
    load_converted_config,
    load_model,
    load_tokenizer,
    refusing,
)

LONGEST_COMPARISON, SHORT = 4096, 64  # tokens
EMBEDDING_TOLERANCE = 1e-5
TOLERANCE = 1e-4  # largest difference, in float32, of hidden states and of head outputs
LARGEST_ERROR = TOLERANCE / 3  # of the source's own rounding: the result's may be twice that, and both count
SAMPLE_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich – naïve café, 1,234.56 €.",
    "長い文書を読む。 Длинный текст. نص طويل. 🙂 \t \n tabs and  spaces",
    "",
)
WORDS_FOR_TRUNCATION = 5000
LONG_TEXT = 100_000  # tokens that a model without a longest input reads
NO_LIMIT = int(1e30)  # what stands in a tokenizer for no longest text, in Transformers


def source_model(plan: Plan, dtype: torch.dtype) -> Any:
    """The source, loaded by Transformers, its weights rounded as those of the result are, computing in `dtype`.

    Raises:
        InputError: If it cannot be loaded.
    """
    model: Any = load_model(plan.source)
    return compute_in(dtype, model.to(plan.dtype))


@torch.no_grad()
def reference_outputs(plan: Plan) -> Reference:
    """Runs the source, loaded by Transformers, in float32, on what the result will be compared by.

    Its weights are rounded first as those of the result are, so that a cast shows nothing but what went wrong.

    Raises:
        InputError: If the source cannot be loaded or cannot be run.
    """
    model = source_model(plan, torch.float32)
    length = min(plan.source.longest_input, LONGEST_COMPARISON)
    short_length = min(length, SHORT)
    try:
        outputs = outputs_on_texts(plan, model, length, short_length)
        reference = Reference(*outputs, length, short_length, settings_of(model))
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError, AttributeError, KeyError) as error:
        raise InputError(f"{plan.source.name} cannot be run as it is: {first_line(error)}") from error
    for name, output in (reference.long | reference.short).items():
        if not output.isfinite().all():
            raise InputError(f"outputs must be finite numbers, got NaN or infinity in the {name} of {plan.source.name}")
    return reference


def run_gate(plan: Plan, folder: Path, reference: Reference, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Reads a converted checkpoint back and compares it with its source.

    Args:
        plan: What was to be done.
        folder: The files that were written.
        reference: What the source computes.
        progress: Called with the name of every check.

    Returns:
        One dict per check: `name`, `passed`, `measured`, and `limit` where there is one.
    """
    progress("checking weights")
    model, info = _reload(plan, folder, dtype="auto")
    checks = [_check_keys(model, info), _check_reload(plan, model), _check_positions(plan, model)]
    progress("comparing outputs with the source")
    checks += _check_settings(model, reference) + _check_outputs(plan, folder, reference)
    progress("checking the tokenizer")
    checks += _check_tokenizer(plan.source, folder, plan.encoder)
    checks += _check_embeddings(plan, folder)
    progress(f"encoding {_longest(plan.encoder):,} tokens")
    model, _ = _reload(plan, folder, dtype="auto")
    if model.dtype == torch.float16:  # which not every CPU multiplies
        model = compute_in(torch.bfloat16, model)
    checks += _check_long_input(model)
    if failures(checks) and not failures(checks[:3]):  # the weights are right, and what they compute is not
        _check_certainty(plan, reference)
    return checks


def failures(checks: list[dict[str, Any]]) -> list[str]:
    """One sentence per failed check."""
    return [
        f"{check['name']}: {check['measured']}" + (f" (limit {check['limit']})" if check.get("limit") else "")
        for check in checks
        if not check["passed"]
    ]


def check_lines(checks: list[dict[str, Any]]) -> list[str]:
    """The table to look at: one line per check, what was measured, and the limit if there is one."""
    lines = []
    for check in checks:
        measured = f"{check['measured']:.2g}" if isinstance(check["measured"], float) else str(check["measured"])
        measured = measured if len(measured) <= 70 else f"{measured[:69]}…"
        limit = f" (limit {check['limit']})" if check["limit"] is not None else ""
        lines.append(f"  {'✓' if check['passed'] else '✗'} {check['name']}: {measured}{limit}")
    return lines


def _check(name: str, passed: bool, measured: Any, limit: Any = None) -> dict[str, Any]:
    return {"name": name, "passed": bool(passed), "measured": measured, "limit": limit}


def _reload(plan: Plan, folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    if plan.source.head == "Model":
        options["add_pooling_layer"] = not plan.source.lacks_pooler
    try:
        model, info = target_class(plan.source.head).from_pretrained(
            folder, local_files_only=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"the converted checkpoint in {folder} cannot be loaded: {error}") from error
    return model.eval(), info


def _check_keys(model: PreTrainedModel, info: dict[str, Any]) -> dict[str, Any]:
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    wrong: dict[str, Any] = {kind: sorted(str(key) for key in info[kind]) for kind in kinds}
    places: dict[int, list[str]] = {}
    for name, weight in model.state_dict().items():
        if name not in model.all_tied_weights_keys:  # those share by intent
            places.setdefault(weight.data_ptr(), []).append(name)
    wrong["shared_keys"] = [names for names in places.values() if len(names) > 1]
    wrong = {kind: keys for kind, keys in wrong.items() if keys}
    return _check("no missing, unexpected or shared weights", not wrong, wrong or "none")


def _check_reload(plan: Plan, model: PreTrainedModel) -> dict[str, Any]:
    """Compares with the source's file again, weight by weight, so that no second model needs to be in memory."""
    state = model.state_dict()
    different = sorted(state.keys() ^ plan.shapes.keys())
    different += [name for name in state if name in plan.shapes and not torch.equal(state[name], plan.weight(name))]
    measured = f"{len(state) - len(different)} of {len(state)} equal"
    if different:
        measured += f", not {', '.join(different[:3])}{' …' * (len(different) > 3)}"
    return _check("weights on disk equal what the source gives", not different, measured)


def _check_positions(plan: Plan, model: PreTrainedModel) -> dict[str, Any]:
    new = _positions(model)
    source = plan.source
    old = source.weights.read(source.position_table).to(new.dtype)
    first, new_first, n = source.first_position, plan.encoder.first_position, source.max_length
    special = torch.equal(new[:new_first], old[:first] if first == new_first else torch.zeros_like(new[:new_first]))
    if plan.position_init == "random":
        return _check("special position rows unchanged", special, "equal" if special else "different")
    if plan.position_init == "interpolate":
        ends = torch.equal(new[new_first], old[first]) and torch.equal(new[-1], old[-1])
        measured = ("equal" if ends else "different") + ("" if special else ", special rows differ")
        return _check(f"first and last position row are the source's, {n} stretched", ends and special, measured)
    rows = torch.arange(plan.encoder.learned_positions)
    same = (new[new_first + rows] == old[first + rows % n]).all(dim=1)
    measured = f"{int(same.sum())} of {len(rows)} equal" + ("" if special else ", special rows differ")
    return _check(f"position rows repeat the source's {n}", bool(same.all()) and special, measured)


@torch.no_grad()
def _check_outputs(plan: Plan, folder: Path, reference: Reference) -> list[dict[str, Any]]:
    config: Any = load_converted_config(folder)
    for name, value in _same_attention(plan).items():
        setattr(encoder_config(config), name, value)
    model = compute_in(torch.float32, _reload(plan, folder, dtype="auto", config=config)[0])
    if plan.position_init != "copy":  # everything but the positions is compared, on the source's own
        table = _positions(model)
        old = plan.source.weights.read(plan.source.position_table).to(plan.dtype).to(table.dtype)
        rows = old[plan.source.first_position :]
        table[plan.encoder.first_position :][: len(rows)] = rows
    try:
        outputs = outputs_on_texts(plan, model, reference.length, reference.short_length)
    except (RuntimeError, ValueError, IndexError, TypeError, AttributeError, KeyError) as error:
        if not reference.settings:
            raise
        raise InputError(
            f"{plan.source.name} is set to generate in a way that the result cannot: {first_line(error)}: change its "
            "generation settings"
        ) from error
    on = "" if plan.position_init == "copy" else ", on the source's positions"
    checks = []
    for ours, theirs, length in (
        (outputs[0], reference.long, reference.length),
        (outputs[1], reference.short, reference.short_length),
    ):
        for name in theirs:
            title = f"{name} equal the source's at {length} tokens, float32{on}"
            if not theirs[name].is_floating_point():  # what was written
                same = int((ours[name] == theirs[name]).sum())
                checks.append(_check(title, same == theirs[name].numel(), f"{same} of {theirs[name].numel()}"))
                continue
            difference = float((ours[name] - theirs[name]).abs().max()) if name in ours else float("inf")
            checks.append(_check(title, difference <= TOLERANCE, difference, TOLERANCE))
    return checks


def _check_settings(model: Any, reference: Reference) -> list[dict[str, Any]]:
    """Of generation: `num_beams` and the like."""
    if not reference.settings:
        return []
    ours, theirs = settings_of(model), reference.settings
    different = sorted(name for name in ours.keys() | theirs.keys() if repr(ours.get(name)) != repr(theirs.get(name)))
    measured = f"not {', '.join(different)}" if different else f"{len(theirs)} equal"
    return [_check("generation settings equal the source's", not different, measured)]


def _same_attention(plan: Plan) -> dict[str, Any]:
    """A window in which the result attends as the source does: the source's own, or one that covers its inputs."""
    own = {name: getattr(plan.source.encoder_config, name, 1) for name in ("attention_window", "attention_dilation")}
    dense = {"attention_window": 2 * plan.source.max_length, "attention_dilation": 1}
    return own if plan.source.family.is_long else dense


def _check_tokenizer(source: Source, folder: Path, config: HfLongformerConfig) -> list[dict[str, Any]]:
    if source.tokenizer is None:
        return [_check("tokenizer", True, "the source has none: none was written")]
    tokenizer = load_tokenizer(folder)
    if tokenizer is None:
        return [_check("tokenizer", False, "the source has one and the result has none")]
    whole: dict[str, Any] = {"truncation": False, "padding": False, "verbose": False}
    words = max(WORDS_FOR_TRUNCATION, _longest(config) if config.repeat_positions else 2 * config.max_length_tokens)
    long_text = " ".join(["the"] * words)
    with refusing(f"the tokenizer of {source.name} cannot be used"):
        kept, read = (
            [one(text, **whole)["input_ids"] for text in SAMPLE_TEXTS] for one in (source.tokenizer, tokenizer)
        )
        length = len(tokenizer(long_text, truncation=True)["input_ids"])
        if (
            not config.repeat_positions
            and length < config.max_length_tokens
            and len(source.tokenizer(long_text, **whole)["input_ids"]) == length
        ):
            raise InputError(f"tokenizers must read words, got {length} tokens for {words:,} words by {source.name}'s")
    texts = [*kept, [source.tokenizer.unk_token_id, source.tokenizer.mask_token_id]]
    # Some sources count positions over all ids but that of padding, wherever it stands; ours go by the mask.
    if source.family.model_type != HfLongformerConfig.model_type and any(config.pad_token_id in ids for ids in texts):
        raise InputError(
            f"padding must not stand for words, since positions are counted without it, got pad_token_id "
            f"{config.pad_token_id} of config.json in text by the tokenizer of {source.name}, which pads with "
            f"{source.tokenizer.pad_token_id}"
        )
    same = type(tokenizer) is type(source.tokenizer) and kept == read
    checks = [_check("tokenizer is of the same class and gives the same ids", same, type(tokenizer).__name__)]
    limit = tokenizer.model_max_length
    if config.repeat_positions:
        is_whole = length >= words and limit == NO_LIMIT
        return [*checks, _check(f"tokenizer leaves {words:,} words whole", is_whole, f"{length:,} tokens")]
    return [
        *checks,
        _check(
            f"tokenizer truncates {words:,} words to the limit",
            (length, limit) == (config.max_length_tokens,) * 2,
            f"{length:,} tokens",
            f"{config.max_length_tokens:,} tokens",
        ),
    ]


def _check_embeddings(plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """For a sentence-transformers folder: the embeddings of short texts, made by that library on both sides."""
    source = plan.source
    if not read_modules(source.root) or plan.position_init != "copy":
        return []
    name = "embeddings of short texts equal the source's"
    if importlib.util.find_spec("sentence_transformers") is None:
        return [_check(name, True, "not compared: sentence-transformers is not installed")]
    from sentence_transformers import SentenceTransformer

    options: dict[str, Any] = {"device": "cpu", "local_files_only": True}
    try:
        original = SentenceTransformer(str(source.root), **options)
        result = SentenceTransformer(str(folder), config_kwargs=_same_attention(plan), **options)
        result.max_seq_length = original.max_seq_length  # where one text is cut, the other is
        theirs, ours = (one.to(plan.dtype).float().encode(list(SAMPLE_TEXTS)) for one in (original, result))
    except Exception as error:  # whatever that library makes of damaged modules
        raise InputError(f"{source.name} cannot be used by sentence-transformers: {first_line(error)}") from error
    difference = float(abs(theirs - ours).max())
    return [_check(name, difference <= EMBEDDING_TOLERANCE, difference, EMBEDDING_TOLERANCE)]


def _positions(model: PreTrainedModel) -> torch.Tensor:
    return embeddings_of(model).position_embeddings.weight


def _many_words(config: HfLongformerConfig, length: int) -> torch.Tensor:
    """All words one after the other, again and again, `(length,)`: none is padding."""
    padding = -1 if config.pad_token_id is None else config.pad_token_id
    first = config.first_position if config.first_position > padding else 0
    words = torch.arange(first, config.vocab_size)
    words = words[words != padding]
    return words[torch.arange(first, first + length) % len(words)]


def _longest(config: HfLongformerConfig) -> int:
    """Tokens of the longest text that is tried."""
    return LONG_TEXT if config.repeat_positions else config.max_length_tokens


@torch.no_grad()
def _check_long_input(model: Any) -> list[dict[str, Any]]:
    config = encoder_config(model.config)
    length = _longest(config)
    input_ids = _many_words(config, length + 1)[None]
    checks = []
    for marked in (0, 1):
        mask = torch.zeros(1, length, dtype=torch.long)
        mask[:, :marked] = 1
        states = last_states(model, input_ids[:, :length], global_attention_mask=mask)
        name = f"{length:,} tokens, {'one global' if marked else 'no global'} token: all outputs finite"
        checks.append(_check(name, bool(states.isfinite().all()), f"mean square {float(states.square().mean()):.3g}"))
    if config.repeat_positions:
        return checks
    try:
        last_states(model, input_ids)
        refusal = "accepted"
    except ValueError as error:
        refusal = str(error)
    refused = f"{length + 1} tokens" in refusal and str(length) in refusal
    checks.append(_check(f"{length + 1:,} tokens are refused readably", refused, refusal))
    return checks


@torch.no_grad()
def _check_certainty(plan: Plan, reference: Reference) -> None:
    """Refuses a source whose own rounding errors leave nothing to compare: damaged numbers make the largest ones."""
    model = source_model(plan, torch.float64)
    exact = outputs_on_texts(plan, model, reference.length, reference.short_length)
    for outputs, rounded in zip(exact, (reference.long, reference.short), strict=True):
        for name, output in outputs.items():
            error = float((output - rounded[name]).abs().max())
            if not error <= LARGEST_ERROR:
                raise InputError(
                    f"outputs must be certain to {LARGEST_ERROR:.1g} in float32 to be compared, got rounding errors of "
                    f"{error:.2g} in the {name} of {plan.source.name}: some of its weights are far too large"
                )
    model = source_model(plan, torch.float32)
    words = _many_words(plan.encoder, _longest(plan.encoder))
    if not all(last_states(model, piece[None]).isfinite().all() for piece in words.split(plan.source.longest_input)):
        raise InputError(f"outputs must be finite numbers, got NaN or infinity for some words of {plan.source.name}")
