# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The gate: what must be true of a converted checkpoint, measured on the files that were written."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

import hf_longformer
from hf_longformer import HfLongformerConfig

from .errors import InputError
from .source import Source, load_tokenizer

TOLERANCE = 1e-4  # largest difference, in float32, of hidden states and of head outputs
SAMPLE_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich – naïve café, 1,234.56 €.",
    "長い文書を読む。 Длинный текст. نص طويل. 🙂 \t \n tabs and  spaces",
    "",
)
WORDS_FOR_TRUNCATION = 5000


def run_gate(
    source: Source,
    folder: Path,
    expected: Mapping[str, torch.Tensor],
    position_init: str,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Reads a converted checkpoint back and compares it with its source.

    Args:
        source: What was converted.
        folder: The files that were written.
        expected: The weights that should be in them, by name.
        position_init: With `"random"` the outputs are not expected to agree, and are not compared.
        progress: Called with the name of every check.

    Returns:
        One dict per check: `name`, `passed`, `measured`, and `limit` where there is one.
    """
    progress("checking weights")
    model, info = _reload(source, folder, dtype="auto")
    checks = [
        _check_keys(model, info, expected),
        _check_reload(model, expected),
        _check_positions(source, model, position_init),
    ]
    if position_init == "copy":
        progress("comparing outputs with the source")
        checks += _check_outputs(source, folder, model.dtype)
    progress("checking the tokenizer")
    checks += _check_tokenizer(source, folder, model.config)
    progress(f"encoding {model.config.max_length_tokens:,} tokens")
    return checks + _check_long_input(model)


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


def _reload(source: Source, folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    model_class = getattr(hf_longformer, f"HfLongformer{source.head}")
    if source.head == "Model":
        options["add_pooling_layer"] = not source.lacks_pooler
    try:
        model, info = model_class.from_pretrained(folder, local_files_only=True, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"the converted checkpoint in {folder} cannot be loaded: {error}") from error
    return model.eval(), info


def _check_keys(model: PreTrainedModel, info: dict[str, Any], expected: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    wrong: dict[str, Any] = {kind: sorted(str(key) for key in info[kind]) for kind in kinds}
    storages: dict[int, list[str]] = {}
    for name, weight in expected.items():
        if name not in model.all_tied_weights_keys:  # those share by intent
            storages.setdefault(weight.untyped_storage().data_ptr(), []).append(name)
    wrong["shared_keys"] = [names for names in storages.values() if len(names) > 1]
    wrong = {kind: keys for kind, keys in wrong.items() if keys}
    return _check("no missing, unexpected or shared weights", not wrong, wrong or "none")


def _check_reload(model: PreTrainedModel, expected: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    state = model.state_dict()
    different = [
        name
        for name in sorted(state.keys() | expected.keys())
        if name not in state or name not in expected or not torch.equal(state[name], expected[name])
    ]
    finite = all(weight.isfinite().all() for weight in state.values())
    measured = f"{len(state) - len(different)} of {len(state)} equal" + ("" if finite else ", some not finite")
    if different:
        measured += f", not {', '.join(different[:3])}{' …' * (len(different) > 3)}"
    return _check("weights on disk equal weights in memory", not different and finite, measured)


def _check_positions(source: Source, model: PreTrainedModel, position_init: str) -> dict[str, Any]:
    new = _base(model).embeddings.position_embeddings.weight
    old = _base(source.model).embeddings.position_embeddings.weight.to(new.dtype)
    first, new_first, n = source.first_position, model.config.first_position, source.max_length
    special = torch.equal(new[:new_first], old[:first] if first else torch.zeros_like(new[:new_first]))
    if position_init != "copy":
        return _check("special position rows unchanged", special, "equal" if special else "different")
    rows = torch.arange(model.config.max_length_tokens)
    same = (new[new_first + rows] == old[first + rows % n]).all(dim=1)
    measured = f"{int(same.sum())} of {len(rows)} equal" + ("" if special else ", special rows differ")
    return _check(f"position rows repeat the source's {n}", bool(same.all()) and special, measured)


@torch.no_grad()
def _check_outputs(source: Source, folder: Path, dtype: torch.dtype) -> list[dict[str, Any]]:
    length = source.max_length
    wide = {"attention_window": 2 * length, "attention_dilation": 1}
    target, _ = _reload(source, folder, dtype=torch.float32, **wide)
    # Rounded as the result is, so that a cast shows nothing but what went wrong; the source is not needed after this.
    original: Any = source.model
    original.to(dtype).float()
    inputs = _sample_inputs(source, length)
    ours, theirs = (model(**inputs, output_hidden_states=True) for model in (target, original))
    real = inputs["attention_mask"].flatten(0, -2).bool()
    states = max(
        float((one - other)[real].abs().max())
        for one, other in zip(ours.hidden_states, theirs.hidden_states, strict=True)
    )
    where = f"at {length} tokens, float32"
    checks = [_check(f"hidden states equal the source's {where}", states <= TOLERANCE, states, TOLERANCE)]
    for name in ("logits", "start_logits", "end_logits", "pooler_output"):
        if theirs.get(name) is not None and ours.get(name) is not None:
            difference = (ours[name] - theirs[name]).abs()
            if difference.shape[:2] == real.shape:
                difference = difference[real]
            largest = float(difference.max())
            checks.append(_check(f"{name} equal the source's {where}", largest <= TOLERANCE, largest, TOLERANCE))
    return checks


def _sample_inputs(source: Source, length: int) -> dict[str, torch.Tensor]:
    """Two texts of random tokens and separators, the second half as long and padded: `(2, length)`, or `(1, 2, length)`
    of choices.
    """
    config = source.model.config
    separator = config.eos_token_id if source.tokenizer is None else source.tokenizer.sep_token_id
    special = {config.pad_token_id, config.bos_token_id, config.eos_token_id, separator}
    words = [token for token in range(config.vocab_size) if token not in special]
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.tensor(words)[torch.randint(len(words), (2, length), generator=generator)]
    if separator is not None:
        input_ids[:, length // 3] = separator
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, length // 2 + 1 :] = 0
    input_ids[attention_mask == 0] = config.pad_token_id
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if config.type_vocab_size > 1:
        inputs["token_type_ids"] = (torch.arange(length) > length // 3).long().expand(2, -1)
    if source.head == "ForMultipleChoice":
        inputs = {name: tensor[None] for name, tensor in inputs.items()}
    return inputs


def _check_tokenizer(source: Source, folder: Path, config: HfLongformerConfig) -> list[dict[str, Any]]:
    if source.tokenizer is None:
        return [_check("tokenizer", True, "the source has none: none was written")]
    tokenizer = load_tokenizer(folder)
    if tokenizer is None:
        return [_check("tokenizer", False, "the source has one and the result has none")]
    kept = [source.tokenizer(text, truncation=False, verbose=False)["input_ids"] for text in SAMPLE_TEXTS]
    read = [tokenizer(text, truncation=False, verbose=False)["input_ids"] for text in SAMPLE_TEXTS]
    same = type(tokenizer) is type(source.tokenizer) and kept == read
    words = max(WORDS_FOR_TRUNCATION, 2 * config.max_length_tokens)
    length = len(tokenizer(" ".join(["the"] * words), truncation=True)["input_ids"])
    limits = (length, tokenizer.model_max_length)
    return [
        _check("tokenizer is of the same class and gives the same ids", same, type(tokenizer).__name__),
        _check(
            f"tokenizer truncates {words:,} words to the limit",
            limits == (config.max_length_tokens,) * 2,
            f"{length:,} tokens",
            f"{config.max_length_tokens:,} tokens",
        ),
    ]


@torch.no_grad()
def _check_long_input(model: PreTrainedModel) -> list[dict[str, Any]]:
    base, config = _base(model), model.config
    if model.dtype == torch.float16:
        base = base.float()  # not every CPU multiplies it
    length = config.max_length_tokens
    first_word = config.first_position
    words = torch.arange(first_word, first_word + length + 1) % (config.vocab_size - first_word) + first_word
    input_ids = words[None]
    checks = []
    for marked in (0, 1):
        mask = torch.zeros(1, length, dtype=torch.long)
        mask[:, :marked] = 1
        states = base(input_ids[:, :length], global_attention_mask=mask).last_hidden_state
        name = f"{length:,} tokens, {'one global' if marked else 'no global'} token: all outputs finite"
        checks.append(_check(name, bool(states.isfinite().all()), f"mean square {float(states.square().mean()):.3g}"))
    try:
        base(input_ids)
        refusal = "accepted"
    except ValueError as error:
        refusal = str(error)
    refused = f"{length + 1} tokens" in refusal and str(length) in refusal
    checks.append(_check(f"{length + 1:,} tokens are refused readably", refused, refusal))
    return checks


def _base(model: PreTrainedModel) -> Any:
    return getattr(model, model.base_model_prefix, model)
