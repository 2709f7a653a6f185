# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The blocked path against the reference: outputs and all gradients, at every awkward shape, in every dtype."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from helpers import (
    DTYPES,
    GLOBALS,
    PADDINGS,
    PROJECTIONS,
    Case,
    assert_as_exact_as_reference,
    cases,
    pairwise_cases,
    random_projections,
    rows_of_global,
    run_blocked,
    run_reference,
    run_with_gradients,
    run_with_weights,
    token_roles,
)
from hypothesis import given, settings, strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from hf_longformer.attention_blocked import local_rows, local_weights
from hf_longformer.attention_layout import dense_attention_weights, to_dense, to_narrow
from hf_longformer.attention_reference import attention_reference
from hf_longformer.global_rows import global_weights

DILATIONS = (1, 2, 3, (1, 1, 4))
FACTORS = {"dilation": DILATIONS, "is_causal": [False, True], "globals_": GLOBALS, "padding": PADDINGS}
SHORT, LONG = (1, 7, 63, 64, 65), (257, 1000, 1021)
PAIRWISE = pairwise_cases(length=SHORT + LONG, window=[2, 8, 64, 128, 600], **FACTORS)
PAIRWISE_OF_WEIGHTS = pairwise_cases(length=[1, 7, 65, 257, 600], window=[2, 8, 64, 128, 600], **FACTORS)
PAIRWISE_LOW_PRECISION = pairwise_cases(length=[1, 7, 65, 257, 1021], window=[2, 64, 600], **FACTORS)


@pytest.mark.parametrize("dilation", DILATIONS, ids=lambda dilation: f"d{dilation}")
@pytest.mark.parametrize("window", [2, 8, 64, 128], ids=lambda window: f"w{window}")
@pytest.mark.parametrize("length", SHORT, ids=lambda length: f"S{length}")
def test_attention_blocked_short(length: int, window: int, dilation: int | tuple[int, ...]):
    for case in cases(length=[length], window=[window], **(FACTORS | {"dilation": [dilation]})):
        assert_as_exact_as_reference(run_blocked, case)


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_attention_blocked_pairwise(case: Case):
    assert_as_exact_as_reference(run_blocked, case)


@pytest.mark.slow
@pytest.mark.parametrize("dilation", DILATIONS, ids=lambda dilation: f"d{dilation}")
@pytest.mark.parametrize("window", [2, 64, 600], ids=lambda window: f"w{window}")
@pytest.mark.parametrize("length", LONG, ids=lambda length: f"S{length}")
def test_attention_blocked_long(length: int, window: int, dilation: int | tuple[int, ...]):
    for case in cases(length=[length], window=[window], **(FACTORS | {"dilation": [dilation]})):
        assert_as_exact_as_reference(run_blocked, case)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", PAIRWISE_LOW_PRECISION, ids=str)
def test_attention_blocked_low_precision(case: Case, dtype: str):
    assert_as_exact_as_reference(run_blocked, case, [DTYPES[dtype]])


@dataclass(frozen=True)
class RandomCase(Case):
    """Masks of random density, from a seed."""

    global_share: float = 0.0
    padded_share: float = 0.0
    seed: int = 0

    def masks(self) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        draw = torch.rand(2, 2, self.length, generator=generator)
        real = draw[0] >= self.padded_share
        return (draw[1] < self.global_share) & real, real


def random_cases() -> st.SearchStrategy[RandomCase]:
    return st.builds(
        RandomCase,
        length=st.integers(1, 200),
        window=st.integers(1, 120).map(lambda one_sided: 2 * one_sided),
        dilation=st.integers(1, 70) | st.tuples(*[st.integers(1, 9)] * 3),
        is_causal=st.booleans(),
        global_share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
        padded_share=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
        seed=st.integers(0, 999),
    )


@settings(deadline=None, derandomize=True, max_examples=50)
@given(random_cases())
def test_attention_blocked_random_patterns(case: RandomCase):
    assert_as_exact_as_reference(run_blocked, case)
    assert_as_exact_as_reference(run_with_weights, case)


@pytest.mark.parametrize("case", PAIRWISE_OF_WEIGHTS, ids=str)
def test_local_and_global_weights_give_the_same_output(case: Case):
    assert_as_exact_as_reference(run_with_weights, case)


def reference_weights(case: Case, projections: list[torch.Tensor]) -> torch.Tensor:
    is_global, real = case.masks()
    masks = {"is_global": is_global, "key_padding_mask": real}
    return attention_reference(*projections, pattern=case.pattern, **masks)[1]


