# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The local rows on a CPU and the global rows without projected keys, against the reference: outputs, all gradients."""

import pytest
import torch
from helpers import (
    DTYPES,
    GLOBALS,
    PADDINGS,
    Case,
    assert_as_exact_as_reference,
    largest_error,
    pairwise_cases,
    random_projections,
    run_local_rows,
    run_with_gradients,
    token_roles,
)
from hypothesis import given, settings
from test_attention_blocked import LargestTensor, SingleRow, random_cases

from hf_longformer import attention_blocked
from hf_longformer.attention_cpu import SHORT, local_rows
from hf_longformer.blocks import MIN_BLOCK
from hf_longformer.global_rows import global_rows, global_rows_of_states

FACTORS = {
    "dilation": [1, 2, 3, (1, 1, 4), (2, 1, 2)],
    "is_causal": [False, True],
    "globals_": GLOBALS,
    "padding": PADDINGS,
}
LENGTHS = [1, 7, MIN_BLOCK - 1, MIN_BLOCK, MIN_BLOCK + 1, SHORT, SHORT + 1, 300, 2 * SHORT, 2 * SHORT + 1, 1000, 1021]
PAIRWISE = pairwise_cases(length=LENGTHS, window=[2, 8, 64, 128, 500, 600, 2100], **FACTORS)
PAIRWISE_LOW_PRECISION = pairwise_cases(length=[1, 7, 65, 257, 1021], window=[2, 64, 600], **FACTORS)


def run_on_cpu(case: Case, *projections: torch.Tensor) -> torch.Tensor:
    return run_local_rows(local_rows, case, *projections)


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_local_rows_on_cpu_pairwise(case: Case):
    assert_as_exact_as_reference(run_on_cpu, case)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", PAIRWISE_LOW_PRECISION, ids=str)
def test_local_rows_on_cpu_low_precision(case: Case, dtype: str):
    assert_as_exact_as_reference(run_on_cpu, case, [DTYPES[dtype]])


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_local_rows_on_cpu_are_the_same_without_gradients(case: Case):
    """A text that is one block takes another way then, and so does one of several layers."""
    projections = random_projections(case)[:3]
    settings_ = {"pattern": case.pattern, "roles": token_roles(case)}
    with torch.no_grad():
        first, again = (local_rows(*projections, **settings_) for _ in range(2))
    expected = local_rows(*(x.requires_grad_() for x in projections), **settings_)
    assert torch.equal(first, again)
    torch.testing.assert_close(first, expected.detach(), rtol=1e-12, atol=1e-13)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(random_cases())
def test_local_rows_on_cpu_random_patterns(case: Case):
    assert_as_exact_as_reference(run_on_cpu, case)


def test_local_rows_on_cpu_of_strided_projections():
    """As a model passes them: `(batch, S, heads, head_dim)` in memory."""

    def run(case: Case, *projections: torch.Tensor) -> torch.Tensor:
        return run_on_cpu(case, *(tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in projections))

    assert_as_exact_as_reference(run, Case(600, 64, (1, 1, 4), globals_="ragged", padding="right"))


@pytest.mark.parametrize("is_causal", [False, True], ids=["both", "causal"])
@pytest.mark.parametrize("dilation", [1, 4, (1, 1, 4)], ids=str)
def test_local_rows_on_cpu_makes_no_tensor_of_length_squared(dilation: int | tuple[int, ...], is_causal: bool):
    case = SingleRow(2048, 8, dilation, is_causal, "one", "right")
    tensors = list(torch.randn(7, 1, 3, 2048, 1))
    with LargestTensor() as largest:
        run_with_gradients(run_on_cpu, case, tensors, torch.float32)
    assert 0 < largest.numel < 2048**2 / 2


@pytest.mark.parametrize("globals_", ["none", "one"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_local_rows_on_cpu_in_wide_windows_makes_no_tensor_of_length_squared(dropout: float, globals_: str):
    case = SingleRow(2048, 4200, 1, False, globals_, "right")
    tensors = [x.requires_grad_() for x in torch.randn(3, 1, 3, 2048, 2)]
    with LargestTensor() as largest:
        output = local_rows(*tensors, pattern=case.pattern, roles=token_roles(case), dropout=dropout)
        output.sum().backward()
    assert 0 < largest.numel < 2048**2 / 2


STATE_CASES = [
    Case(65, 8, 1, is_causal, globals_, padding)
    for is_causal in (False, True)
    for globals_ in ("one", "ragged")
    for padding in PADDINGS
]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("case", STATE_CASES, ids=str)
def test_global_rows_of_states_are_those_of_projected_keys(case: Case, dtype: str):
    """Output and gradients of states, weights and biases; errors at most twice and three times those with keys."""
    heads, head_dim, roles = 3, 4, token_roles(case)
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, case.length, 12), *[(12, 12), (12,)] * 3]
    exact = [torch.randn(shape, generator=generator).to(DTYPES[dtype]).double() for shape in shapes]

    def with_keys(states, *projections):
        global_states = states.flatten(0, 1)[roles.global_tokens.flat_index].unflatten(0, (2, -1))
        query, key, value = (
            torch.nn.functional.linear(tensor, *projection).unflatten(-1, (heads, head_dim)).transpose(1, 2)
            for tensor, projection in zip((global_states, states, states), batched(projections), strict=True)
        )
        return global_rows(query, key, value, pattern=case.pattern, roles=roles)

    def of_states(states, *projections):
        global_states = states.flatten(0, 1)[roles.global_tokens.flat_index]
        given = (global_states, states, batched(projections), heads)
        return global_rows_of_states(*given, pattern=case.pattern, roles=roles)

    def batched(projections):
        return list(zip(projections[::2], projections[1::2], strict=True))

    def run(attend, dtype):
        leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in exact]
        output = attend(*leaves).masked_fill(~roles.global_tokens.valid[:, None, :, None], 0.0)
        output.square().sum().backward()
        return [output.detach(), *(leaf.grad for leaf in leaves)]

    oracle = run(with_keys, torch.float64)
    reference, result = run(with_keys, DTYPES[dtype]), run(of_states, DTYPES[dtype])
    scales = [best.abs().max().item() for best in oracle]
    scales[5] = scales[4]  # the gradient of the keys' bias is a sum that cancels: its terms are as the weight's
    for index, (one, other, best) in enumerate(zip(result, reference, oracle, strict=True)):
        rounding = 1e-12 if dtype == "float64" else 8 * torch.finfo(DTYPES[dtype]).eps
        allowed = (2 if index == 0 else 3) * largest_error(other, best) + rounding * max(1.0, scales[index])
        assert largest_error(one, best) <= allowed, index


