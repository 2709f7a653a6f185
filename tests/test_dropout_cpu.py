# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.dropout_cpu`: what is dropped, how much, and the same again in the backward pass."""

import pytest
import torch
from helpers import DTYPES
from torch import nn
from torch.utils.checkpoint import checkpoint

from hf_longformer import dropout_cpu
from hf_longformer.dropout_cpu import Draw, Dropout


@pytest.fixture(params=["few", "many"], autouse=True)
def numbers_to_drop(request: pytest.FixtureRequest):
    """Few are left to PyTorch's own dropout."""
    if request.param == "many":
        request.getfixturevalue("nothing_is_small")


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", DTYPES)
def test_share_and_scale(dtype: str, probability: float):
    torch.manual_seed(0)
    ones = torch.ones(301, 1003, dtype=DTYPES[dtype])
    dropped = Dropout(probability)(ones)
    share, standard_error = (dropped == 0).double().mean().item(), (probability * (1 - probability) / 301903) ** 0.5
    assert abs(share - probability) < 4 * standard_error
    values = dropped.unique()
    assert len(values) == 2
    assert values[1].item() == pytest.approx(1 / (1 - probability), rel=torch.finfo(DTYPES[dtype]).eps + 3e-4)
    neighbours = ((dropped[:, 1:] == 0) & (dropped[:, :-1] == 0)).double().mean().item()
    assert abs(neighbours - probability**2) < 5 * probability * (3e5**-0.5)  # drawn one by one


def test_gradients_pass_where_numbers_do():
    torch.manual_seed(0)
    dropout, numbers = Dropout(0.3), torch.randn(7, 5, 11, dtype=torch.float64, requires_grad=True)
    output = dropout(numbers)
    factor = output / numbers
    probe = torch.randn_like(output)
    (gradient,) = torch.autograd.grad(output, numbers, probe, create_graph=True)
    torch.testing.assert_close(gradient, factor.detach() * probe)
    again = dropout(numbers)
    assert not torch.equal(again == 0, output == 0)
    squared = dropout(numbers).pow(2)
    torch.testing.assert_close(torch.autograd.grad(squared.sum(), numbers)[0] * numbers, 2 * squared)


def test_second_gradients():
    def run(numbers: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return Dropout(0.4)(numbers.sin())

    numbers = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, numbers)
    assert torch.autograd.gradgradcheck(run, numbers)


def test_follows_the_seed_and_checkpoints():
    numbers = torch.randn(50, 50)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(Dropout(0.5)(numbers))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    leaf = numbers.clone().requires_grad_()
    output = checkpoint(Dropout(0.5), leaf, use_reentrant=False)
    output.sum().backward()
    assert torch.equal(leaf.grad == 0, output == 0)


@pytest.mark.usefixtures("nothing_is_small")
def test_keeps_no_mask():
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        Dropout(0.5)(torch.randn(10, requires_grad=True))
    assert kept == []


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_all_or_nothing_is_left_to_pytorch(probability: float):
    ones = torch.ones(4, 4)
    assert torch.equal(Dropout(probability)(ones), nn.Dropout(probability)(ones))


def test_evaluation_changes_nothing():
    ones = torch.ones(4, 4)
    assert Dropout(0.5).eval()(ones) is ones
    assert isinstance(Dropout(0.5), nn.Dropout)  # tools look for these


@pytest.mark.usefixtures("nothing_is_small")
def test_strided_tensors_are_dropped_in_order():
    numbers = torch.randn(6, 4, 10).transpose(0, 2)
    torch.manual_seed(0)
    strided = Dropout(0.5)(numbers)
    torch.manual_seed(0)
    assert torch.equal(strided, Dropout(0.5)(numbers.contiguous()))


def test_draw_drops_nothing_that_it_cannot_count():
    ones = torch.ones(100)
    assert torch.equal(Draw(0, 1e-6)(ones), torch.ones(100))
    assert Draw(0, 1e-6).scale == 1.0
    assert Draw(0, 1 - 1e-9).scale == 2**15


def test_draw_gives_every_value_as_often():
    """15 of the 16 bits of every half are used, here as 4,096 values of 12 bits: chi-squared, and the lower 12 too."""
    drawn = Draw(5, 0.1).draw(2**19).view(torch.int16).int() & 0x7FFF
    for values in (drawn >> 3, drawn & 0xFFF):
        expected = len(values) / 4096
        chi_squared = (values.bincount(minlength=4096) - expected).pow(2).sum().item() / expected
        assert abs(chi_squared - 4095) < 4 * (2 * 4095) ** 0.5


@pytest.mark.parametrize("lag", [1, 2, 64, 577, 640, 4096])
def test_draw_is_not_correlated(lag: int):
    """Not with what is drawn `lag` numbers later, nor with the next draw, nor with that of the next seed."""
    draw, n = Draw(0, 0.1), 2**19
    first, second = (draw(torch.ones(n)).double() - 0.9 for _ in range(2))
    other = Draw(1, 0.1)(torch.ones(n)).double() - 0.9
    for one, two in ((first[lag:], first[:-lag]), (first, second), (first[lag:], second[:-lag]), (first, other)):
        assert abs((one * two).mean().item()) / 0.09 < 4.5 * n**-0.5


def test_draw_takes_one_piece_after_the_other(monkeypatch: pytest.MonkeyPatch):
    """No piece is drawn like another one, nor are the sizes of pieces seen in what is kept."""
    monkeypatch.setattr(dropout_cpu, "PIECE", 1000)
    kept = Draw(0, 0.5)(torch.ones(5500))
    pieces = kept[:5000].view(5, 1000)
    assert len({tuple(piece.tolist()) for piece in pieces}) == 5
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert abs(kept[5000:].mean().item() - 0.5) < 0.1