def narrow_weights(case: Case, projections: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    query, key, _, query_global, key_global, _ = projections
    settings_ = {"pattern": case.pattern, "roles": token_roles(case)}
    of_local = local_weights(query, key, **settings_)
    if not settings_["roles"].num_global:
        return of_local, None
    return of_local, global_weights(rows_of_global(query_global, settings_["roles"]), key_global, **settings_)


@pytest.mark.parametrize("case", PAIRWISE_OF_WEIGHTS, ids=str)
def test_local_and_global_weights_are_those_of_the_reference(case: Case):
    projections = random_projections(case)[:6]
    expected, roles = reference_weights(case, projections), token_roles(case)
    of_local, of_global = narrow_weights(case, projections)
    assert of_local.shape == (2, 3, case.length, roles.num_global + case.window + 1)
    torch.testing.assert_close(to_dense(of_local, of_global, case.pattern, roles), expected, rtol=0, atol=1e-13)
    # The same in the narrow layout, where every weight has one place: nothing is written beside it.
    expected_local, expected_global = to_narrow(expected, case.pattern, roles)
    torch.testing.assert_close(of_local, expected_local, rtol=0, atol=1e-13)
    if roles.num_global:
        assert of_global.shape == (2, 3, case.length, roles.num_global)
        torch.testing.assert_close(of_global, expected_global, rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", PAIRWISE_OF_WEIGHTS, ids=str)
def test_to_narrow_and_back_loses_nothing(case: Case):
    weights, roles = reference_weights(case, random_projections(case)[:6]), token_roles(case)
    of_local, of_global = to_narrow(weights, case.pattern, roles)
    assert torch.equal(to_dense(of_local, of_global, case.pattern, roles), weights)


def test_to_narrow_puts_every_weight_where_the_docstring_says():
    case = Case(11, 4, dilation=2, globals_="one")  # the token 3 is global
    weights = torch.arange(2 * 3 * 11 * 11.0).view(2, 3, 11, 11)
    of_local, of_global = to_narrow(weights, case.pattern, token_roles(case))
    # Row 5: the global token, then 1, 3 (global, stands in front), 5, 7, 9.
    row = weights[1, 2, 5]
    assert of_local[1, 2, 5].tolist() == [row[3], row[1], 0.0, row[5], row[7], row[9]]
    assert of_local[1, 2, 0].tolist() == [weights[1, 2, 0, 3], 0, 0, *weights[1, 2, 0, [0, 2, 4]]]
    assert (of_local[:, :, 3] == 0).all()
    assert torch.equal(of_global[..., 0], weights[:, :, 3, :])


@pytest.mark.parametrize("globals_", GLOBALS)
@pytest.mark.parametrize("dilation", [1, 2, (1, 1, 4)], ids=str)
def test_dense_attention_weights(dilation: int | tuple[int, ...], globals_: str):
    case = Case(21, 6, dilation=dilation, globals_=globals_)
    projections = random_projections(case)[:6]
    is_global = case.masks()[0]
    mask = None if is_global is None else is_global.long()
    dense = dense_attention_weights(*narrow_weights(case, projections), mask, attention_dilation=dilation)
    torch.testing.assert_close(dense, reference_weights(case, projections))


def test_dense_attention_weights_refuses_masks_that_do_not_fit():
    case = Case(21, 6, globals_="one")
    of_local, of_global = narrow_weights(case, random_projections(case)[:6])
    with pytest.raises(ValueError, match="got 1 columns and 0 global tokens"):
        dense_attention_weights(of_local, of_global)
    with pytest.raises(ValueError, match="got 1 columns and 21 global tokens"):
        dense_attention_weights(of_local, of_global, torch.ones(2, 21))


def test_roles_are_shared_by_layers_of_different_patterns():
    """The masks that the roles remember belong to one geometry each."""
    first = Case(130, 2, globals_="ragged", padding="right")
    roles = token_roles(first)
    projections = random_projections(first)[:6]
    query, key, _, query_global, key_global, _ = projections
    rows = rows_of_global(query_global, roles)
    for window in (2, 130, 64, 300):
        for dilation in (1, 3, (1, 3, 2)):
            for is_causal in (False, True):
                case = Case(130, window, dilation, is_causal, "ragged", "right")
                shared = {"pattern": case.pattern, "roles": roles}
                output = run_blocked(case, *projections, roles=roles)
                torch.testing.assert_close(
                    output, run_reference(case, *projections), msg=lambda text, c=case: f"{c} {text}"
                )
                dense = to_dense(
                    local_weights(query, key, **shared), global_weights(rows, key_global, **shared), **shared
                )
                torch.testing.assert_close(dense, reference_weights(case, projections))


@pytest.mark.parametrize("case", PAIRWISE_OF_WEIGHTS, ids=str)
def test_no_row_of_a_block_is_without_keys(case: Case):
    """Also not the rows that are not used: the softmax of nothing is NaN in some kernels."""
    query, key, value = random_projections(case)[:3]
    roles = token_roles(case)
    local_rows(query, key, value, pattern=case.pattern, roles=roles)
    local_weights(query, key, pattern=case.pattern, roles=roles)
    assert roles._derived
    assert all(mask is None or mask.any(dim=-1).all() for mask in roles._derived.values())


def test_scaling():
    case = Case(70, 8, globals_="ragged")
    projections = random_projections(case)[:6]
    expected = run_reference(case, *projections, scaling=0.3)
    torch.testing.assert_close(run_blocked(case, *projections, scaling=0.3), expected)


DROPOUT_CASES = [Case(9, 4, globals_="one"), Case(9, 64, dilation=2), Case(70, 4, 2, True, "ragged", "right")]
IMPLEMENTATIONS = {"blocked": run_blocked, "reference": run_reference}


@pytest.mark.parametrize("case", DROPOUT_CASES, ids=str)
@pytest.mark.parametrize("run", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_dropout_changes_nothing_on_average(run: Callable, case: Case):
    projections = random_projections(case)[:6]
    outputs = torch.stack([run(case, *projections, dropout=0.4) for _ in range(400)])
    deviation = (outputs.mean(dim=0) - run(case, *projections)).abs()
    assert (deviation <= 6.0 * outputs.std(dim=0) / 400**0.5 + 1e-12).all()
    assert (outputs.std(dim=0) > 0).any()


@pytest.mark.parametrize("case", DROPOUT_CASES, ids=str)
def test_dropout_of_weights_changes_nothing_on_average(case: Case):
    query, key, _, query_global, key_global, _ = random_projections(case)[:6]
    roles = token_roles(case)
    problems = [(local_weights, query)]
    if roles.num_global:
        problems.append((global_weights, rows_of_global(query_global, roles)))
    for weights_of, rows in problems:
        arguments = {"pattern": case.pattern, "roles": roles}
        keys = key if weights_of is local_weights else key_global
        kept = weights_of(rows, keys, **arguments)
        drawn = torch.stack([weights_of(rows, keys, dropout=0.4, **arguments) for _ in range(400)])
        torch.testing.assert_close(drawn[drawn > 0], (kept / 0.6).expand_as(drawn)[drawn > 0])
        share = ((drawn == 0) & (kept > 0)).sum() / (kept > 0).expand_as(drawn).sum()
        assert 0.38 < share < 0.42


@pytest.mark.parametrize("case", DROPOUT_CASES, ids=str)
def test_dropout_of_zero_is_no_dropout_and_a_seed_repeats_it(case: Case):
    projections = random_projections(case)[:6]
    assert torch.equal(run_blocked(case, *projections, dropout=0.0), run_blocked(case, *projections))
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(run_blocked(case, *projections, dropout=0.4))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("case", DROPOUT_CASES, ids=str)
def test_dropout_drops_the_same_weights_backward(case: Case):
    """The output is linear in the values, so the gradients say what they were multiplied with."""
    tensors = random_projections(case)
    run = run_with_gradients(lambda *arguments: run_blocked(*arguments, dropout=0.4), case, tensors, torch.float64)
    assert all(torch.isfinite(tensor).all() for tensor in run.values())
    values = dict(zip(PROJECTIONS, tensors, strict=False))
    backward = sum((run[name] * values[name]).sum() for name in ("value", "value_global"))
    torch.testing.assert_close(backward, (run["output"] * tensors[6]).sum())


class LargestTensor(TorchDispatchMode):
    """Remembers the largest number of elements that any operation gives back."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


@pytest.mark.parametrize("is_causal", [False, True], ids=["both", "causal"])
@pytest.mark.parametrize("dilation", [1, 4, (1, 1, 4)], ids=str)
@pytest.mark.parametrize("run", [run_blocked, run_with_weights], ids=lambda run: run.__name__)
def test_attention_blocked_makes_no_tensor_of_length_squared(run: Callable, dilation: int, is_causal: bool):
    case = Case(2048, 8, dilation, is_causal, "one", "right")
    tensors = [tensor[:1, :, :, :1] for tensor in random_projections(case)]
    one_row = SingleRow(**vars(case))
    with LargestTensor() as largest:
        run_with_gradients(run, one_row, tensors, torch.float32)
    assert 0 < largest.numel < 2048**2 / 2


def test_largest_tensor_sees_what_the_reference_makes():
    case = SingleRow(256, 8)
    with LargestTensor() as largest:
        run_with_gradients(run_reference, case, [tensor[:1] for tensor in random_projections(case)], torch.float32)
    assert largest.numel >= 256**2


class SingleRow(Case):
    """The first text alone."""

    def masks(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        return tuple(None if mask is None else mask[:1] for mask in super().masks())


MEASURE_MEMORY = """
import re
from pathlib import Path

import torch

from hf_longformer import longformer_attention

torch.set_num_threads(1)
for length in (512, 4096, 8192, 16384):
    query, key, value = (torch.randn(1, 4, length, 32, requires_grad=True) for _ in range(3))
    marked = (torch.arange(length) == 0).long()[None]
    longformer_attention(query, key, value, attention_window=128, global_attention_mask=marked).sum().backward()
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_grows_linearly_with_the_length():
    """Forward and backward, the whole process; the shortest run is there to load everything else.

    Not `ru_maxrss`: a child begins with that of its parent.
    """
    command = [sys.executable, "-c", MEASURE_MEMORY]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded, *peaks = (int(line) for line in run.stdout.split())
    first, second = peaks[1] - peaks[0], peaks[2] - peaks[1]
    assert first > 0
    assert 1.4 < second / first < 2.9  # twice as many more tokens; four times as many more pairs of tokens
    for length, peak in zip((4096, 8192, 16384), peaks, strict=True):
        assert peak - loaded < 32 * 1024 * length, length  # 32 KiB a token: less than S² · 4 bytes from 8192 on
    assert peaks[2] - loaded < 16384**2 * 4 / 2
