# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The definition against an oracle of a few lines that goes token by token and knows nothing of masks."""

from itertools import product

import pytest
import torch
from helpers import (
    DTYPES,
    GLOBALS,
    PADDINGS,
    Case,
    cases,
    random_projections,
    run_reference,
    run_with_gradients,
)

from hf_longformer import WindowPattern
from hf_longformer.attention_reference import attention_reference

FACTORS = {"dilation": [1, 2, (1, 1, 4)], "is_causal": [False, True], "globals_": GLOBALS, "padding": PADDINGS}
CASES = cases(length=[1, 7, 13], window=[2], **FACTORS) + cases(length=[13], window=[6], **FACTORS)


def oracle(case: Case, *projections: torch.Tensor) -> torch.Tensor:
    """For every token: its keys, one by one, and a softmax over them. A token without keys gives 0."""
    is_global, real = case.masks()
    is_global = torch.zeros(2, case.length) if is_global is None else is_global
    real = torch.ones(2, case.length) if real is None else real
    rows = []
    for b, h, i in product(range(2), range(3), range(case.length)):
        d = case.dilation if isinstance(case.dilation, int) else case.dilation[h]
        near = [i + d * step for step in range(-case.window // 2, case.window // 2 + 1)]
        keys = [j for j in range(case.length) if is_global[b, i] or is_global[b, j] or j in near]
        keys = [j for j in keys if real[b, i] and real[b, j] and (j <= i or not case.is_causal)]
        query, key, value = projections[3:] if is_global[b, i] else projections[:3]
        scores = [torch.exp((query[b, h, i] * key[b, h, j]).sum() / 2.0) for j in keys]  # 2 is the root of head_dim
        terms = [score * value[b, h, j] for score, j in zip(scores, keys, strict=True)]
        rows.append(sum(terms) / sum(scores) if keys else torch.zeros(4, dtype=torch.float64))
    unused = 0.0 * sum(projections)  # so that all projections have a gradient
    return torch.stack(rows).view(2, 3, case.length, 4) + unused


@pytest.mark.parametrize("case", CASES, ids=str)
def test_attention_reference_is_the_definition(case: Case):
    tensors = random_projections(case)
    expected = run_with_gradients(oracle, case, tensors, torch.float64)
    result = run_with_gradients(run_reference, case, tensors, torch.float64)
    for name in expected:
        torch.testing.assert_close(
            result[name], expected[name], rtol=0, atol=1e-12, msg=lambda text, n=name: f"{n} {text}"
        )


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("padding", ["right", "left", "interior", "row"])
@pytest.mark.parametrize("globals_", GLOBALS)
def test_padding_is_exactly_zero_and_passes_no_gradient(globals_: str, padding: str, dtype: torch.dtype):
    case = Case(31, 4, globals_=globals_, padding=padding)
    tensors = random_projections(case)
    padded = ~case.masks()[1][:, None, :, None].expand(2, 3, 31, 4)
    for tensor in tensors[:6]:
        tensor[padded] = 60.0  # large, but finite: it must not be seen
    result = run_with_gradients(run_reference, case, tensors, dtype)
    for name, tensor in result.items():
        assert torch.isfinite(tensor).all(), name
        assert (tensor[padded] == 0).all(), name
        assert tensor.dtype == dtype
    assert (result["output"][~padded] != 0).all()


def test_padding_does_not_change_the_real_tokens():
    case = Case(31, 4, globals_="ragged", padding="right")
    tensors = random_projections(case)
    before = run_reference(case, *tensors[:6])
    real = case.masks()[1]
    for tensor in tensors[:6]:
        tensor.masked_fill_(~real[:, None, :, None], 1e3)
    assert torch.equal(run_reference(case, *tensors[:6]), before)


@pytest.mark.parametrize("case", [Case(13, 4, globals_=kind, padding=p) for kind in GLOBALS for p in PADDINGS], ids=str)
def test_attention_reference_returns_the_weights_it_used(case: Case):
    projections = random_projections(case)[:6]
    is_global, real = case.masks()
    masks = {"is_global": is_global, "key_padding_mask": real}
    output, weights = attention_reference(*projections, pattern=case.pattern, **masks)
    assert (weights >= 0).all()
    assert (weights[~case.pattern.dense_mask(13, is_global, real).expand_as(weights)] == 0).all()
    has_keys = torch.ones(2, 13) if real is None else real.double()
    torch.testing.assert_close(weights.sum(dim=-1), has_keys[:, None].double().expand(2, 3, 13))
    row_is_global = torch.zeros(2, 13, dtype=torch.bool) if is_global is None else is_global
    value = torch.where(row_is_global[:, None, :, None, None], projections[5][:, :, None], projections[2][:, :, None])
    torch.testing.assert_close((weights[..., None] * value).sum(dim=3), output)


def test_scaling_is_one_over_the_root_of_head_dim():
    case = Case(9, 4, globals_="one")
    projections = random_projections(case)[:6]
    assert torch.equal(run_reference(case, *projections), run_reference(case, *projections, scaling=0.5))
    query, key, value, query_global, key_global, value_global = projections
    doubled = (query * 2, key, value, query_global * 2, key_global, value_global)
    torch.testing.assert_close(run_reference(case, *projections, scaling=1.0), run_reference(case, *doubled))


def test_dropout_drops_weights_and_scales_up_the_rest():
    ones = torch.ones(1, 1, 400, 1, dtype=torch.float64)
    _, kept = attention_reference(*[ones] * 6, pattern=WindowPattern(8))
    _, weights = attention_reference(*[ones] * 6, pattern=WindowPattern(8), dropout=0.25)
    dropped = (weights == 0) & (kept > 0)
    assert 0.2 < dropped.sum() / (kept > 0).sum() < 0.3
    torch.testing.assert_close(weights[~dropped], kept[~dropped] / 0.75)
