"""Figures of the metrics that a reader asks for, AUROC, R2 and their like: by people and by hours.

In: an `Analysis`. Out: matplotlib Figures in the report's style, or None where no run has the
metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from lcm_scale.laws.analysis import Analysis
from lcm_scale.laws.collect import Configuration
from lcm_scale.laws.drawing import (
    axes_of,
    baseline_lines,
    drawn,
    legend_below,
    means_by,
    people_ticks,
    shades,
    sizes_of,
    table_of,
)
from lcm_scale.report import pictures
from lcm_scale.report.style import MARKERS, MUTED, WIDTH, style

MOST_METRICS = 4


def metric_by_people(a: Analysis) -> pictures.Drawn | None:
    """Every metric, a panel each: a line a size, the baselines beside them."""
    keys = [(m.target, m.metric) for m in (a.law.metrics if a.law else ())] or list(
        a.rows[0].metrics
    )
    if not keys:
        return None
    keys = keys[:MOST_METRICS]
    with style(math=True):
        figure, narrow = (_panels(a, keys, columns) for columns in (min(len(keys), 2), 1))
    return drawn(
        "metric-people",
        figure,
        table_of(a.rows) + table_of(a.collected.baselines),
        "Metrics by number of training people, a line a size; dashes are baselines.",
        narrow,
    )


def _panels(a: Analysis, keys: Sequence[tuple[str, str]], columns: int) -> Figure:
    sizes = sizes_of(a.rows)
    lines = math.ceil(len(keys) / columns)
    figure = Figure(figsize=(WIDTH * columns, 0.85 * WIDTH * lines + 0.5))
    every = figure.subplots(lines, columns, squeeze=False).flat
    for axes, key in zip(every, keys, strict=False):
        axes.set_xscale("log")
        for colour, size in zip(shades(len(sizes)), sizes, strict=True):
            rows = [r for r in a.rows if r.size == size and key in r.metrics]
            axes.plot(
                *means_by(rows, lambda r: r.people, _metric(key)),
                "o-",
                color=colour,
                ms=4,
                lw=1,
                label=size,
            )
        baseline_lines(a, axes, _metric(key))
        axes.set(xlabel="Training people", ylabel=_metric_label(key), title=_title(key))
        people_ticks(a, axes)
        axes.grid()
    for unused in list(every)[len(keys) :]:
        unused.axis("off")
    legend_below(figure, figure.axes[0])
    return figure


def _title(key: tuple[str, str]) -> str:
    """The target as words; matplotlib would set what stands between dollar signs as a formula."""
    return key[0].replace("_", " ").replace("$", r"\$")


def metric_by_hours(a: Analysis) -> pictures.Drawn | None:
    """The headline's metric against the hours that training took on the machine at hand."""
    headline = a.collected.sweep.base.evaluate.target
    key = next(
        (
            k
            for k in a.rows[0].metrics
            if k[1] in ("auroc", "r2") and (k[0] == headline or not headline)
        ),
        None,
    )
    if key is None:
        return None
    people = sorted({r.people for r in a.rows})
    with style(math=True):
        figure, axes = axes_of(
            "Hours a run, measured", _metric_label(key), f"{_title(key)} by hours"
        )
        axes.set_xscale("log")
        for colour, count in zip(shades(len(people)), people, strict=True):
            rows = [r for r in a.rows if r.people == count and key in r.metrics]
            axes.plot(
                [r.seconds / 3600 for r in rows],
                [r.metrics[key] for r in rows],
                "o",
                color=colour,
                ms=4.5,
                label=f"{count} people",
            )
            for baseline in (
                b for b in a.collected.baselines if b.people == count and key in b.metrics
            ):
                place = list(dict.fromkeys(b.size for b in a.collected.baselines)).index(
                    baseline.size
                )
                axes.plot(
                    baseline.seconds / 3600,
                    baseline.metrics[key],
                    MARKERS[place],
                    color=colour,
                    mfc="white",
                    ms=5,
                )
        for place, name in enumerate(dict.fromkeys(b.size for b in a.collected.baselines)):
            axes.plot([], [], MARKERS[place], color=MUTED, mfc="white", ms=5, label=name)
        legend_below(figure, axes)
    return drawn(
        "metric-hours",
        figure,
        table_of(a.rows) + table_of(a.collected.baselines),
        "The headline's metric by measured hours of a run; hollow marks are baselines.",
    )


def _metric(key: tuple[str, str]) -> Callable[[Configuration], float]:
    return lambda row: row.metrics.get(key, np.nan)


def _metric_label(key: tuple[str, str]) -> str:
    return {"auroc": "AUROC", "r2": "R²"}.get(key[1], key[1])
