"""What the figures of a sweep have in common: axes, legend, shades, baselines, and the table behind
a figure.

Model runs are filled dots, baselines hollow marks on dashed lines, the fitted law a thin line:
never colour alone. The baseline stands in every figure that has a loss or a metric on its axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lcm_scale.laws.analysis import Analysis
from lcm_scale.laws.collect import Configuration
from lcm_scale.report import pictures
from lcm_scale.report.style import MARKERS, OTHERS, WIDTH

# The losses and metrics have columns of their own; the others are in the name or on disk.
NOT_IN_THE_TABLE = ("losses", "metrics", "settings", "learning_rate", "folders", "is_baseline")


def drawn(
    stem: str,
    figure: Figure,
    rows: Sequence[Mapping[str, Any]],
    alt: str,
    narrow: Figure | None = None,
) -> pictures.Drawn:
    """A figure of logarithmic axes, whose ticks are formulas.

    Args: rows: what it shows; one may lack a column that another has.   The rest: as `Drawn`'s.
    """
    columns = dict.fromkeys(key for row in rows for key in row)
    whole = [{column: row.get(column) for column in columns} for row in rows]
    return pictures.Drawn(stem, figure, whole, alt, narrow=narrow, math=True)


def axes_of(x: str, y: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, WIDTH))
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid()
    return figure, axes


def legend_below(figure: Figure, axes: Axes) -> None:
    """Below the axes, where it covers no point."""
    figure.legend(
        *axes.get_legend_handles_labels(), fontsize=7.5, loc="outside lower left", ncols=2
    )


def shades(count: int) -> list[Any]:
    """Light to dark: more of what the colour stands for is darker."""
    return [
        matplotlib.colormaps["YlGnBu"](0.35 + 0.6 * i / max(1, count - 1)) for i in range(count)
    ]


def parameters_of(a: Analysis, row: Configuration) -> float:
    return float(row.body if a.collected.sweep.recipe.fit.parameters == "body" else row.parameters)


def baseline_lines(a: Analysis, axes: Axes, value: Callable[[Configuration], float]) -> None:
    for number, name in enumerate(dict.fromkeys(b.size for b in a.collected.baselines)):
        means = means_by(
            [b for b in a.collected.baselines if b.size == name], lambda r: r.people, value
        )
        axes.plot(
            *means,
            color=OTHERS[(number + 1) % len(OTHERS)],
            lw=1.4,
            ls=(0, (4, 3)),
            marker=MARKERS[number % len(MARKERS)],
            mfc="white",
            ms=5,
            label=name,
        )


def people_ticks(a: Analysis, axes: Axes) -> None:
    """The numbers of people that were run, and no others."""
    people = sorted({r.people for r in a.rows})
    axes.set_xticks(people, [str(count) for count in people])
    axes.xaxis.set_minor_locator(NullLocator())


def means_by(
    rows: Sequence[Configuration],
    x: Callable[[Configuration], float],
    y: Callable[[Configuration], float],
) -> tuple[list[float], list[float]]:
    xs = sorted({x(r) for r in rows})
    return xs, [float(np.mean([y(r) for r in rows if x(r) == at])) for at in xs]


def sizes_of(rows: Sequence[Configuration]) -> list[str]:
    return list(dict.fromkeys(r.size for r in sorted(rows, key=lambda r: r.parameters)))


def short_count(parameters: int) -> str:
    return f"{parameters / 1e6:.3g} M" if parameters >= 1e6 else f"{parameters / 1e3:.0f} k"


def table_of(rows: Sequence[Configuration]) -> list[dict[str, Any]]:
    """Rows as a table: metrics as columns."""
    out = []
    for r in rows:
        flat = {k: v for k, v in r.__dict__.items() if k not in NOT_IN_THE_TABLE}
        flat["kind"] = "baseline" if r.is_baseline else "model"
        flat |= {f"loss: {t}": v for t, v in r.losses.items()} | {
            f"{t}: {m}": v for (t, m), v in r.metrics.items()
        }
        out.append(flat)
    return out
