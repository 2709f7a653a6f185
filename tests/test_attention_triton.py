# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The kernels for GPUs against the reference: where there is no GPU, as Triton's interpreter runs them on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
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
    run_local_rows,
    tiny_config,
    token_roles,
)

from hf_longformer import (
    HfLongformerModel,
    attention_triton,
    dispatch,
    kernel_proof,
    unpadding_hf_longformer,
)
from hf_longformer.attention_triton import local_rows
from hf_longformer.kernels_triton_parts import edges, visited
from hf_longformer.token_roles import PackedTexts, TokenRoles, pack
from hf_longformer.window_pattern import WindowPattern

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NEEDS_GPU = pytest.mark.skipif(DEVICE.type == "cpu", reason="needs a GPU")
FACTORS: dict[str, Any] = {
    "length": [1, 2, 7, 64, 65, 200, 330],
    "window": [2, 8, 64, 200, 600],
    "dilation": [1, 2, 3, (1, 1, 4), (2, 1, 2)],
    "is_causal": [False, True],
    "globals_": GLOBALS,
    "padding": PADDINGS,
}
SLOW = [] if DEVICE.type == "cuda" else [pytest.mark.slow]
# The interpreter takes seconds for each: without a GPU, most run with the slow tests only.
PAIRWISE = [
    pytest.param(case, id=str(case), marks=SLOW if number % 4 else [])
    for number, case in enumerate(pairwise_cases(**FACTORS))
]


def roles_of(case: Case) -> TokenRoles:
    return token_roles(case, case.padding != "interior")


def run_kernels(case: Case, *projections: torch.Tensor, **options: Any) -> torch.Tensor:
    roles = roles_of(case).to(DEVICE)
    return run_local_rows(local_rows, case, *(x.to(DEVICE) for x in projections), roles=roles, **options).cpu()


@pytest.mark.parametrize("case", PAIRWISE)
def test_local_rows(case: Case) -> None:
    assert_as_exact_as_reference(run_kernels, case, [torch.float32])


@triton.jit
def report_blocks(given, found, SIZE: tl.constexpr, STEP: tl.constexpr):  # noqa: N803 (as kernels have them)
    """What a block of SIZE visits, and what of it it sees whole: of `start, low, high, before, after` in a row."""
    row = tl.program_id(0)
    start, low, high = (tl.load(given + 5 * row + column) for column in range(3))
    before, after = tl.load(given + 5 * row + 3), tl.load(given + 5 * row + 4)
    begin, end = visited(start, low, high, before, after, SIZE, STEP)
    inner, outer = edges(begin, end, start, low, high, before, after, SIZE, STEP, False)
    tl.store(found + 4 * row, begin)
    tl.store(found + 4 * row + 1, end)
    tl.store(found + 4 * row + 2, inner)
    tl.store(found + 4 * row + 3, outer)


@pytest.mark.parametrize(("size", "step"), [(16, 16), (32, 16), (16, 32), (64, 32)])
def test_blocks_that_are_not_masked_are_seen_whole(size: int, step: int) -> None:
    """And all of them are; the two loops together visit every block that any row sees once."""
    starts, spans = range(0, 160, size), ((0, 160), (0, 150), (10, 97), (40, 56), (33, 34))
    windows = ((256, 256), (64, 64), (50, 50), (24, 24), (16, 0), (70, 0), (1, 1))
    given = [(start, *span, *window) for start in starts for span in spans for window in windows]
    found = torch.zeros(len(given), 4, dtype=torch.int32, device=DEVICE)
    report_blocks[(len(given),)](torch.tensor(given, dtype=torch.int32, device=DEVICE), found, SIZE=size, STEP=step)
    for (start, low, high, before, after), row in zip(given, found.tolist(), strict=True):
        begin, end, inner, outer = row
        looped = [*range(inner, outer, step)]
        whole = len(looped)
        looped += [i + (outer - inner if i >= inner else 0) for i in range(begin, end - (outer - inner), step)]
        rows, seen, full = range(start, start + size), set(), set()
        for u in range(0, 160 + step, step):
            keys = range(u, u + step)
            pairs = [low <= key < high and -after <= t - key <= before for t in rows for key in keys]
            if any(pairs):
                seen.add(u)
            if all(pairs):
                full.add(u)
        if start < high and start + size > low:
            assert seen <= {*looped}
            assert {*looped[:whole]} == full
        assert len({*looped}) == len(looped)


@NEEDS_GPU
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", PAIRWISE)
def test_local_rows_in_half_precision(case: Case, dtype: torch.dtype) -> None:
    assert_as_exact_as_reference(run_kernels, case, [dtype])


