# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.drawing`: the pictures show the mask that the code runs."""

from pathlib import Path

import pytest
import torch

from hf_longformer import WindowPattern
from hf_longformer.drawing import GLOBAL, LOCAL, NOTHING, _colours, draw_patterns, figure_2_panels

LENGTH = 12


def test_figure_2_panels_are_the_four_of_the_paper() -> None:
    panels = figure_2_panels(LENGTH, 4, 1, [0])
    full, sliding, dilated, mixed = panels.values()
    assert full[0].dense_mask(LENGTH).all()
    assert sliding == (WindowPattern(4), ())
    assert dilated == (WindowPattern(4, 2), ())
    assert mixed == (WindowPattern(4), [0])


@pytest.mark.parametrize("is_causal", [False, True])
def test_draw_patterns_draws_the_dense_mask(is_causal: bool, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="drawing needs matplotlib")
    from matplotlib.image import imread

    pattern = WindowPattern(4, 2, is_causal)
    draw_patterns({"one": (pattern, [3])}, LENGTH, tmp_path / "one.png")
    image = torch.tensor(imread(tmp_path / "one.png")[:, :, :3])
    coloured = ((image - torch.tensor(LOCAL)).abs().amax(-1) < 0.01) | (
        (image - torch.tensor(GLOBAL)).abs().amax(-1) < 0.01
    )
    rows, columns = coloured.any(1).nonzero().flatten(), coloured.any(0).nonzero().flatten()
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    is_global = torch.arange(LENGTH)[None] == 3
    expected = pattern.dense_mask(LENGTH, is_global)[0, 0]
    for i in range(LENGTH):
        for j in range(LENGTH):
            y = top + int((i + 0.5) * (bottom - top) / LENGTH)
            x = left + int((j + 0.5) * (right - left) / LENGTH)
            colour = NOTHING if not expected[i, j] else GLOBAL if 3 in (i, j) else LOCAL
            assert torch.allclose(image[y, x], torch.tensor(colour), atol=0.01), (i, j)


def test_draw_curves_gives_every_peer_a_colour_of_its_own() -> None:
    colours = _colours([*"abcdefghijkl", "a"])
    assert list(colours) == list("abcdefghijkl")
    assert len(set(colours.values())) == 12
