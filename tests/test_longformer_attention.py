# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The public operator: what it takes, what it fills in, what it refuses."""

import pytest
import torch
from helpers import (
    DTYPES,
    GLOBALS,
    PADDINGS,
    PROJECTIONS,
    Case,
    keywords,
    pairwise_cases,
    random_projections,
    run_reference,
    run_with_gradients,
)
from torch.nn.functional import scaled_dot_product_attention

from hf_longformer import attention_hf_longformer, longformer_attention

IMPLEMENTATIONS = ("eager", "sdpa")
CASES = pairwise_cases(
    length=[1, 7, 65, 130],
    window=[2, 64, 300],
    dilation=[1, 3, (1, 1, 4)],
    is_causal=[False, True],
    globals_=GLOBALS,
    padding=PADDINGS,
)


def of_global(projections: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(zip(PROJECTIONS[3:], projections[3:6], strict=True))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_longformer_attention_is_the_reference(case: Case, implementation: str):
    def attend(case: Case, *projections: torch.Tensor) -> torch.Tensor:
        settings = keywords(case, attn_implementation=implementation)
        return longformer_attention(*projections[:3], **of_global(projections), **settings)

    tensors = random_projections(case)
    expected = run_with_gradients(run_reference, case, tensors, torch.float64)
    result = run_with_gradients(attend, case, tensors, torch.float64)
    for name in expected:
        torch.testing.assert_close(result[name], expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_global_projections_are_the_local_ones_if_left_out(implementation: str):
    case = Case(70, 8, globals_="ragged", padding="right")
    query, key, value, query_global, key_global, value_global = random_projections(case)[:6]
    settings = keywords(case, attn_implementation=implementation)
    local = (query, key, value)
    torch.testing.assert_close(longformer_attention(*local, **settings), run_reference(case, *local, *local))
    for name, tensor, filled in (
        ("query_global", query_global, (query_global, key, value)),
        ("key_global", key_global, (query, key_global, value)),
        ("value_global", value_global, (query, key, value_global)),
    ):
        output = longformer_attention(*local, **{name: tensor}, **settings)
        torch.testing.assert_close(output, run_reference(case, *local, *filled), msg=lambda text, n=name: f"{n} {text}")


@pytest.mark.parametrize("is_causal", [False, True], ids=["both", "causal"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_wide_window_is_full_attention(implementation: str, dtype: torch.dtype, is_causal: bool):
    query, key, value = (tensor.to(dtype) for tensor in random_projections(Case(70, 2))[:3])
    settings = {"is_causal": is_causal, "attn_implementation": implementation}
    output = longformer_attention(query, key, value, attention_window=138, **settings)
    expected = scaled_dot_product_attention(query, key, value, is_causal=is_causal)
    assert output.dtype == dtype
    tolerance = {"rtol": 8 * torch.finfo(dtype).eps, "atol": 8 * torch.finfo(dtype).eps}
    torch.testing.assert_close(output, expected, **tolerance)
    narrower = longformer_attention(query, key, value, attention_window=136, **settings)  # the two ends do not meet
    torch.testing.assert_close(narrower[:, :, 1:-1], expected[:, :, 1:-1], **tolerance)
    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(narrower[:, :, -1], expected[:, :, -1], **tolerance)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_masks_may_be_bool_or_numbers(implementation: str):
    case = Case(70, 8, globals_="ragged", padding="left")
    query, key, value = random_projections(case)[:3]
    outputs = []
    for dtype in (torch.bool, torch.long, torch.int32, torch.uint8, torch.float32):
        settings = keywords(case, attn_implementation=implementation)
        for name in ("attention_mask", "global_attention_mask"):
            settings[name] = settings[name].to(dtype)
        outputs.append(longformer_attention(query, key, value, **settings))
    assert all(torch.equal(output, outputs[0]) for output in outputs)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_masks_that_say_nothing_change_nothing(implementation: str):
    case = Case(70, 8)
    query, key, value = random_projections(case)[:3]
    expected = longformer_attention(query, key, value, **keywords(case, attn_implementation=implementation))
    masks = {"attention_mask": torch.ones(2, 70), "global_attention_mask": torch.zeros(2, 70)}
    settings = keywords(case, attn_implementation=implementation) | masks
    assert torch.equal(longformer_attention(query, key, value, **settings), expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_padded_rows_are_zero(implementation: str):
    for padding in PADDINGS[1:]:
        case = Case(70, 8, globals_="one", padding=padding)
        query, key, value = random_projections(case)[:3]
        output = longformer_attention(query, key, value, **keywords(case, attn_implementation=implementation))
        assert (output[~case.masks()[1][:, None].expand(2, 3, 70)] == 0).all()


def test_sdpa_is_the_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(attention_hf_longformer, "attention_reference")
    query, key, value = random_projections(Case(70, 8))[:3]
    assert longformer_attention(query, key, value, attention_window=8).shape == query.shape
    with pytest.raises(NameError, match="attention_reference"):
        longformer_attention(query, key, value, attention_window=8, attn_implementation="eager")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_dropout_and_scaling_reach_the_implementation(implementation: str):
    case = Case(70, 8, globals_="one")
    query, key, value = random_projections(case)[:3]
    settings = keywords(case, attn_implementation=implementation)
    plain = longformer_attention(query, key, value, **settings)
    assert not torch.allclose(longformer_attention(query, key, value, dropout=0.5, **settings), plain)
    scaled = longformer_attention(query, key, value, scaling=1.5, **settings)
    torch.testing.assert_close(scaled, longformer_attention(3 * query, key, value, **settings))


Q = torch.zeros(2, 3, 5, 4)
ONES, MARKED = torch.ones(2, 5), torch.tensor([[1, 0, 0, 0, 0]] * 2)
REFUSALS = {
    "implementation": (
        {"attn_implementation": "flash"},
        r"one of \('eager', 'sdpa', .*'flex_attention_flash'\), got 'flash'",
    ),
    "odd window": ({"attention_window": 3}, "even number of at least 2 .*got 3"),
    "zero window": ({"attention_window": 0}, "even number of at least 2 .*got 0"),
    "dilation": ({"attention_dilation": 0}, "attention_dilation must be at least 1 .*got 0"),
    "dilations": ({"attention_dilation": (1, 2)}, r"one per head \(3 heads\), got 2: \(1, 2\)"),
    "dimensions": ({"query": Q[0], "key": Q[0], "value": Q[0]}, r"got \[\(3, 5, 4\), \(3, 5, 4\), .*None"),
    "key": ({"key": Q[:, :2]}, r"one shape \(batch, heads, S, head_dim\), got .*\(2, 2, 5, 4\)"),
    "value": ({"value": Q[:, :, :4]}, r"one shape .*got .*\(2, 3, 4, 4\)"),
    "query_global": ({"query_global": Q[:, :, :1]}, r"one shape .*got .*\(2, 3, 1, 4\)"),
    "key_global": ({"key_global": Q[..., :2]}, r"one shape .*got .*\(2, 3, 5, 2\)"),
    "dtype": ({"value": Q.double()}, r"one dtype, got \[torch.float32, torch.float32, torch.float64"),
    "value_global": ({"value_global": Q[:1]}, r"one shape .*got .*\(1, 3, 5, 4\)"),
    "negative dropout": ({"dropout": -0.1}, r"dropout must be in \[0, 1\), got -0.1"),
    "dropout of one": ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    "mask shape": ({"attention_mask": ONES[:, :4]}, r"attention_mask .*\(batch, S\) = \(2, 5\), got \(2, 4\)"),
    "mask dimensions": ({"attention_mask": ONES[:, None, None]}, r"attention_mask .*\(2, 5\), got \(2, 1, 1, 5\)"),
    "global shape": ({"global_attention_mask": MARKED[:1]}, r"global_attention_mask .*\(2, 5\), got \(1, 5\)"),
    "mask values": ({"attention_mask": ONES + MARKED}, "0 .padding. and 1 .real token. only, got 2 other values"),
    "mask of -inf": ({"attention_mask": MARKED * -1e4}, "attention_mask must hold .*got 2 other values"),
    "global values": ({"global_attention_mask": 2 * MARKED}, "global_attention_mask must hold .*got 2 other values"),
    "global padding": (
        {"attention_mask": 1 - MARKED, "global_attention_mask": MARKED},
        "a global token must be a real token, got 2 positions",
    ),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_longformer_attention_refuses(reason: str):
    wrong, sentence = REFUSALS[reason]
    with pytest.raises(ValueError, match=sentence):
        longformer_attention(**({"query": Q, "key": Q, "value": Q, "attention_window": 2} | wrong))
    assert longformer_attention(Q, Q, Q, attention_window=2).shape == Q.shape


@pytest.mark.parametrize("shape", [(1, 2, 0, 8), (0, 2, 20, 8), (1, 0, 20, 8), (1, 2, 20, 0)])
def test_empty_projections_are_refused(shape: tuple[int, ...]) -> None:
    states = torch.randn(shape)
    with pytest.raises(ValueError, match="must have something in every dimension"):
        longformer_attention(states, states, states, attention_window=4)
