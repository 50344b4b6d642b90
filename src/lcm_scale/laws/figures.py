"""All figures of a sweep's report, each with the rows of numbers that it shows.

A figure is drawn where the sweep holds what it needs: see `loss_figures.py` and
`metric_figures.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from matplotlib.ticker import LogFormatterMathtext

from lcm_scale.laws.analysis import Analysis
from lcm_scale.laws.drawing import Drawn
from lcm_scale.laws.loss_figures import (
    ensembles,
    frontier,
    isoflop,
    loss_by_flops,
    loss_by_parameters,
    loss_by_people,
    rates,
)
from lcm_scale.laws.metric_figures import metric_by_hours, metric_by_people
from lcm_scale.report.style import stamp


def figures(a: Analysis) -> Iterator[Drawn]:
    """(file stem, figure, rows of its CSV)."""
    words = "SIMULATED" if a.collected.simulated else ""
    drawers: tuple[Callable[[Analysis], Drawn | None], ...] = (
        loss_by_parameters,
        loss_by_people,
        loss_by_flops,
        isoflop,
        frontier,
        metric_by_people,
        metric_by_hours,
        ensembles,
        rates,
    )
    for draw in drawers:
        drawn = draw(a)
        if drawn is not None:
            stem, figure, rows = drawn
            for axes in figure.axes:
                for axis in (axes.xaxis, axes.yaxis):
                    if (
                        axis.get_scale() == "log"
                    ):  # the default writes over itself on one decade or two
                        axis.set_minor_formatter(LogFormatterMathtext(minor_thresholds=(0.8, 0.4)))
            yield stem, stamp(figure, words), rows
