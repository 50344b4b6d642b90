"""Curves: losses by epoch, fold by fold, and a metric by the number of labelled people.

Plain rows in; out go a Figure and the rows that it shows, for the CSV beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from lcm_scale.evaluation.results import LabelPoint
from lcm_scale.report import style
from lcm_scale.report.wording import label as label_of

Row = Mapping[str, Any]
MOST_COLUMNS = 5
PANEL = (1.75, 1.55)  # inches
WIDE = 8  # times the least loss, from which on the axis is logarithmic
LINES = (  # column of a row -> name, colour, dashes
    ("train_loss", "training", style.OTHERS[0], (0, (4, 2))),
    ("val_loss", "validation", style.MODEL, "-"),
)


def learning_curves(rows: Sequence[Row], columns: int) -> Figure:
    """Training and validation loss by epoch: a panel a fold, a line a model, a dotted line where
    the phase changes, a ring at the epoch that was kept.

    Args:
        rows: ``fold`` (its name), ``model`` (1, 2 ... of a fold's repeats), ``epoch``, ``phase``,
            ``train_loss``, ``val_loss`` (missing: None), ``kept``.
        columns: panels beside each other, at most.
    """
    folds = list(dict.fromkeys(row["fold"] for row in rows))
    across = min(columns, len(folds))
    down = math.ceil(len(folds) / across)
    with style.style():
        width = max(style.WIDTH, PANEL[0] * across)
        figure = Figure(figsize=(width, PANEL[1] * down + 0.55))
        panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        losses = [row[key] for row in rows for key, *_ in LINES if _number(row.get(key))]
        if losses and min(losses) > 0 and max(losses) > WIDE * min(losses):
            panels[0, 0].set_yscale("log")
            panels[0, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panels[0, 0].yaxis.set_major_formatter("{x:g}")
            panels[0, 0].yaxis.set_minor_locator(NullLocator())
        for axes, fold in zip(panels.flat, folds, strict=False):
            _fold(axes, [row for row in rows if row["fold"] == fold])
            axes.set_title(str(fold), fontsize=8.5, pad=20)
        for spare in panels.flat[len(folds) :]:
            spare.set_axis_off()
        for axes in panels[:, 0]:
            axes.set_ylabel("Loss")
        for place in range(across):
            panels[(len(folds) - 1 - place) // across][place].set_xlabel("Epoch")
        handles, names = panels[0, 0].get_legend_handles_labels()
        # Below, where no phase and no stamp stands.
        figure.legend(handles, names, loc="outside lower left", ncols=3, fontsize=8.5)
    return figure


def _fold(axes: Axes, rows: Sequence[Row]) -> None:
    models = list(dict.fromkeys(row["model"] for row in rows))
    for key, name, colour, dashes in LINES:
        for model in models:
            own = [r for r in rows if r["model"] == model and _number(r.get(key))]
            x, y = [r["epoch"] for r in own], [r[key] for r in own]
            told = name if model == models[0] else None
            dot = "." if len(x) == 1 else None
            axes.plot(x, y, color=colour, lw=1.4, ls=dashes, marker=dot, label=told)
    kept = [row for row in rows if row["kept"] and _number(row.get("val_loss"))]
    places = [row["epoch"] for row in kept], [row["val_loss"] for row in kept]
    axes.plot(*places, "o", color=style.MODEL, ms=5.5, mfc="white", mew=1.4, label="epoch kept")
    _mark_phases(axes, rows)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=8)
    axes.grid(axis="y")


def _mark_phases(axes: Axes, rows: Sequence[Row]) -> None:
    """Each phase's name above its first epoch, in turn on one of two heights: a phase may be three
    epochs of two hundred."""
    first: dict[str, float] = {}
    for row in rows:
        name = str(row["phase"])
        first[name] = min(first.get(name, np.inf), float(row["epoch"]))
    for number, (name, epoch) in enumerate(sorted(first.items(), key=lambda item: item[1])):
        if number:
            axes.axvline(epoch - 0.5, color=style.INK, lw=0.9, ls=":")
        axes.annotate(
            name,
            (epoch - 0.5 if number else epoch, 1),
            (2 if number else 0, 1 + 8 * ((number + 1) % 2)),
            fontsize=7,
            color=style.MUTED,
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
        )


def label_curve(
    points: Sequence[LabelPoint], metric: str, label: str, model: str, baselines: Sequence[str]
) -> tuple[Figure, list[dict[str, Any]]]:
    """A metric by the number of labelled people, with intervals; models a little beside each other.

    Args:
        metric: its name.   label: of its axis.   model: ours, as the points name it.
        baselines: names of the others, for their colours; majority is not drawn.
    """
    names = [n for n in points[0].results if n == model or (n in baselines and n != "majority")]
    rows = []
    with style.style():
        figure = Figure(figsize=(style.WIDTH, style.SQUARE))
        axes = figure.subplots()
        for place, name in enumerate(names):
            colour, marker = style.look(name, model, baselines)
            ours, shift = name == model, 1 + 0.03 * (place - (len(names) - 1) / 2)
            found = [p.metric(name, metric) for p in points]
            rows += [
                {"model": name, "labels": p.label, "people": p.count, "metric": metric}
                | {"value": m.value, "low": m.low, "high": m.high}
                for p, m in zip(points, found, strict=True)
            ]
            at = [p.count * shift for p in points]
            ends = [m.low for m in found], [m.high for m in found]
            axes.vlines(at, *ends, color=colour, alpha=0.45)
            axes.plot(
                at,
                [m.value for m in found],
                color=colour,
                marker=marker,
                mfc=colour if ours else "white",
                lw=2 if ours else 1.2,
                ls="-" if ours else (0, (4, 2)),
                label=label_of(name),
            )
        axes.set_xscale("log")
        axes.set_xticks([p.count for p in points], [_tick(p) for p in points])
        axes.minorticks_off()
        axes.set(xlabel="Labelled people of a fold", ylabel=label)
        axes.grid(axis="y")
        # Above the axes, where it covers no interval.
        figure.legend(loc="outside upper left", ncols=2, fontsize=8)
    return figure, rows


def _tick(point: LabelPoint) -> str:
    return point.label if point.label.isdigit() else f"{point.label}, {point.count:.0f}"


def _number(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))
