# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The path of PyTorch's flash attention kernel against the reference: with a dense stand-in that keeps the kernel's
contract where there is no GPU, and with the kernel itself where there is one.
"""

import math
from typing import Any

import pytest
import torch
from helpers import GLOBALS, Case, assert_as_exact_as_reference, pairwise_cases, random_projections, rows_of_global

from hf_longformer import attention_flash, attention_hf_longformer
from hf_longformer.attention_blocked import global_rows, put_global_rows
from hf_longformer.attention_flash import local_rows
from hf_longformer.window_pattern import TokenRoles, WindowPattern

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
FACTORS: dict[str, Any] = {
    "length": [1, 2, 7, 64, 65, 200],
    "window": [2, 8, 64, 600],
    "dilation": [1, 2, 3, (1, 1, 4), (2, 1, 2)],
    "is_causal": [False, True],
    "globals_": GLOBALS,
    "padding": ["none", "right", "left", "row"],
}
PAIRWISE = pairwise_cases(**FACTORS)


def of_texts(packing: Any, pattern: WindowPattern, device: torch.device) -> torch.Tensor:
    """`(T, T)`, bool: which of its keys the kernel shows to every packed token; nothing to those behind the last text.

    Windows without gaps, whatever the dilation is: the kernel knows none.
    """
    position = torch.arange(packing.shape[0] * packing.shape[1], device=device)
    text = torch.searchsorted(packing.bounds[1:].long(), position, right=True)
    right = 0 if pattern.is_causal else pattern.one_sided_window
    distance = position[None] - position[:, None]
    inside = (distance >= -pattern.one_sided_window) & (distance <= right) & (text[:, None] == text[None])
    return inside & (text < len(packing.bounds) - 1)[:, None]


def kept(seed: torch.Tensor, shape: torch.Size, dropout: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(int(seed))
    return (torch.rand(shape, generator=generator) >= dropout).double() / (1 - dropout)


def dense_kernel(projections, packing, pattern, dropout, scaling):
    """`aten::_flash_attention_forward`, as its documentation has it: what is behind the last text stays as it was."""
    query, key, value = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in projections)
    assert query.dim() == 3
    assert packing.bounds.dtype == torch.int32
    assert int((packing.bounds[1:] - packing.bounds[:-1]).max()) <= packing.longest
    inside = of_texts(packing, pattern, query.device)
    scores = torch.einsum("qhd,khd->hqk", query, key) * scaling
    scores = scores.masked_fill(~inside, float("-inf"))
    statistics = scores.logsumexp(dim=-1)
    weights = torch.softmax(scores, dim=-1)
    seed = torch.randint(2**31, ())
    output = torch.einsum("hqk,khd->qhd", weights * kept(seed, weights.shape, dropout).to(weights), value)
    nowhere = ~inside.any(dim=1)
    output = output.masked_fill(nowhere[:, None, None], math.nan).to(projections[0].dtype)
    return output, statistics.masked_fill(nowhere, math.nan), seed, seed


def dense_kernel_backward(tensors, packing, pattern, dropout, scaling, state):
    """`aten::_flash_attention_backward`: from the log-sum-exp and output that it is given, whatever they are of."""
    dtype = tensors[0].dtype
    assert tensors[-1].is_contiguous()
    grad_output, query, key, value, output, statistics = (
        x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors
    )
    inside = of_texts(packing, pattern, query.device)
    nowhere = ~inside.any(dim=1)
    grad_output, output = (x.masked_fill(nowhere[:, None, None], 0.0) for x in (grad_output, output))
    scores = torch.einsum("qhd,khd->hqk", query, key) * scaling
    weights = torch.exp(scores - statistics[..., None]).masked_fill(~inside, 0.0)
    factor = kept(state[0], weights.shape, dropout).to(weights)
    value_grad = torch.einsum("hqk,qhd->khd", weights * factor, grad_output)
    of_output = (grad_output * output).sum(dim=-1).T[..., None]
    grad_scores = weights * (torch.einsum("qhd,khd->hqk", grad_output, value) * factor - of_output) * scaling
    grads = [torch.einsum("hqk,khd->qhd", grad_scores, key), torch.einsum("hqk,qhd->khd", grad_scores, query)]
    return [grad.masked_fill(nowhere[:, None, None], math.nan).to(dtype) for grad in (*grads, value_grad)]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_flash, "_kernel", dense_kernel)
    monkeypatch.setattr(attention_flash, "_kernel_backward", dense_kernel_backward)


def roles_of(case: Case) -> TokenRoles:
    is_global, real = case.masks()
    num_global = 0 if is_global is None else int(is_global.sum(dim=1).max())
    return TokenRoles.from_masks(real, is_global, num_global, is_contiguous=True)


def run_flash(case: Case, *projections: torch.Tensor, **options: Any) -> torch.Tensor:
    query, key, value, query_global, key_global, value_global = projections
    settings: dict[str, Any] = {"pattern": case.pattern, "roles": roles_of(case).to(query.device), **options}
    rows = rows_of_global(query_global, settings["roles"])
    output = local_rows(query, key, value, **settings)
    return put_global_rows(output, global_rows(rows, key_global, value_global, **settings), settings["roles"])


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_local_rows(case: Case, stand_in: None) -> None:
    assert_as_exact_as_reference(run_flash, case)


@pytest.mark.parametrize("globals_", ["none", "ragged"])
@pytest.mark.parametrize("dilation", [1, (1, 2, 2)])
def test_gradients_with_dropout(dilation: Any, globals_: str, stand_in: None) -> None:
    case = Case(9, 4, dilation, globals_=globals_, padding="right")
    inputs = [tensor.requires_grad_() for tensor in random_projections(case)[:3]]

    def attend(*tensors: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return local_rows(*tensors, pattern=case.pattern, roles=roles_of(case), dropout=0.4)

    assert torch.autograd.gradcheck(attend, inputs)


def test_dropout_leaves_the_mean(stand_in: None) -> None:
    case = Case(12, 4, globals_="ragged")
    query, key, value = random_projections(case)[:3]
    settings: dict[str, Any] = {"pattern": case.pattern, "roles": roles_of(case)}
    expected = local_rows(query, key, value, **settings)
    found = torch.stack([local_rows(query, key, value, dropout=0.3, **settings) for _ in range(3000)])
    assert (found.mean(0) - expected).abs().max() < 6 * found.std(0).max() / 3000**0.5
    assert found.std(0).max() > 0.1


def test_packings_are_made_once_for_all_layers(stand_in: None) -> None:
    case = Case(12, 4, 2, globals_="one", padding="left")
    query, key, value = random_projections(case)[:3]
    roles = roles_of(case)
    local_rows(query, key, value, pattern=case.pattern, roles=roles)
    made = dict(roles.cache)
    local_rows(query, key, value, pattern=case.pattern, roles=roles)
    assert made
    assert all(roles.cache[name] is one for name, one in made.items())


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, True),
        ({"device": "cpu"}, False),
        ({"dtype": torch.float32}, False),
        ({"head_dim": 60}, False),
        ({"head_dim": 512}, False),
        ({"capability": (7, 5)}, False),
        ({"padding": "right"}, True),
        ({"padding": "interior"}, False),
    ],
    ids=str,
)
def test_can_attend(change: dict[str, Any], taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Query:
        device = torch.device(change.get("device", "cuda"))
        dtype = change.get("dtype", torch.bfloat16)
        shape = torch.Size((2, 3, 30, change.get("head_dim", 64)))

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: change.get("capability", (9, 0)))
    monkeypatch.setattr(torch.version, "hip", None)
    real = Case(30, 4, padding=change.get("padding", "none")).masks()[1]
    facts = attention_hf_longformer.mask_facts(real, None, (2, 30))
    roles = attention_hf_longformer.token_roles(real, None, attention_hf_longformer.read_numbers(facts))
    assert attention_flash.can_attend(Query(), roles) is taken  # type: ignore[arg-type]


def prove(dtype: torch.dtype = torch.float32, device: str = "cpu") -> bool:
    attention_hf_longformer.is_flash_proven.cache_clear()
    try:
        return attention_hf_longformer.is_flash_proven(torch.device(device), dtype, 16)
    finally:
        attention_hf_longformer.is_flash_proven.cache_clear()


def test_proof_passes(stand_in: None, caplog: pytest.LogCaptureFixture) -> None:
    with torch.inference_mode():
        assert prove()
        assert prove(torch.bfloat16)
    assert not caplog.records


def wrong_window(forward: Any) -> Any:
    def kernel(projections, packing, pattern, *others):
        return forward(projections, packing, WindowPattern(pattern.attention_window + 2), *others)

    return kernel


def out_of_reach(*_: Any) -> Any:
    raise RuntimeError("no kernel for this device")


@pytest.mark.parametrize(
    ("name", "kernel", "message"),
    [
        ("_kernel", wrong_window(dense_kernel), "differs by"),
        ("_kernel", out_of_reach, "no kernel for this device"),
        ("_kernel_backward", lambda *given: [-x for x in dense_kernel_backward(*given)], "differs by"),
        ("_kernel_backward", out_of_reach, "no kernel for this device"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_proof_finds_a_wrong_kernel(
    name: str, kernel: Any, message: str, dtype: torch.dtype, stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(attention_hf_longformer.logger, "warning", lambda text, *given: said.append(text % given))
    monkeypatch.setattr(attention_flash, name, kernel)
    assert not prove(dtype)
    assert len(said) == 1
    assert message in said[0]
    assert "blocked path" in said[0]


@NEEDS_GPU
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_dim", [32, 64, 128])
def test_proof_on_a_gpu(head_dim: int, dtype: torch.dtype) -> None:
    assert attention_hf_longformer.is_flash_proven(torch.device("cuda", 0), dtype, head_dim)


@NEEDS_GPU
@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_local_rows_on_a_gpu(case: Case) -> None:
    """Head dimensions of the cases are 4: filled up with zeros to 8, which changes neither scores nor outputs."""

    def attend(case: Case, *projections: torch.Tensor) -> torch.Tensor:
        wide = [torch.nn.functional.pad(x, (0, 4)).cuda() for x in projections]
        return run_flash(case, *wide, scaling=0.5)[..., :4].cpu()

    assert_as_exact_as_reference(attend, case, [torch.bfloat16])
