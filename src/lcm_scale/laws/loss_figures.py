"""Figures with the held-out loss: by size, people, FLOPs and learning rate; and what the law makes
of it.

In: an `Analysis`. Out: matplotlib Figures in the report's style, or None where the sweep does not
hold one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lcm_scale.laws.analysis import Analysis
from lcm_scale.laws.collect import Configuration, losses_by_rate
from lcm_scale.laws.drawing import (
    axes_of,
    baseline_lines,
    drawn,
    legend_below,
    means_by,
    parameters_of,
    people_ticks,
    shades,
    short_count,
    sizes_of,
    table_of,
)
from lcm_scale.laws.laws import Runs
from lcm_scale.report import pictures
from lcm_scale.report.style import MARKERS, MODEL, MUTED, OTHERS, style


def loss_by_parameters(a: Analysis) -> pictures.Drawn:
    people = sorted({r.people for r in a.rows})
    colours = shades(len(people))
    labels: list[tuple[float, str, str]] = []
    with style(math=True):
        figure, axes = axes_of("Parameters", "Held-out loss", "Loss by size")
        axes.set_xscale("log")
        for colour, count in zip(colours, people, strict=True):
            rows = [r for r in a.rows if r.people == count]
            axes.plot(
                [parameters_of(a, r) for r in rows],
                [r.loss for r in rows],
                "o",
                color=colour,
                ms=4.5,
                label=f"{count} people",
            )
            _law_line(a, axes, rows, colour, "parameters")
            for number, (name, value) in enumerate(_baseline_losses(a, count).items()):
                axes.axhline(
                    value,
                    color=colour,
                    lw=1,
                    ls=(0, (4, 3)) if number == 0 else (0, (1, 2)),
                    zorder=0,
                )
                labels.append((value, f"{name}, {count}", colour))
        legend_below(figure, axes)
        _labels_at_the_right(axes, labels)
    return drawn(
        "loss-parameters",
        figure,
        table_of(a.rows) + table_of(a.collected.baselines),
        "Held-out loss by parameters, a colour a number of people; lines: the law.",
    )


def _labels_at_the_right(
    axes: Axes, labels: list[tuple[float, str, str]], apart: float = 0.05
) -> None:
    """Names of horizontal lines, (value, name, colour), so far apart that each can be read; a
    stroke leads to its line."""
    low, high = axes.get_ylim()
    place = -apart
    for value, name, colour in sorted(labels):
        line = (value - low) / (high - low)
        place = max(line, place + apart)
        axes.annotate(
            name,
            (1, line),
            (1.035, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=6.5,
            color=colour,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6},
        )


def loss_by_people(a: Analysis) -> pictures.Drawn:
    sizes = sizes_of(a.rows)
    with style(math=True):
        figure, axes = axes_of("Training people", "Held-out loss", "Loss by people")
        axes.set_xscale("log")
        for colour, size in zip(shades(len(sizes)), sizes, strict=True):
            rows = [r for r in a.rows if r.size == size]
            axes.plot(
                [r.people for r in rows],
                [r.loss for r in rows],
                "o",
                color=colour,
                ms=4.5,
                label=f"{size} ({short_count(rows[0].parameters)})",
            )
            means = means_by(rows, lambda r: r.people, lambda r: r.loss)
            axes.plot(*means, color=colour, lw=1)
        baseline_lines(a, axes, lambda r: r.loss)
        people_ticks(a, axes)
        legend_below(figure, axes)
    return drawn(
        "loss-people",
        figure,
        table_of(a.rows) + table_of(a.collected.baselines),
        "Held-out loss by number of training people, a line a size; dashes are baselines.",
    )


def loss_by_flops(a: Analysis) -> pictures.Drawn:
    people = sorted({r.people for r in a.rows})
    with style(math=True):
        figure, axes = axes_of("Training FLOPs", "Held-out loss", "Loss by FLOPs")
        axes.set_xscale("log")
        for colour, count in zip(shades(len(people)), people, strict=True):
            rows = [r for r in a.rows if r.people == count]
            axes.plot(
                [r.flops for r in rows],
                [r.loss for r in rows],
                "o",
                color=colour,
                ms=4.5,
                label=f"{count} people",
            )
        ordered = sorted(a.rows, key=lambda r: r.flops)
        axes.step(
            [r.flops for r in ordered],
            np.minimum.accumulate([r.loss for r in ordered]),
            where="post",
            color=MUTED,
            lw=1,
            label="best so far",
        )
        _best_baseline(a, axes)
        legend_below(figure, axes)
    return drawn(
        "loss-flops",
        figure,
        table_of(a.rows),
        "Held-out loss by training FLOPs; grey line: the best so far, dashes: the best baseline.",
    )


def isoflop(a: Analysis) -> pictures.Drawn | None:
    """Slices of equal FLOPs, in a sweep that was planned so."""
    budgets = a.collected.sweep.recipe.flops
    if a.collected.sweep.recipe.design != "isoflop" or not budgets:
        return None
    nearest = [min(budgets, key=lambda f: abs(np.log(r.flops / f))) for r in a.rows]
    with style(math=True):
        figure, axes = axes_of("Parameters", "Held-out loss", "Iso-FLOP slices")
        axes.set_xscale("log")
        for colour, budget in zip(shades(len(budgets)), sorted(budgets), strict=True):
            rows = sorted(
                (r for r, f in zip(a.rows, nearest, strict=True) if f == budget),
                key=lambda r: r.parameters,
            )
            axes.plot(
                [parameters_of(a, r) for r in rows],
                [r.loss for r in rows],
                "o",
                color=colour,
                ms=4.5,
                label=f"{budget:.1e} FLOP",
            )
            axes.plot(
                *means_by(rows, lambda r: parameters_of(a, r), lambda r: r.loss), color=colour, lw=1
            )
        _best_baseline(a, axes)
        legend_below(figure, axes)
    return drawn(
        "isoflop",
        figure,
        table_of(a.rows),
        "Held-out loss by parameters, a line a budget of FLOPs; dashes: the best baseline.",
    )


def frontier(a: Analysis) -> pictures.Drawn | None:
    f = a.law and a.law.frontier
    if not a.law or not f:
        return None
    with style(math=True):
        figure, axes = axes_of(
            "Training FLOPs", "Parameters", f"Best size by the law '{a.law.fitted.law.name}'"
        )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.fill_between(
            f.flops, f.low, f.high, color=MODEL, alpha=0.18, lw=0, label="95 % of the bootstrap"
        )
        axes.plot(f.flops, f.parameters, color=MODEL, lw=2, label="best size")
        axes.plot(
            [r.flops for r in a.rows],
            [parameters_of(a, r) for r in a.rows],
            "o",
            color=MUTED,
            ms=3,
            mfc="white",
            label="runs",
        )
        legend_below(figure, axes)
    columns = zip(f.flops, f.parameters, f.low, f.high, f.loss, strict=True)
    rows = [
        dict(zip(("flops", "parameters", "low", "high", "loss"), map(float, c), strict=True))
        for c in columns
    ]
    return drawn(
        "frontier",
        figure,
        rows,
        "Best number of parameters by training FLOPs, with the bootstrap's interval, and the runs.",
    )


def ensembles(a: Analysis) -> pictures.Drawn | None:
    """K seeds of a small model, averaged, beside one model of about the same FLOPs."""
    if not a.ensembles:
        return None
    with style(math=True):
        figure, axes = axes_of(
            "Training FLOPs, all members", "Held-out loss", "Many small or one large"
        )
        axes.set_xscale("log")
        for colour, size in zip(
            shades(len({e.size for e in a.ensembles})),
            dict.fromkeys(e.size for e in a.ensembles),
            strict=True,
        ):
            own = sorted((e for e in a.ensembles if e.size == size), key=lambda e: e.flops)
            first = own[0]
            xs, ys = (
                [first.flops / first.seeds, *(e.flops for e in own)],
                [first.single, *(e.together for e in own)],
            )
            axes.plot(
                xs,
                ys,
                "o-",
                color=colour,
                ms=5,
                lw=1.2,
                label=f"{size}, 1 to {own[-1].seeds} seeds",
            )
        singles = {(e.larger, e.larger_flops, e.larger_loss) for e in a.ensembles}
        for name, flops, loss in sorted(singles):
            axes.plot(flops, loss, MARKERS[1], color=OTHERS[1], mfc="white", mew=1.6, ms=7)
            axes.annotate(
                f"one {name}",
                (flops, loss),
                (6, 4),
                textcoords="offset points",
                fontsize=7.5,
                color=OTHERS[1],
            )
        legend_below(figure, axes)
    return drawn(
        "ensembles",
        figure,
        [e.__dict__ for e in a.ensembles],
        "Held-out loss of seeds averaged, by their FLOPs; hollow marks: single larger models.",
    )


def rates(a: Analysis) -> pictures.Drawn | None:
    """Loss by learning rate, a line a size, where the sweep varied it within a size."""
    found = losses_by_rate(a.collected.rows)
    if not found:
        return None
    with style(math=True):
        figure, axes = axes_of("Learning rate", "Held-out loss", "Does the rate transfer?")
        axes.set_xscale("log")
        for colour, (size, losses) in zip(shades(len(found)), found.items(), strict=True):
            axes.plot(
                list(losses), list(losses.values()), "o-", color=colour, lw=1, ms=4.5, label=size
            )
        legend_below(figure, axes)
    return drawn(
        "rates",
        figure,
        table_of([r for r in a.collected.rows if r.size in found]),
        "Held-out loss by learning rate, a line a size.",
    )


def _best_baseline(a: Analysis, axes: Axes) -> None:
    best = min((b.loss for b in a.collected.baselines), default=None)
    if best is not None:
        axes.axhline(best, color=OTHERS[1], lw=1.2, ls=(0, (4, 3)), label="best baseline")


def _law_line(
    a: Analysis, axes: Axes, rows: Sequence[Configuration], colour: Any, along: str
) -> None:
    """The law through runs of one number of people, at their commonest epochs."""
    if a.law is None:
        return
    epochs = max({r.epochs for r in rows}, key=[r.epochs for r in rows].count)
    example = a.law.runs.take(
        np.array([[id(r) for r in a.rows].index(id(next(r for r in rows if r.epochs == epochs)))])
    )
    x = np.geomspace(a.law.runs.parameters.min(), a.law.runs.parameters.max(), 60)
    runs = Runs(
        np.ones_like(x),
        x,
        *(np.full_like(x, getattr(example, k)[0]) for k in ("seen", "unique", "epochs", "cluster")),
    )
    axes.plot(x, a.law.fitted.predict(runs), color=colour, lw=1)


def _baseline_losses(a: Analysis, people: int) -> dict[str, float]:
    own = [b for b in a.collected.baselines if b.people == people]
    return {
        name: float(np.mean([b.loss for b in own if b.size == name]))
        for name in dict.fromkeys(b.size for b in own)
    }