DROPOUT_CASES = pairwise_cases(length=[1, 7, 65, 256, 257, 300, 700], window=[2, 8, 64, 128, 400, 600], **FACTORS)


def dropped_weights(case: Case, query: torch.Tensor, key: torch.Tensor, dropout: float, seed: int) -> torch.Tensor:
    """The weights `(batch, heads, S, S)` that were used: what comes out if the values are the identity."""
    torch.manual_seed(seed)
    identity = torch.eye(case.length, dtype=query.dtype).expand(*query.shape[:2], -1, -1)
    attend = local_rows if dropout else attention_blocked.local_rows  # the kernel wants values as wide as keys
    return attend(query, key, identity, pattern=case.pattern, roles=token_roles(case), dropout=dropout)


@pytest.mark.parametrize("case", DROPOUT_CASES, ids=str)
def test_dropout_on_cpu_drops_and_scales_weights(case: Case):
    """Every weight is 0, or the exact one over the share that is kept; output and gradients are those of such."""
    query, key, value, *_ = random_projections(case)
    exact = dropped_weights(case, query, key, 0.0, 0)
    used = dropped_weights(case, query, key, 0.3, 5)
    kept = used != 0
    torch.testing.assert_close(used, exact.masked_fill(~kept, 0.0) / 0.7, rtol=1e-4, atol=1e-12)
    seen = exact > 1e-200
    if seen.sum() > 2000:
        share = kept.sum() / seen.sum()
        assert abs(float(share) - 0.7) < 5 * (0.21 / int(seen.sum())) ** 0.5
    settings_ = {"pattern": case.pattern, "roles": token_roles(case)}
    factor = torch.where(kept, used / exact, 0.0)

    def dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        scores = (query @ key.mT * query.shape[-1] ** -0.5).masked_fill(~seen, float("-inf"))
        weights = torch.softmax(scores, dim=-1).masked_fill(~seen.any(dim=-1, keepdim=True), 0.0)
        return weights * factor @ value

    def blocked(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        return local_rows(query, key, value, dropout=0.3, **settings_)

    results = []
    for attend in (dense, blocked):
        leaves = [tensor.clone().requires_grad_() for tensor in (query, key, value)]
        output = attend(*leaves)
        output.square().sum().backward()
        results.append([output.detach(), *(leaf.grad for leaf in leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one.nan_to_num(0.0), rtol=1e-9, atol=1e-9)


def test_dropout_on_cpu_follows_the_seed():
    case = Case(300, 64, globals_="one", padding="right")
    query, key, *_ = random_projections(case)
    one, same, other = (dropped_weights(case, query, key, 0.5, seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    torch.manual_seed(1)
    settings_ = {"pattern": case.pattern, "roles": token_roles(case), "dropout": 0.5}
    assert not torch.equal(*(local_rows(query, key, key, **settings_) for _ in range(2)))  # layers differ


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_dropout_on_cpu_keeps_the_mean(dropout: float):
    case = Case(40, 8, globals_="one")
    query, key, *_ = random_projections(case)
    exact = dropped_weights(case, query, key, 0.0, 0)
    drawn = torch.stack([dropped_weights(case, query, key, dropout, seed) for seed in range(600)])
    deviation = (exact**2 * dropout / (1 - dropout) / 600).sqrt()
    assert ((drawn.mean(dim=0) - exact).abs() <= 5.5 * deviation + 1e-12).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dropout_on_cpu_low_precision(dtype: str):
    """The same weights are dropped; the rest agrees to the precision of the dtype."""
    case = Case(300, 64, (1, 1, 4), globals_="ragged", padding="right")
    query, key, *_ = (tensor.to(DTYPES[dtype]) for tensor in random_projections(case, DTYPES[dtype]))
    low = dropped_weights(case, query, key, 0.3, 5).double()
    high = dropped_weights(case, query.double(), key.double(), 0.3, 5)
    assert ((low == 0) | (high > 0)).all()
    torch.testing.assert_close(low, high, rtol=0.1, atol=1e-3)


def test_dropout_on_cpu_keeps_no_weights_for_the_backward_pass():
    """Kept are query, key, value, output, masks and a seed; no tensor is proportional to length squared."""
    case = SingleRow(2048, 8, 1, False, "one", "right")
    query, key, value = (torch.randn(1, 3, 2048, 2, requires_grad=True) for _ in range(3))
    kept = []
    with (
        LargestTensor() as largest,
        torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x),
    ):
        local_rows(query, key, value, pattern=case.pattern, roles=token_roles(case), dropout=0.1).sum().backward()
    assert [tuple(tensor.shape) for tensor in kept if tensor.is_floating_point()] == [(1, 3, 2048, 2)] * 4
    assert 0 < largest.numel < 2048**2 / 2
