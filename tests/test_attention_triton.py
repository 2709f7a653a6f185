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
    pairwise_cases,
    random_projections,
    rows_of_global,
)

from hf_longformer import attention_hf_longformer, attention_triton
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