@pytest.mark.parametrize(
    ("is_packed", "dropout"),
    [(False, 0.0), (True, 0.4), pytest.param(False, 0.4, marks=SLOW), pytest.param(True, 0.0, marks=SLOW)],
)
@pytest.mark.parametrize(
    "case",
    [
        Case(40, 8, globals_="ragged", padding="right"),
        Case(40, 4, (1, 2, 1), globals_="one", padding="left"),
        Case(33, 8, 2, True, globals_="ragged", padding="right"),
    ],
    ids=str,
)
def test_local_rows_can_be_differentiated_twice(case: Case, is_packed: bool, dropout: float) -> None:
    """What stands for the kernels then computes what they compute, and drops what they drop."""
    tensors, roles = [x.to(DEVICE, torch.float32) for x in random_projections(case)[:3]], roles_of(case).to(DEVICE)
    if is_packed:
        real: Any = roles.key_padding_mask
        roles = pack(roles, int((~real).sum()), int(real.sum(dim=1).max()))
        tensors = [x.transpose(1, 2).flatten(0, 1)[roles.index][None].transpose(1, 2) for x in tensors]
    leaves = [x.clone().requires_grad_() for x in tensors]

    def gradients(**options: Any) -> list[torch.Tensor]:
        torch.manual_seed(0)
        output = local_rows(*leaves, pattern=case.pattern, roles=roles, dropout=dropout)
        return list(torch.autograd.grad(output.sin().sum(), leaves, **options))

    found = gradients(create_graph=True)
    for one, other in zip(found, gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5)
    again = torch.autograd.grad(sum((x**2).sum() for x in found), leaves)
    assert all(x.abs().max() > 0 for x in again)
    if dropout or is_packed:
        return
    is_global, real = (mask.to(DEVICE) for mask in case.masks())
    exact = [x.double().requires_grad_() for x in tensors]
    mask = case.pattern.dense_mask(case.length, is_global, real)
    scores = (exact[0] @ exact[1].mT * 0.5).masked_fill(~mask, -1e30)
    output = torch.softmax(scores, dim=-1) @ exact[2] * (real & ~is_global)[:, None, :, None]
    first = torch.autograd.grad(output.sin().sum(), exact, create_graph=True)
    for one, other in zip(again, torch.autograd.grad(sum((x**2).sum() for x in first), exact), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-4)


def test_dropout() -> None:
    """The share that is dropped; and outputs and gradients are those of the weights that are kept."""
    case = Case(70, 16, (1, 2, 1), globals_="ragged", padding="right")
    is_global, real = (mask.to(DEVICE) for mask in case.masks())
    settings: dict[str, Any] = {"pattern": case.pattern, "roles": roles_of(case).to(DEVICE), "scaling": 0.5}
    query, key, value, _, _, _, grad = (x.to(DEVICE) for x in random_projections(case))
    wide = [torch.nn.functional.pad(x, (0, case.length - 4)).float() for x in (query, key)]
    identity = torch.eye(case.length, device=DEVICE).expand(2, 3, -1, -1)
    weights = local_rows(*wide, identity, **settings)
    torch.manual_seed(0)
    kept = torch.where(weights > 0, local_rows(*wide, identity, dropout=0.3, **settings) / weights, 0.0)
    share = (kept > 0)[weights > 0].double().mean().item()
    assert abs(share - 0.7) < 4 * (0.3 * 0.7 / int((weights > 0).sum())) ** 0.5
    torch.testing.assert_close(kept[kept > 0], torch.full_like(kept[kept > 0], 1 / 0.7))
    leaves = [x.float().requires_grad_() for x in (query, key, value)]
    torch.manual_seed(0)
    found = local_rows(*leaves, dropout=0.3, **settings)
    exact = [x.clone().requires_grad_() for x in (query, key, value)]
    mask = case.pattern.dense_mask(case.length, is_global, real)
    scores = (exact[0] @ exact[1].mT * 0.5).masked_fill(~mask, -1e30)
    expected = (torch.softmax(scores, dim=-1) * kept.double()) @ exact[2]
    expected = expected * (real & ~is_global)[:, None, :, None]
    assert largest_error(found, expected) < 1e-5
    for one, other in zip(
        torch.autograd.grad(found, leaves, grad.float()), torch.autograd.grad(expected, exact, grad), strict=True
    ):
        assert largest_error(one, other) < 1e-5


