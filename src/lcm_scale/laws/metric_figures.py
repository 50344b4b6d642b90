"""Figures of the metrics that a reader asks for, AUROC, R2 and their like: by people and by hours.

In: an `Analysis`. Out: matplotlib Figures in the report's style, or None where no run has the
metric.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from lcm_scale.laws.analysis import Analysis
from lcm_scale.laws.collect import Configuration
from lcm_scale.laws.drawing import (
    Drawn,
    axes_of,
    baseline_lines,
    legend_below,
    means_by,
    people_ticks,
    shades,
    sizes_of,
    table_of,
)
from lcm_scale.report.style import MARKERS, MUTED, style


def metric_by_people(a: Analysis) -> Drawn | None:
    """Every metric, a panel each: a line a size, the baselines beside them."""
    keys = [(m.target, m.metric) for m in (a.law.metrics if a.law else ())] or list(
        a.rows[0].metrics
    )[:4]
    if not keys:
        return None
    sizes = sizes_of(a.rows)
    with style(math=True):
        count = min(len(keys), 4)
        figure = Figure(figsize=(3.1 * count + 0.9, 3.1))
        *panels, words = figure.subplots(1, count + 1, width_ratios=[*[1.0] * count, 0.3])
        for axes, key in zip(panels, keys, strict=False):
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
        words.axis("off")
        words.legend(
            *panels[0].get_legend_handles_labels(), fontsize=7, loc="center left", borderaxespad=0
        )
    return "metric-people", figure, table_of(a.rows) + table_of(a.collected.baselines)


def _title(key: tuple[str, str]) -> str:
    """The target as words; matplotlib would set what stands between dollar signs as a formula."""
    return key[0].replace("_", " ").replace("$", r"\$")


def metric_by_hours(a: Analysis) -> Drawn | None:
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
        legend_below(axes)
    return "metric-hours", figure, table_of(a.rows) + table_of(a.collected.baselines)


def _metric(key: tuple[str, str]) -> Callable[[Configuration], float]:
    return lambda row: row.metrics.get(key, np.nan)


def _metric_label(key: tuple[str, str]) -> str:
    return {"auroc": "AUROC", "r2": "R²"}.get(key[1], key[1])
