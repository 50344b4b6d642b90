"""Figures of `inspect --html`: plain data in, a matplotlib Figure out, in the report's one style.

Each is as wide as a telephone's page, so that its words are read there without scaling.
"""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lcm_scale.atlas import Atlas, square
from lcm_scale.report.style import INK, MODEL, MUTED, OTHERS, style

WIDTH = 3.7  # inches: 355 pixels
MOST_BARS = 40
STRONGEST = 0.01  # share of the edges that a brain shows
COLOURS = (MODEL, OTHERS[1], OTHERS[3], OTHERS[2], OTHERS[0], "#c2185b")
LONGEST = 18  # characters of a name beside a bar


def bars(counts: Mapping[str, Mapping[str, int]], label: str) -> Figure:
    """Stacked bars: name -> part -> how many, in the order given; the smallest of too many are one
    bar."""
    named = list(counts.items())
    if len(named) > MOST_BARS:
        rest: dict[str, int] = {}
        for _, parts in named[MOST_BARS - 1 :]:
            for part, n in parts.items():
                rest[part] = rest.get(part, 0) + n
        named = [*named[: MOST_BARS - 1], (f"{len(named) - MOST_BARS + 1} others", rest)]
    parts_of = list(dict.fromkeys(part for _, parts in named for part in parts))
    rows = 1 + (len(parts_of) - 1) // 3 if len(parts_of) > 1 else 0
    with style():
        figure = Figure(figsize=(WIDTH, 0.75 + 0.21 * len(named) + 0.22 * rows))
        axes = figure.subplots()
        left = np.zeros(len(named))
        for place, part in enumerate(parts_of):
            widths = np.array([parts.get(part, 0) for _, parts in named], float)
            colour = COLOURS[place % len(COLOURS)]
            axes.barh(range(len(named)), widths, 0.72, left, color=colour, label=_short(part))
            left += widths
        for y, total in enumerate(left):
            axes.annotate(
                f"{int(total)}",
                (total, y),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=MUTED,
            )
        axes.set_yticks(range(len(named)), [_short(name) for name, _ in named], fontsize=8)
        axes.set_ylim(len(named) - 0.4, -0.6)
        axes.set_xlim(0, max(left.max(), 1) * 1.14)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(label)
        if rows:
            figure.legend(loc="outside upper left", ncols=3, fontsize=8, handlelength=1)
    return figure