def test_dropped_weights_know_nothing_of_each_other() -> None:
    """Rows and keys have 32 random bits each; what is made of pairs of them must look independent."""
    length, dropout = 128, 0.5
    query = torch.zeros(1, 8, length, 16, device=DEVICE)
    roles = TokenRoles()
    halves = [
        torch.nn.functional.pad(torch.eye(64, device=DEVICE), side).expand(1, 8, -1, -1).contiguous()
        for side in ((0, 0, 0, 64), (0, 0, 64, 0))
    ]
    wide = torch.nn.functional.pad(query, (0, 48))
    torch.manual_seed(0)
    signs = []
    for _ in range(4):
        state = torch.get_rng_state(), torch.cuda.get_rng_state() if DEVICE.type == "cuda" else None
        parts = []
        for half in halves:
            torch.set_rng_state(state[0])
            if state[1] is not None:
                torch.cuda.set_rng_state(state[1])
            settings: dict[str, Any] = {"pattern": WindowPattern(2 * length), "roles": roles, "dropout": dropout}
            parts.append(local_rows(wide, wide, half, **settings))
        signs.append((torch.cat(parts, dim=-1) > 0).double() * 2 - 1)
    sign = torch.cat(signs)  # (4, 8, rows, keys), 1 or -1
    assert abs(sign.mean()) < 4 / sign.numel() ** 0.5
    rows = sign[:, :, :64] * sign[:, :, 64:]
    columns = sign[..., :64] * sign[..., 64:]
    squares = rows[..., :64] * rows[..., 64:]
    for product in (rows, columns, squares):
        assert abs(product.mean()) < 4 / product.numel() ** 0.5


def test_masks_are_made_once_for_all_layers() -> None:
    case = Case(12, 4, 2, globals_="one", padding="left")
    query, key, value = (x.float().to(DEVICE) for x in random_projections(case)[:3])
    roles = roles_of(case).to(DEVICE)
    local_rows(query, key, value, pattern=case.pattern, roles=roles)
    made = dict(roles._derived)
    local_rows(query, key, value, pattern=case.pattern, roles=roles)
    assert made
    assert all(roles._derived[name] is one for name, one in made.items())


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, True),
        ({"device": "cpu"}, False),
        ({"dtype": torch.float64}, False),
        ({"head_dim": 60}, True),
        ({"head_dim": 512}, False),
    ],
    ids=str,
)
def test_why_not(change: dict[str, Any], taken: bool) -> None:
    device, dtype = torch.device(change.get("device", "cuda")), change.get("dtype", torch.bfloat16)
    assert (attention_triton.why_not(device, dtype, change.get("head_dim", 64)) is None) is taken


def prove() -> bool:
    kernel_proof._prove_once.cache_clear()
    try:
        return kernel_proof.why_not_proven(DEVICE, torch.float32, 16) is None
    finally:
        kernel_proof._prove_once.cache_clear()


def test_proof_passes(caplog: pytest.LogCaptureFixture) -> None:
    with torch.inference_mode():
        assert prove()
    assert not caplog.records


def wrong_window(*projections: torch.Tensor, pattern: WindowPattern, **settings: Any) -> torch.Tensor:
    wider = WindowPattern(pattern.attention_window + 2, pattern.attention_dilation, pattern.is_causal)
    return local_rows(*projections, pattern=wider, **settings)


def no_gradients(query: torch.Tensor, *others: torch.Tensor, **settings: Any) -> torch.Tensor:
    return local_rows(query, *others, **settings).detach() + 0 * sum(x.sum() for x in (query, *others))


def forgotten_key(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **settings: Any) -> torch.Tensor:
    """In texts of several blocks alone, a weight that is not the others'."""
    changed = value.clone()
    changed[:, :, 600:601] *= 1.5
    return local_rows(query, key, changed, **settings)


def others_dropped(*projections: torch.Tensor, bits: torch.Tensor | None = None, **settings: Any) -> torch.Tensor:
    return local_rows(*projections, bits=None if bits is None else bits.flip(-1), **settings)


def taken_for_one_text(*projections: torch.Tensor, roles: TokenRoles, **settings: Any) -> torch.Tensor:
    if isinstance(roles, PackedTexts):
        roles = TokenRoles(None, roles.global_tokens)
    return local_rows(*projections, roles=roles, **settings)


def no_compiler(*_: torch.Tensor, **__: Any) -> torch.Tensor:
    raise ValueError("no compiler for this device")


