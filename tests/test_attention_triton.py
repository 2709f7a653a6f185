# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The kernels for GPUs against the reference: where there is no GPU, as Triton's interpreter runs them on a CPU."""

from typing import Any

import pytest
import torch
from helpers import (
    GLOBALS,
    PADDINGS,
    Case,
    assert_as_exact_as_reference,
    largest_error,
    pairwise_cases,
    random_ids,
    random_projections,
    randomise,
    rows_of_global,
    tiny_config,
)

from hf_longformer import (
    HfLongformerModel,
    attention_hf_longformer,
    attention_triton,
    unpadding_hf_longformer,
)
from hf_longformer.attention_blocked import global_rows, put_global_rows
from hf_longformer.attention_triton import local_rows
from hf_longformer.window_pattern import TokenRoles, WindowPattern

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NEEDS_GPU = pytest.mark.skipif(DEVICE.type == "cpu", reason="needs a GPU")
FACTORS: dict[str, Any] = {
    "length": [1, 2, 7, 64, 65, 200, 330],
    "window": [2, 8, 64, 600],
    "dilation": [1, 2, 3, (1, 1, 4), (2, 1, 2)],
    "is_causal": [False, True],
    "globals_": GLOBALS,
    "padding": PADDINGS,
}
PAIRWISE = pairwise_cases(**FACTORS)


def roles_of(case: Case) -> TokenRoles:
    is_global, real = case.masks()
    num_global = 0 if is_global is None else int(is_global.sum(dim=1).max())
    return TokenRoles.from_masks(real, is_global, num_global, is_contiguous=case.padding != "interior")


def run_kernels(case: Case, *projections: torch.Tensor, **options: Any) -> torch.Tensor:
    projections = tuple(x.to(DEVICE) for x in projections)
    query, key, value, query_global, key_global, value_global = projections
    settings: dict[str, Any] = {"pattern": case.pattern, "roles": roles_of(case).to(DEVICE), **options}
    output = local_rows(query, key, value, **settings)
    rows = global_rows(rows_of_global(query_global, settings["roles"]), key_global, value_global, **settings)
    return put_global_rows(output, rows, settings["roles"]).cpu()


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_local_rows(case: Case) -> None:
    assert_as_exact_as_reference(run_kernels, case, [torch.float32])


@NEEDS_GPU
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_local_rows_in_half_precision(case: Case, dtype: torch.dtype) -> None:
    assert_as_exact_as_reference(run_kernels, case, [dtype])


@pytest.fixture
def kernels_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models take the kernels, on a CPU too, and batches however small go without their padding."""
    monkeypatch.setattr(attention_triton, "DEVICES", (DEVICE.type,))
    monkeypatch.setattr(unpadding_hf_longformer, "MIN_PADDING", 0)


LENGTH = 45
# Where the real tokens of texts stand: from, to.
SPANS = {
    "right": [(0, 45), (0, 30), (0, 1), (0, 9)],
    "left": [(0, 45), (37, 45), (44, 45)],
    "both sides": [(10, 40), (3, 5), (13, 45)],
    "rows of padding": [(0, 0), (5, 45), (0, 0), (0, 12), (0, 0)],
    "one text": [(20, 41)],
}


@pytest.mark.parametrize("globals_", ["none", "first", "ragged"])
@pytest.mark.parametrize("kind", SPANS)
@pytest.mark.parametrize("fields", [{}, {"attention_dilation": [[1, 2, 3], [1, 1, 1]]}], ids=str)
def test_model_without_padding(fields: dict[str, Any], kind: str, globals_: str, kernels_everywhere: None) -> None:
    """Texts that stand one after the other in one row: outputs, and gradients of all weights."""
    real = torch.zeros(len(SPANS[kind]), LENGTH, dtype=torch.long)
    is_global = torch.zeros_like(real)
    for row, (start, end) in enumerate(SPANS[kind]):
        real[row, start:end] = 1
        marked = {"none": [], "first": [start], "ragged": [start, end - 1, (start + end) // 2][: row + 1]}[globals_]
        is_global[row, marked if end > start else []] = 1
    ids = random_ids(*real.shape).where(real.bool(), torch.tensor(1))
    weight = torch.randn(*real.shape, 24) * real[..., None]
    results = []
    for implementation, dtype in (("eager", torch.float64), ("sdpa", torch.float32), ("eager", torch.float32)):
        model = randomise(HfLongformerModel(tiny_config(**fields, attn_implementation=implementation)))
        model = model.to(DEVICE, dtype)
        inputs = {"input_ids": ids, "attention_mask": real, "global_attention_mask": is_global}
        states = model(**{name: x.to(DEVICE) for name, x in inputs.items()}).last_hidden_state.cpu()
        (states * weight.to(dtype)).sum().backward()
        grads = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
        results.append({"states": states.detach() * real[..., None]} | grads)
    exact, found, rounded = results
    for name in exact:
        computed = found.get(name, torch.zeros_like(exact[name]))
        unit = torch.finfo(torch.float32).eps * max(1.0, exact[name].abs().max().item())
        assert largest_error(computed, exact[name]) <= 3 * largest_error(rounded[name], exact[name]) + 16 * unit, name
