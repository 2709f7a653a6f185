# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of attention patterns, drawn from the mask that the code runs, and of measurements. Needs matplotlib."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Any

import torch

from .window_pattern import WindowPattern

NOTHING, GLOBAL, LOCAL = (1.0, 1.0, 1.0), (0.96, 0.65, 0.14), (0.22, 0.49, 0.72)
GRID = (0.88, 0.88, 0.88)


def figure_2_panels(
    length: int,
    attention_window: int,
    attention_dilation: int,
    global_positions: Sequence[int],
    is_causal: bool = False,
) -> dict[str, tuple[WindowPattern, Sequence[int]]]:
    """The four panels of the paper's figure 2 (arXiv 2004.05150): title to pattern and global positions.

    Args:
        length: Tokens drawn.
        attention_window: Total width of the window in tokens.
        attention_dilation: Of the dilated panel; 2 if it is 1, so that there are gaps to see.
        global_positions: Of the last panel.
        is_causal: Whether to draw the causal form.
    """
    dilation = max(2, attention_dilation)
    sliding = WindowPattern(attention_window, 1, is_causal)
    return {
        "full n² attention": (WindowPattern(2 * length, 1, is_causal), ()),
        f"sliding window, {attention_window}": (sliding, ()),
        f"dilated sliding window, dilation {dilation}": (
            WindowPattern(attention_window, dilation, is_causal),
            (),
        ),
        "global + sliding window": (sliding, global_positions),
    }


def draw_patterns(
    panels: dict[str, tuple[WindowPattern, Sequence[int]]], length: int, file: str | Path, dots_per_inch: int = 150
) -> None:
    """Draws patterns side by side as PNG: rows are queries, columns are keys, blue local, orange global attention.

    Args:
        panels: Title to pattern and positions of global tokens; the first head is drawn.
        length: Tokens drawn.
        file: The PNG file to write.
        dots_per_inch: Resolution.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If a global position is outside the text.
    """
    figure = _figure(3.2 * len(panels), 3.7)
    for axes, (title, (pattern, positions)) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        axes.imshow(_picture(pattern, length, positions).numpy(), interpolation="nearest")
        axes.set_xticks([x - 0.5 for x in range(1, length)], minor=True)
        axes.set_yticks([y - 0.5 for y in range(1, length)], minor=True)
        axes.grid(which="minor", color=GRID, linewidth=0.4 if length <= 64 else 0.0)
        axes.tick_params(which="both", bottom=False, left=False, labelbottom=False, labelleft=False)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("keys", fontsize=8)
        axes.set_ylabel("queries", fontsize=8)
    figure.savefig(file, dpi=dots_per_inch)


@dataclass(frozen=True)
class Curves:
    """What one panel of measurements shows.

    Args:
        x_label, y_label: Of the axes, with units.
        points: Name to its points `(x, y)`, all positive.
        is_log: Whether the vertical axis is logarithmic; otherwise it begins at 0.
    """

    x_label: str
    y_label: str
    points: Mapping[str, Sequence[tuple[float, float]]]
    is_log: bool = True


def draw_curves(panels: Mapping[str, Curves], file: str | Path, dots_per_inch: int = 110) -> None:
    """Draws measurements as PNG, two panels in a row; a name has one colour everywhere.

    Args:
        panels: Title to what it shows.
        file: The PNG file to write.
        dots_per_inch: Resolution.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    rows = -(-len(panels) // 2)
    figure = _figure(11.0, 3.6 * rows)
    colours = _colours(name for curves in panels.values() for name in curves.points)
    places = figure.subplots(rows, 2, squeeze=False).flatten()
    for axes, (title, curves) in zip(places, panels.items(), strict=False):
        for name, points in curves.points.items():
            x, y = zip(*points, strict=True)
            axes.plot(x, y, marker="o", markersize=4, label=name, color=colours[name])
        axes.set_xscale("log", base=2)
        if curves.is_log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:,.10g}")
        else:
            axes.set_ylim(bottom=0)
        ticks = sorted({x for points in curves.points.values() for x, _ in points})
        axes.set_xticks(ticks, [f"{x:,}" for x in ticks], fontsize=8)
        axes.grid(which="major", color=GRID)
        axes.set_title(title, fontsize=8)
        axes.set_xlabel(curves.x_label, fontsize=8)
        axes.set_ylabel(curves.y_label, fontsize=8)
        axes.legend(fontsize=7)
    for axes in places[len(panels) :]:
        axes.remove()
    figure.savefig(file, dpi=dots_per_inch)


def draw_heat_maps(
    panels: Mapping[str, Sequence[Sequence[float | None]]],
    columns: Sequence[str],
    rows: Sequence[str],
    labels: tuple[str, str],
    file: str | Path,
    dots_per_inch: int = 110,
) -> None:
    """Draws tables of percentages side by side as PNG, with their numbers.

    Args:
        panels: Title to its rows of numbers from 0 to 100; None for what is not known.
        columns, rows: What they are called.
        labels: Of the horizontal and of the vertical axis.
        file: The PNG file to write.
        dots_per_inch: Resolution.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure = _figure(1.2 + 0.62 * len(columns) * len(panels), 1.3 + 0.36 * len(rows))
    for number, (axes, (title, values)) in enumerate(
        zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True)
    ):
        shown = [[math.nan if value is None else value for value in row] for row in values]
        axes.imshow(shown, vmin=0, vmax=100, cmap="RdYlGn", aspect="auto")
        for y, x in product(range(len(rows)), range(len(columns))):
            text = "–" if values[y][x] is None else f"{values[y][x]:.0f}"
            axes.text(x, y, text, ha="center", va="center", fontsize=8)
        axes.set_xticks(range(len(columns)), columns, fontsize=8)
        axes.set_yticks(range(len(rows)), rows if number == 0 else [""] * len(rows), fontsize=8)
        axes.tick_params(length=0)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(labels[0], fontsize=8)
        if number == 0:
            axes.set_ylabel(labels[1], fontsize=8)
    figure.savefig(file, dpi=dots_per_inch)


def _colours(names: Iterable[str]) -> dict[str, Any]:
    """A colour for every name, twenty before one comes again."""
    from matplotlib import colormaps

    tab20: Any = colormaps["tab20"]
    twenty = tab20.colors  # dark and light in turns
    return dict(zip(dict.fromkeys(names), cycle([*twenty[::2], *twenty[1::2]]), strict=False))


def _figure(width: float, height: float) -> Any:
    """An empty figure of so many inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing needs matplotlib: pip install 'hf-longformer[draw]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _picture(pattern: WindowPattern, length: int, positions: Sequence[int]) -> torch.Tensor:
    """`(length, length, 3)`, colours."""
    if outside := [position for position in positions if not 0 <= position < length]:
        raise ValueError(f"global positions must lie in 0 … {length - 1}, got {outside}")
    is_global = torch.zeros(1, length, dtype=torch.bool)
    is_global[0, list(positions)] = True
    attended = pattern.dense_mask(length, is_global)[0, 0]
    by_global = attended & (is_global[0][:, None] | is_global[0][None, :])
    colours = torch.tensor([NOTHING, LOCAL, GLOBAL])
    return colours[attended.long() + by_global.long()]
