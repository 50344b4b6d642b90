"""Figures of a sweep, in the report's style: plain rows in, matplotlib Figures out, each with the
rows that it shows.

Model runs are filled dots, baselines hollow marks on dashed lines, the fitted law a thin line:
never colour alone. The baseline stands in every figure that has a loss or a metric on its axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterMathtext, NullLocator

from lcm_scale.laws.analysis import Analysis
from lcm_scale.laws.collect import Row, losses_by_rate
from lcm_scale.laws.laws import Runs
from lcm_scale.report.plots import MARKERS, MODEL, MUTED, OTHERS, stamp, style

Drawn = tuple[str, Figure, list[dict[str, Any]]]


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


def loss_by_parameters(a: Analysis) -> Drawn:
    people = sorted({r.people for r in a.rows})
    colours = _shades(len(people))
    labels: list[tuple[float, str, str]] = []
    with style():
        figure, axes = _axes("Parameters", "Held-out loss", "Loss by size")
        axes.set_xscale("log")
        for colour, count in zip(colours, people, strict=True):
            rows = [r for r in a.rows if r.people == count]
            axes.plot(
                [_n(a, r) for r in rows],
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
        _legend(axes)
        _labels_at_the_right(axes, labels)
    return "loss-parameters", figure, _rows(a.rows) + _rows(a.collected.baselines)


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


def loss_by_people(a: Analysis) -> Drawn:
    sizes = _sizes(a.rows)
    with style():
        figure, axes = _axes("Training people", "Held-out loss", "Loss by people")
        axes.set_xscale("log")
        for colour, size in zip(_shades(len(sizes)), sizes, strict=True):
            rows = [r for r in a.rows if r.size == size]
            axes.plot(
                [r.people for r in rows],
                [r.loss for r in rows],
                "o",
                color=colour,
                ms=4.5,
                label=f"{size} ({_short(rows[0].parameters)})",
            )
            means = _means(rows, lambda r: r.people, lambda r: r.loss)
            axes.plot(*means, color=colour, lw=1)
        _baseline_lines(a, axes, lambda r: r.loss)
        _people_ticks(a, axes)
        _legend(axes)
    return "loss-people", figure, _rows(a.rows) + _rows(a.collected.baselines)


def loss_by_flops(a: Analysis) -> Drawn:
    people = sorted({r.people for r in a.rows})
    with style():
        figure, axes = _axes("Training FLOPs", "Held-out loss", "Loss by FLOPs")
        axes.set_xscale("log")
        for colour, count in zip(_shades(len(people)), people, strict=True):
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
        best = min((b.loss for b in a.collected.baselines), default=None)
        if best is not None:
            axes.axhline(best, color=OTHERS[1], lw=1.2, ls=(0, (4, 3)), label="best baseline")
        _legend(axes)
    return "loss-flops", figure, _rows(a.rows)


def isoflop(a: Analysis) -> Drawn | None:
    """Slices of equal FLOPs, in a sweep that was planned so."""
    budgets = a.collected.sweep.recipe.flops
    if a.collected.sweep.recipe.design != "isoflop" or not budgets:
        return None
    nearest = [min(budgets, key=lambda f: abs(np.log(r.flops / f))) for r in a.rows]
    with style():
        figure, axes = _axes("Parameters", "Held-out loss", "Iso-FLOP slices")
        axes.set_xscale("log")
        for colour, budget in zip(_shades(len(budgets)), sorted(budgets), strict=True):
            rows = sorted(
                (r for r, f in zip(a.rows, nearest, strict=True) if f == budget),
                key=lambda r: r.parameters,
            )
            axes.plot(
                [_n(a, r) for r in rows],
                [r.loss for r in rows],
                "o",
                color=colour,
                ms=4.5,
                label=f"{budget:.1e} FLOP",
            )
            axes.plot(*_means(rows, lambda r: _n(a, r), lambda r: r.loss), color=colour, lw=1)
        best = min((b.loss for b in a.collected.baselines), default=None)
        if best is not None:
            axes.axhline(best, color=OTHERS[1], lw=1.2, ls=(0, (4, 3)), label="best baseline")
        _legend(axes)
    return "isoflop", figure, _rows(a.rows)


def frontier(a: Analysis) -> Drawn | None:
    f = a.law and a.law.frontier
    if not a.law or not f:
        return None
    with style():
        figure, axes = _axes(
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
            [_n(a, r) for r in a.rows],
            "o",
            color=MUTED,
            ms=3,
            mfc="white",
            label="runs",
        )
        _legend(axes)
    columns = zip(f.flops, f.parameters, f.low, f.high, f.loss, strict=True)
    rows = [
        dict(zip(("flops", "parameters", "low", "high", "loss"), map(float, c), strict=True))
        for c in columns
    ]
    return "frontier", figure, rows


def metric_by_people(a: Analysis) -> Drawn | None:
    """Every metric, a panel each: a line a size, the baselines beside them."""
    keys = [(m.target, m.metric) for m in (a.law.metrics if a.law else ())] or list(
        a.rows[0].metrics
    )[:4]
    if not keys:
        return None
    sizes = _sizes(a.rows)
    with style():
        count = min(len(keys), 4)
        figure = Figure(figsize=(3.1 * count + 0.9, 3.1))
        *panels, words = figure.subplots(1, count + 1, width_ratios=[*[1.0] * count, 0.3])
        for axes, key in zip(panels, keys, strict=False):
            axes.set_xscale("log")
            for colour, size in zip(_shades(len(sizes)), sizes, strict=True):
                rows = [r for r in a.rows if r.size == size and key in r.metrics]
                axes.plot(
                    *_means(rows, lambda r: r.people, _metric(key)),
                    "o-",
                    color=colour,
                    ms=4,
                    lw=1,
                    label=size,
                )
            _baseline_lines(a, axes, _metric(key))
            axes.set(
                xlabel="Training people", ylabel=_metric_label(key), title=key[0].replace("_", " ")
            )
            _people_ticks(a, axes)
            axes.grid()
        words.axis("off")
        words.legend(
            *panels[0].get_legend_handles_labels(), fontsize=7, loc="center left", borderaxespad=0
        )
    return "metric-people", figure, _rows(a.rows) + _rows(a.collected.baselines)


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
    with style():
        figure, axes = _axes(
            "Hours a run, measured", _metric_label(key), f"{key[0].replace('_', ' ')} by hours"
        )
        axes.set_xscale("log")
        for colour, count in zip(_shades(len(people)), people, strict=True):
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
        _legend(axes)
    return "metric-hours", figure, _rows(a.rows) + _rows(a.collected.baselines)


def ensembles(a: Analysis) -> Drawn | None:
    """K seeds of a small model, averaged, beside one model of about the same FLOPs."""
    if not a.ensembles:
        return None
    with style():
        figure, axes = _axes(
            "Training FLOPs, all members", "Held-out loss", "Many small or one large"
        )
        axes.set_xscale("log")
        for colour, size in zip(
            _shades(len({e.size for e in a.ensembles})),
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
        _legend(axes)
    return "ensembles", figure, [e.__dict__ for e in a.ensembles]


def rates(a: Analysis) -> Drawn | None:
    """Loss by learning rate, a line a size, where the sweep varied it within a size."""
    found = losses_by_rate(a.collected.rows)
    if not found:
        return None
    with style():
        figure, axes = _axes("Learning rate", "Held-out loss", "Does the rate transfer?")
        axes.set_xscale("log")
        for colour, (size, losses) in zip(_shades(len(found)), found.items(), strict=True):
            axes.plot(
                list(losses), list(losses.values()), "o-", color=colour, lw=1, ms=4.5, label=size
            )
        _legend(axes)
    return "rates", figure, _rows([r for r in a.collected.rows if r.size in found])


# -- pieces ----------------------------------------------------------------------------------------


def _axes(x: str, y: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, 3.6))
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid()
    return figure, axes


def _legend(axes: Axes) -> None:
    """Below the axes, where it covers no point."""
    axes.legend(
        fontsize=7, loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=4, borderaxespad=0
    )


def _shades(count: int) -> list[Any]:
    """Light to dark: more of what the colour stands for is darker."""
    return [
        matplotlib.colormaps["YlGnBu"](0.35 + 0.6 * i / max(1, count - 1)) for i in range(count)
    ]


def _n(a: Analysis, row: Row) -> float:
    return float(row.body if a.collected.sweep.recipe.fit.parameters == "body" else row.parameters)


def _law_line(a: Analysis, axes: Axes, rows: Sequence[Row], colour: Any, along: str) -> None:
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


def _baseline_lines(a: Analysis, axes: Axes, value: Callable[[Row], float]) -> None:
    for number, name in enumerate(dict.fromkeys(b.size for b in a.collected.baselines)):
        means = _means(
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


def _people_ticks(a: Analysis, axes: Axes) -> None:
    """The numbers of people that were run, and no others."""
    people = sorted({r.people for r in a.rows})
    axes.set_xticks(people, [str(count) for count in people])
    axes.xaxis.set_minor_locator(NullLocator())


def _means(
    rows: Sequence[Row], x: Callable[[Row], float], y: Callable[[Row], float]
) -> tuple[list[float], list[float]]:
    xs = sorted({x(r) for r in rows})
    return xs, [float(np.mean([y(r) for r in rows if x(r) == at])) for at in xs]


def _sizes(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(r.size for r in sorted(rows, key=lambda r: r.parameters)))


def _metric(key: tuple[str, str]) -> Callable[[Row], float]:
    return lambda row: row.metrics.get(key, np.nan)


def _metric_label(key: tuple[str, str]) -> str:
    return {"auroc": "AUROC", "r2": "R²"}.get(key[1], key[1])


def _short(parameters: int) -> str:
    return f"{parameters / 1e6:.3g} M" if parameters >= 1e6 else f"{parameters / 1e3:.0f} k"


def _rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as a table: metrics as columns."""
    out = []
    for r in rows:
        flat = {
            k: v
            for k, v in r.__dict__.items()
            if k not in ("losses", "metrics", "rate", "folders", "is_baseline")
        }
        flat["kind"] = "baseline" if r.is_baseline else "model"
        flat |= {f"loss: {t}": v for t, v in r.losses.items()} | {
            f"{t}: {m}": v for (t, m), v in r.metrics.items()
        }
        out.append(flat)
    return out
