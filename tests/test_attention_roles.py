# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`attention_roles`, and `longformer_attention` that is told how many tokens are global or given their roles: the same
results, and nothing that the host waits for.
"""

from collections import Counter
from typing import Any

import pytest
import torch
from helpers import GLOBALS, PADDINGS, Case, keywords, pairwise_cases, random_projections, run_with_gradients
from torch.utils._python_dispatch import TorchDispatchMode

from hf_longformer import attention_roles, attention_triton, dispatch, longformer_attention, masks

CASES = pairwise_cases(
    length=[7, 65, 130], window=[2, 64], dilation=[1, (1, 1, 4)], globals_=GLOBALS, padding=PADDINGS, is_causal=[0, 1]
)
SETTINGS: dict[str, Any] = {"attention_window": 8}
MARKED = torch.tensor([[1, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0]])
REAL = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])


def split(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Masks, and the rest."""
    names = ("attention_mask", "global_attention_mask")
    return {name: settings[name] for name in names}, {k: v for k, v in settings.items() if k not in names}


def number_of(masks_of_case: dict[str, Any]) -> int:
    marked = masks_of_case["global_attention_mask"]
    return 0 if marked is None else int(marked.sum(dim=1).max())


@pytest.mark.parametrize("reads", [True, False], ids=["counted", "promised"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa", "blocked"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_roles_and_numbers_change_nothing(
    case: Case, implementation: str, reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs and gradients are those of masks; where nothing is read, one more global token may be promised."""
    given, settings = split(keywords(case, attn_implementation=implementation))
    number = number_of(given)
    if not reads:
        monkeypatch.setattr(masks, "READ_FOR_NOTHING", ())
        monkeypatch.setattr(masks, "ASSERTING", ("cpu",))
        number = min(number + 1, case.length) if number else 0
    roles = attention_roles(**given, num_global_tokens=number)
    tensors = random_projections(case)

    def run(**options: Any) -> dict[str, torch.Tensor]:
        def attend(_: Case, *projections: torch.Tensor) -> torch.Tensor:
            of_global = dict(zip(("query_global", "key_global", "value_global"), projections[3:], strict=True))
            return longformer_attention(*projections[:3], **of_global, **settings, **options)

        return run_with_gradients(attend, case, tensors, torch.float64)

    expected = run(**given)
    for options in ({"roles": roles}, {"roles": roles}, {**given, "num_global_tokens": number}):
        for name, found in run(**options).items():
            torch.testing.assert_close(found, expected[name], rtol=1e-12, atol=1e-12, msg=name)


def test_roles_made_for_inference_serve_training() -> None:
    query, key, value = torch.randn(3, 2, 3, 6, 4)
    with torch.inference_mode():
        roles = attention_roles(REAL.bool(), MARKED.bool())
        expected = longformer_attention(query, key, value, roles=roles, **SETTINGS)
    leaf = query.clone().requires_grad_()
    output = longformer_attention(leaf, key, value, roles=roles, **SETTINGS)
    output.sum().backward()
    torch.testing.assert_close(output, expected)
    assert leaf.grad.abs().max() > 0


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(attention_triton, "DEVICES", ("cpu", "meta"))
    monkeypatch.setattr(dispatch, "why_not_proven", lambda *_: None)
    monkeypatch.setattr(masks, "READ_FOR_NOTHING", ())


@pytest.mark.parametrize("is_padded", [False, True], ids=["whole", "padded"])
def test_kernels_with_a_promised_number(kernels: None, is_padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Triton's interpreter runs them."""
    if torch.cuda.is_available():
        pytest.skip("test_longformer_attention.py and gpu_check.sh run them on the device")
    given = {"global_attention_mask": MARKED, "attention_mask": REAL if is_padded else None}
    leaves = [x.requires_grad_() for x in torch.randn(3, 2, 3, 6, 16)]
    results = []
    for options in ({**given}, {**given, "num_global_tokens": 3}, {"roles": attention_roles(**given)}):
        name = "eager" if not results else "triton"
        output = longformer_attention(*leaves, attn_implementation=name, **options, **SETTINGS)
        gradients = torch.autograd.grad(output.sin().sum(), leaves)
        results.append((output.detach(), *gradients))
    for found in results[1:]:
        torch.testing.assert_close(found, results[0], rtol=1e-4, atol=1e-5)


class Operators(TorchDispatchMode):
    """Counts what PyTorch computes, without views and empty memory."""

    FREE = ("view", "transpose", "detach", "expand", "unsqueeze", "slice", "unbind", "select", "empty")

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operator.name().removeprefix("aten::").partition(".")[0]
        if not any(word in name for word in self.FREE):
            self.counts[name] += 1
        return operator(*args, **(kwargs or {}))


def attend_on_no_device(monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Counter[str], list[str]]:
    """Operators of a forward and a backward pass on tensors without memory, where whoever reads a number fails; and the
    kernels that were started.
    """
    started: list[str] = []
    launch = lambda plan, kernel, grid, **tensors: started.append(kernel.fn.__name__)  # noqa: E731
    monkeypatch.setattr(attention_triton._Plan, "launch", launch)
    leaves = [torch.empty(2, 64, 3, 16, device="meta").transpose(1, 2).requires_grad_() for _ in range(3)]
    for _ in range(2):  # what is kept for later calls is there in the second
        started.clear()
        with Operators() as operators:
            output = longformer_attention(*leaves, attention_window=16, attn_implementation="triton", **options)
            torch.autograd.grad(output, leaves, torch.empty_like(output))
    return operators.counts, started


def test_the_host_waits_for_nothing(kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks alone have to be read, for which such tensors have nothing."""
    real, marked = (torch.zeros(2, 64, device="meta") for _ in range(2))
    given = {"attention_mask": real, "global_attention_mask": marked}
    with pytest.raises(Exception, match="meta"):
        attend_on_no_device(monkeypatch, **given)
    by_number, kernels_of_number = attend_on_no_device(monkeypatch, **given, num_global_tokens=1)
    roles = attention_roles(**given, num_global_tokens=1)
    by_roles, kernels_of_roles = attend_on_no_device(monkeypatch, roles=roles)
    assert (
        kernels_of_number
        == kernels_of_roles
        == [
            *("forward_rows", "backward_rows", "backward_keys", "backward_global"),
        ]
    )
    assert sum(by_roles.values()) < sum(by_number.values())
    # Nothing of what is worked out of masks alone is worked out again.
    assert not {"topk", "arange", "sum", "argmax", "ne", "bitwise_or"} & by_roles.keys() - {"sum"}
    assert by_roles["sum"] == 1  # of the gradients of global keys


def test_without_global_tokens_there_are_kernels_alone(kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({}, {"roles": attention_roles()}, {"num_global_tokens": 0}):
        counts, started = attend_on_no_device(monkeypatch, **options)
        assert not counts
        assert started == ["forward_rows", "backward_rows", "backward_keys"]


def test_what_is_promised_wrongly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU in a sentence; by the device, which says less, where the host does not wait for it."""
    query = torch.randn(2, 3, 6, 4)
    wrong = (
        ({"global_attention_mask": MARKED, "num_global_tokens": 1}, "at most num_global_tokens=1 tokens .*got 2"),
        ({"global_attention_mask": 2 * MARKED, "num_global_tokens": 2}, "must hold 0 and 1"),
        ({"attention_mask": 1 - MARKED, "global_attention_mask": MARKED, "num_global_tokens": 2}, "a real token"),
    )
    for options, sentence in wrong:
        with pytest.raises(ValueError, match=sentence):
            longformer_attention(query, query, query, **options, **SETTINGS)
    monkeypatch.setattr(masks, "READ_FOR_NOTHING", ())
    monkeypatch.setattr(masks, "ASSERTING", ("cpu",))
    for options, _ in wrong:
        with pytest.raises(RuntimeError, match="masks must hold 0 and 1 only"):
            longformer_attention(query, query, query, **options, **SETTINGS)
        with pytest.raises(RuntimeError, match="masks must hold 0 and 1 only"):
            attention_roles(**options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_global_tokens": 1}, "num_global_tokens=1 needs global_attention_mask"),
        ({"num_global_tokens": -1}, "whole number from 0 on, got -1"),
        ({"num_global_tokens": True}, "whole number from 0 on, got True"),
        ({"num_global_tokens": 7, "global_attention_mask": MARKED}, "at most the length of texts, 6, got 7"),
        ({"roles": attention_roles(REAL, MARKED), "attention_mask": REAL}, "leave attention_mask"),
        ({"roles": attention_roles(REAL, MARKED), "num_global_tokens": 2}, "their number out"),
        ({"roles": attention_roles(REAL[:1])}, r"\(batch, S\) = \(2, 6\), got \(1, 6\)"),
        ({"roles": attention_roles(None, MARKED[:, :5])}, r"\(batch, S\) = \(2, 6\), got \(2, 5\)"),
        ({"roles": REAL}, "must be what attention_roles makes, got Tensor"),
        ({"roles": attention_roles(REAL).to("meta")}, r"roles must be on cpu, got meta: roles.to"),
    ],
)
def test_what_disagrees_is_refused(options: dict[str, Any], sentence: str) -> None:
    query = torch.randn(2, 3, 6, 4)
    with pytest.raises(ValueError, match=sentence):
        longformer_attention(query, query, query, **options, **SETTINGS)
    assert longformer_attention(query, query, query, roles=attention_roles(REAL, MARKED), **SETTINGS).shape == (
        query.shape
    )


def test_attention_roles_refuse() -> None:
    with pytest.raises(ValueError, match=r"shape \(batch, S\), got \(6,\)"):
        attention_roles(REAL[0])
    with pytest.raises(ValueError, match=r"global_attention_mask .*\(2, 6\), got \(1, 6\)"):
        attention_roles(REAL, MARKED[:1])
    with pytest.raises(ValueError, match="a real token, got 3 positions"):
        attention_roles(1 - MARKED[:, :1].expand(2, 6), MARKED)


def test_compile_of_roles_that_were_made_before() -> None:
    """One program for roles of the same kind; what it works out stays out of them."""
    compiled = torch.compile(longformer_attention, backend="aot_eager", fullgraph=True)
    query = torch.randn(2, 3, 6, 4, dtype=torch.float64)
    for marked in (MARKED, MARKED.flip(0), MARKED):
        roles = attention_roles(REAL.flip(1) | marked, marked, num_global_tokens=2)
        leaves = [x.clone().requires_grad_() for x in (query, query)]
        with torch._dynamo.config.patch(error_on_recompile=marked is not MARKED):
            output = compiled(leaves[0], query, query, roles=roles, **SETTINGS)
        expected = longformer_attention(leaves[1], query, query, roles=roles, **SETTINGS)
        for found in (output, expected):
            found.square().sum().backward()
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad)


def test_compile_with_a_promised_number() -> None:
    """The number of global tokens is one, and no part of the graph is worked out on the host."""
    marked = torch.zeros(2, 60)
    marked[:, 3] = 1
    compiled = torch.compile(longformer_attention, backend="aot_eager", fullgraph=True)
    query = torch.randn(2, 3, 60, 4, dtype=torch.float64)
    found = compiled(query, query, query, global_attention_mask=marked, num_global_tokens=1, **SETTINGS)
    expected = longformer_attention(query, query, query, global_attention_mask=marked, **SETTINGS)
    torch.testing.assert_close(found, expected)
