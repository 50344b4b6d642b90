"""All figures of a sweep's report, each with the rows of numbers that it shows.

A figure is drawn where the sweep holds what it needs: see `loss_figures.py` and
`metric_figures.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation

from lcm_scale.laws.analysis import Analysis
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
from lcm_scale.report.pictures import Drawn
from lcm_scale.report.style import stamp


def figures(a: Analysis) -> Iterator[Drawn]:
    """Those for which the sweep holds what they need."""
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
            for figure in filter(None, (drawn.figure, drawn.narrow)):
                _label_minor_ticks(figure)
                stamp(figure, words)
            yield drawn


def _label_minor_ticks(figure: Figure) -> None:
    """Of logarithmic axes: the default writes over itself on one decade or two."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                axis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(0.8, 0.4)))