@pytest.mark.parametrize(
    ("attend", "message"),
    [
        *((attend, "differs by") for attend in (wrong_window, no_gradients)),
        *(
            pytest.param(attend, "differs by", marks=SLOW)
            for attend in (forgotten_key, others_dropped, taken_for_one_text)
        ),
        (no_compiler, "no compiler for this device"),
    ],
)
def test_proof_finds_what_is_wrong(attend: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(kernel_proof.logger, "warning", lambda text, *given: said.append(text % given))
    monkeypatch.setattr(kernel_proof, "local_rows_by_triton", attend)
    assert not prove()
    assert len(said) == 1
    assert message in said[0]
    assert "blocked path" in said[0]


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


@pytest.mark.parametrize("globals_", [pytest.param("none", marks=SLOW), pytest.param("first", marks=SLOW), "ragged"])
@pytest.mark.parametrize("kind", SPANS)
@pytest.mark.parametrize(
    "fields", [{}, pytest.param({"attention_dilation": [[1, 2, 3], [1, 1, 1]]}, marks=SLOW)], ids=str
)
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


def test_packed_texts_are_not_taken_for_one_text(kernels_everywhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a layer compute in a dtype that nobody expected, and for which there are no kernels."""
    model = randomise(HfLongformerModel(tiny_config(num_hidden_layers=1))).to(DEVICE)
    monkeypatch.setattr(dispatch, "why_not_triton", lambda *_: "none for a test")
    monkeypatch.setattr(unpadding_hf_longformer, "has_kernels", lambda *_: True)
    mask = torch.tensor([[1] * 9, [1] * 4 + [0] * 5], device=DEVICE)
    with pytest.raises(RuntimeError, match=r"needs kernels for torch\.float32"):
        model(torch.randint(5, 99, (2, 9), device=DEVICE), attention_mask=mask)


# Bytes of shared memory that a block may have, as CUDA's programming guide gives them by compute capability.
HOPPER, A100, CONSUMER = 232_448, 166_912, 101_376


def test_sizes_of_blocks_fit_every_card() -> None:
    """Where there is room the best, on consumer cards (8.6, 8.9, 12.0) what fits."""
    for kernel, by_bytes in attention_triton.SIZES.items():
        assert list(by_bytes) == [128, 256, 512, 1024]
        for bytes_of_row, choices in by_bytes.items():
            best = choices[0][:4]
            for limit in (HOPPER, A100, float("inf")):
                assert attention_triton.sizes_of(kernel, bytes_of_row, limit) == best
            chosen = attention_triton.sizes_of(kernel, bytes_of_row, CONSUMER)
            (takes,) = (choice[-1] for choice in choices if choice[:4] == chosen)
            assert takes <= CONSUMER, (kernel, bytes_of_row)
            assert attention_triton.sizes_of(kernel, bytes_of_row, 0) == choices[-1][:4]
    of_float32 = attention_triton.SIZES["backward_rows"][1024]
    assert attention_triton.sizes_of("backward_rows", 1024, CONSUMER) == of_float32[1][:4] != of_float32[0][:4]


def test_what_a_card_has_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def properties(device: torch.device) -> Any:
        asked.append(device)
        return SimpleNamespace(shared_memory_per_block_optin=CONSUMER)

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    attention_triton._shared_memory.cache_clear()
    device = torch.device("cuda", 0)
    assert [attention_triton._shared_memory(device) for _ in range(2)] == [CONSUMER] * 2
    assert asked == [device]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace())
    attention_triton._shared_memory.cache_clear()
    assert attention_triton._shared_memory(device) == float("inf")
    attention_triton._shared_memory.cache_clear()


@pytest.mark.parametrize("head_dim", [128, 256])
def test_smaller_blocks_give_the_same(head_dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As consumer cards take them, with heads for which the best ones have no room there."""
    case = Case(50, 16, globals_="one", padding="right")
    tensors = [x.repeat_interleave(head_dim // 4, dim=-1).float().to(DEVICE) for x in random_projections(case)[:3]]
    results = []
    for limit in (HOPPER, CONSUMER):
        monkeypatch.setattr(attention_triton, "_shared_memory", lambda _, limit=limit: limit)
        leaves = [x.clone().requires_grad_() for x in tensors]
        output = local_rows(*leaves, pattern=case.pattern, roles=roles_of(case).to(DEVICE))
        results.append((output.detach(), *torch.autograd.grad(output.sin().sum(), leaves)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Triton's compilers")
def test_shared_memory_is_what_triton_compiles() -> None:
    """Of the largest rows, for a consumer card; `measure_shared_memory.py` has all."""
    script = Path(__file__).with_name("measure_shared_memory.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    found = subprocess.run(
        [sys.executable, str(script), "1024", "86"], env=environment, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(lines) == 8
    for line in lines:
        assert line["takes"]["86"] <= line["sizes"][-1], line
