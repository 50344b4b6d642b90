"""Values with their intervals, one below the other, as in a meta-analysis: a model and its
baselines, or differences from zero.

Name and value stand above their interval, so that no line runs through a word, whatever the width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from lcm_scale.evaluation.metrics import Metric
from lcm_scale.report import style

ROW, FRAME = 0.43, 0.72  # inches of a row, and of a panel's axis, label and title
TRACK = (-0.02, 0.36)  # of a row's height, where the interval lies; above it stand the words


@dataclass(frozen=True)
class Line:
    """A row.

    Attributes:
        text: the value in words.   filled: its mark is; hollow marks are the lesser ones.
        ticks: single values below the interval, one a seed.
    """

    name: str
    metric: Metric
    text: str
    colour: str
    marker: str
    filled: bool
    ticks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Panel:
    """Rows that share an axis.  Attributes: at: where a dashed line stands, None for nowhere."""

    lines: Sequence[Line]
    label: str
    at: float | None
    title: str = ""


def forest(panels: Sequence[Panel]) -> Figure:
    """Panels below each other, each with an axis of its own."""
    heights = [FRAME + ROW * len(panel.lines) for panel in panels]
    with style.style():
        figure = Figure(figsize=(style.WIDTH, sum(heights) + 0.1))
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for ax, panel in zip(axes, panels, strict=True):
            _draw(ax, panel)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    low, high = _limits(panel)
    axes.set_xlim(low, high)
    axes.set_ylim(len(panel.lines) - 0.5, -0.62)
    for y, line in enumerate(panel.lines):
        track = Rectangle((low, y + TRACK[0]), high - low, TRACK[1] - TRACK[0])
        track.set(facecolor=style.SOFT, edgecolor="none", zorder=0)
        axes.add_patch(track)
        if panel.at is not None and np.isfinite(panel.at):
            axes.plot(
                [panel.at] * 2, [y + t for t in TRACK], color=style.MUTED, lw=1, ls=(0, (2, 2))
            )
        _line(axes, y, line)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(panel.label)
    axes.set_title(panel.title)


def _limits(panel: Panel) -> tuple[float, float]:
    """All intervals, ticks and the dashed line, with a margin."""
    ends = [v for line in panel.lines for v in (line.metric.low, line.metric.high, *line.ticks)]
    ends += [line.metric.value for line in panel.lines]
    ends += [] if panel.at is None else [panel.at]
    known = [v for v in ends if np.isfinite(v)] or [0.0, 1.0]
    low, high = min(known), max(known)
    margin = 0.04 * (high - low) or 0.04 * abs(high) or 1.0
    return low - margin, high + margin


def _line(axes: Axes, y: int, line: Line) -> None:
    middle = y + sum(TRACK) / 2
    ends = [line.metric.low, line.metric.high]
    width = 3.2 if line.filled else 2.2
    axes.plot(ends, [middle] * 2, color=line.colour, lw=width, alpha=0.5, solid_capstyle="round")
    fill = line.colour if line.filled else "white"
    value = line.metric.value
    axes.plot(value, middle, line.marker, color=line.colour, ms=6.5, mfc=fill, mew=1.6)
    below = [y + TRACK[1] - 0.05] * len(line.ticks)
    axes.plot(line.ticks, below, "|", color=line.colour, ms=4, alpha=0.7)
    weight = "bold" if line.filled else "normal"
    top = y + TRACK[0] - 0.05
    sides = ((0, line.name, style.INK, "left"), (1, line.text, line.colour, "right"))
    for x, text, colour, align in sides:
        axes.text(
            x,
            top,
            text,
            transform=axes.get_yaxis_transform(),
            va="bottom",
            ha=align,
            fontsize=8.5,
            color=colour,
            weight=weight,
        )