def ages(values: Mapping[str, np.ndarray], label: str) -> Figure:
    """A histogram, stacked by sex.  Args: values: sex -> what is known."""
    everything = np.concatenate(list(values.values()))
    edges = np.histogram_bin_edges(everything, bins=min(24, max(4, len(everything) // 8)))
    with style():
        figure = Figure(figsize=(WIDTH, 2.5))
        axes = figure.subplots()
        axes.hist(
            list(values.values()),
            list(edges),
            stacked=True,
            color=[COLOURS[i % len(COLOURS)] for i in range(len(values))],
            label=list(values),
        )
        axes.set(xlabel=label, ylabel="Scans")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        figure.legend(loc="outside upper left", ncols=3, fontsize=8, handlelength=1)
    return figure


def motion(mean_fd: np.ndarray, mean_fc: np.ndarray) -> Figure:
    """A scan a point, and the straight line through them."""
    with style():
        figure = Figure(figsize=(WIDTH, 2.8))
        axes = figure.subplots()
        axes.plot(mean_fd, mean_fc, "o", color=MODEL, ms=3, alpha=0.4, mew=0)
        if np.ptp(mean_fd) > 0:
            slope, height = np.polyfit(mean_fd, mean_fc, 1)
            ends = np.array([mean_fd.min(), mean_fd.max()])
            axes.plot(ends, slope * ends + height, color=OTHERS[1], lw=2)
        axes.set(xlabel="Mean framewise displacement, mm", ylabel="Mean of the edges")
        axes.grid()
    return figure


def outliers(z: np.ndarray, far: float) -> Figure:
    """Distances from the cohort's mean, in robust standard deviations; those beyond `far` in
    orange."""
    known = z[np.isfinite(z)]
    edges = np.histogram_bin_edges(known, bins=min(40, max(6, len(known) // 10)))
    with style():
        figure = Figure(figsize=(WIDTH, 2.5))
        axes = figure.subplots()
        for colour, part in ((MODEL, known[known <= far]), (OTHERS[1], known[known > far])):
            axes.hist(part, list(edges), color=colour)
        axes.axvline(far, color=MUTED, lw=1, ls=(0, (4, 3)))
        axes.set(xlabel="Robust standard deviations", ylabel="Scans", yscale="symlog")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:g}"))
    return figure


def matrix(edges: np.ndarray, atlas: Atlas, limit: float) -> Figure:
    """A matrix (R, R) of edges (E,), regions in the order of their networks where these are
    known."""
    values = square(edges, atlas.n_regions)
    order = np.arange(atlas.n_regions)
    with style():
        figure = Figure(figsize=(WIDTH, 3.1))
        axes = figure.subplots()
        if atlas.networks:
            order = np.array(sorted(order, key=lambda i: (atlas.networks[i], i)))
        image = axes.imshow(values[np.ix_(order, order)], cmap="RdBu_r", vmin=-limit, vmax=limit)
        figure.colorbar(image, ax=axes, shrink=0.8)
        axes.set_xticks([])
        axes.set_yticks([])
        if atlas.networks:
            names = [atlas.networks[i] for i in order]
            starts = [i for i, name in enumerate(names) if not i or names[i - 1] != name]
            middles = [np.mean([i for i, n in enumerate(names) if n == names[s]]) for s in starts]
            for start in starts[1:]:
                axes.axhline(start - 0.5, color=INK, lw=0.4)
                axes.axvline(start - 0.5, color=INK, lw=0.4)
            if len(starts) <= 20:
                axes.set_yticks(middles, [_short(names[s] or "none") for s in starts], fontsize=7)
                axes.tick_params(axis="y", length=0)
    return figure


def can_draw_brains(atlas: Atlas) -> bool:
    """Whether regions have places and nilearn is there."""
    return bool(atlas.coordinates) and importlib.util.find_spec("nilearn") is not None


def brain(edges: np.ndarray, atlas: Atlas, limit: float, views: str) -> Figure:
    """The strongest edges (E,) on a glass brain.

    Args: limit: of the colours.   views: as nilearn's display_mode.
    """
    from nilearn.plotting import plot_connectome  # seconds, for brains alone

    shown = max(1, round(STRONGEST * len(edges)))
    threshold = float(np.sort(np.abs(edges))[-shown])
    size = (WIDTH, 1.55) if len(views) > 1 else (1.75, 2.0)
    with style(), matplotlib.rc_context({"figure.constrained_layout.use": False}):
        figure = Figure(figsize=size)
        plot_connectome(
            np.where(np.abs(whole := square(edges, atlas.n_regions)) >= threshold, whole, 0.0),
            np.array(atlas.coordinates),
            node_color="#5f6b77",
            node_size=2,
            edge_cmap="RdBu_r",
            edge_vmin=-limit,
            edge_vmax=limit,
            display_mode=views,
            figure=figure,
            axes=(0, 0, 1, 1),
            annotate=False,
            edge_kwargs={"linewidth": 0.9},
            colorbar=False,
        )
    return figure


def limit_of(means: Sequence[np.ndarray]) -> float:
    """What the darkest colour stands for, one for figures that are compared."""
    together = np.abs(np.concatenate(means)) if means else np.ones(1)
    return max(float(np.quantile(together, 0.998)), 1e-3)


def _short(name: str) -> str:
    return textwrap.shorten(name, LONGEST, placeholder="…") if " " in name else _cut(name)


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
