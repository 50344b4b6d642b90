"""Figures of the report: plain data in, a matplotlib Figure out. One style, colours that
colour-blind people tell apart.

The model is always blue and a filled dot, baselines grey or orange and hollow: never colour alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from lcm_scale.evaluation.metrics import CALIBRATION_BINS, Metric, Predictions
from lcm_scale.evaluation.results import LabelPoint
from lcm_scale.report.wording import MINUS
from lcm_scale.report.wording import label as label_of

INK, MUTED, RULE = "#1f2933", "#67727e", "#dde2e7"
MODEL = "#0b62a4"
WARNING = "#a63603"
OTHERS = (
    "#8a939c",
    "#d9822b",
    "#7b5ea7",
    "#2a9d8f",
    "#b5446e",
    "#6b7a1f",
)  # grey, orange, purple, teal, wine, olive (after Okabe and Ito)
MARKERS = ("s", "D", "^", "v", "P", "X")
HALO = [
    withStroke(linewidth=2.4, foreground="white")
]  # keeps a label readable where a line passes behind it

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 9.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "text.color": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.fonttype": "path",  # the page looks the same where a font is missing
    "svg.hashsalt": "lcm-scale",  # the same figure is the same file
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
}


@contextmanager
def style(math: bool = False) -> Iterator[None]:
    """The one look; wraps drawing and saving, since matplotlib reads some settings only when it
    writes.

    Args:
        math: words between dollar signs are formulas, as logarithmic axes need. Else they are
            words: a category may be called so.
    """
    with matplotlib.rc_context({**_STYLE, "text.parse_math": math}):
        yield


def stamp(figure: Figure, words: str) -> Figure:
    """What must stay with a figure that is cut out of its page: SIMULATED, CONFOUNDED."""
    if words:
        figure.suptitle(words, x=0.99, ha="right", fontsize=8, fontweight="bold", color=WARNING)
    return figure


def look(name: str, model: str, baselines: Sequence[str]) -> tuple[str, str]:
    """(colour, marker) of a model, the same in every figure: its place among all baselines decides,
    drawn or not. A ceiling is none of them."""
    if name == model:
        return MODEL, "o"
    if name not in baselines:
        return INK, "*"
    place = list(baselines).index(name)
    return OTHERS[place % len(OTHERS)], MARKERS[place % len(MARKERS)]


def comparison(
    rows: Mapping[str, Metric],
    label: str,
    chance: float | None,
    model: str,
    baselines: Sequence[str],
    places: int,
) -> Figure:
    """One metric of the model and the baselines: a dot and its 95 % interval each, a dashed line at
    chance.

    Args:
        rows: name -> metric, top to bottom.   label: axis label.   model: which row is ours.
        baselines: all names, for their colours.   places: decimals, those of the table.
    """
    with style():
        figure = Figure(figsize=(5.0, 0.75 + 0.36 * len(rows)))
        axes = figure.subplots()
        for y, (name, metric) in enumerate(rows.items()):
            _dot_with_interval(axes, y, metric, look(name, model, baselines), name == model, places)
        if chance is not None and np.isfinite(chance):
            axes.axvline(chance, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=0)
            axes.annotate(
                "no skill",
                (chance, 1),
                (3, 1),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=8,
                color=MUTED,
            )
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.7)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel(label)
    return figure


def _dot_with_interval(
    axes: Axes, y: int, metric: Metric, appearance: tuple[str, str], ours: bool, places: int
) -> None:
    colour, marker = appearance
    axes.plot(
        [metric.low, metric.high],
        [y, y],
        color=colour,
        lw=3.2 if ours else 2.2,
        alpha=0.45,
        solid_capstyle="round",
    )
    axes.plot(metric.value, y, marker, color=colour, ms=7, mfc=colour if ours else "white", mew=1.7)
    axes.annotate(
        f"{metric.value:.{places}f}".replace("-", MINUS),
        (metric.value, y),
        (0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
        color=colour,
        fontweight="bold" if ours else "normal",
        path_effects=HALO,
    )


def roc(predictions: Sequence[Predictions], model: str, baselines: Sequence[str]) -> Figure:
    """ROC curves of a two-class target; scores of a fold are ranked within it before folds are
    joined, as AUROC is."""
    with style():
        figure, axes = _square()
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)))
        for p in sorted(predictions, key=lambda p: p.model == model):
            present = np.unique(p.truth).astype(np.int64)
            rank = _rank_within_folds(p.scores[:, present[1]], p.fold)
            false_rate, true_rate, _ = roc_curve(p.truth == present[1], rank)
            colour, _ = look(p.model, model, baselines)
            axes.plot(
                false_rate,
                true_rate,
                color=colour,
                lw=2.2 if p.model == model else 1.4,
                ls="-" if p.model in (model, *baselines) else ":",
                label=p.model,
            )
        axes.set(
            xlabel="False positive rate",
            ylabel="True positive rate",
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            title="ROC",
        )
        axes.legend(loc="lower right", fontsize=8.5)
    return figure


def confusion(p: Predictions) -> Figure:
    """Shares of each true class by predicted class, in percent; classes that never occur are left
    out."""
    present = np.unique(np.concatenate([p.truth.astype(np.int64), p.predicted]))
    counts = (p.truth.astype(np.int64)[:, None, None] == present[:, None]) & (
        p.predicted[:, None, None] == present
    )
    table = counts.sum(0)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    names = [_short(p.categories[c]) for c in present]
    with style():
        size = 3.3 + 0.14 * max(0, len(present) - 4)
        figure = Figure(figsize=(size, size))
        axes = figure.subplots()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1.15)
        small = len(present) > 8
        for i, j in np.ndindex(*share.shape):
            if table[i, j] and not (small and share[i, j] < 0.095):
                axes.text(
                    j,
                    i,
                    f"{100 * share[i, j]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=6 if small else 9.5,
                    color="white" if share[i, j] > 0.6 else INK,
                )
        ticks = range(len(present))
        axes.set_xticks(ticks, names, rotation=90 if small else 0, fontsize=7 if small else 9)
        axes.set_yticks(
            ticks,
            [f"{n} ({k})" for n, k in zip(names, table.sum(1), strict=True)],
            fontsize=7 if small else 9,
        )
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="Predicted", ylabel="True (scans)", title="Confusion, % of true class")
    return figure


def scatter(p: Predictions, unit: str) -> Figure:
    """True against predicted values of a scalar target, with the line of identity."""
    with style():
        figure, axes = _square()
        low = float(min(p.truth.min(), p.scores.min()))
        high = float(max(p.truth.max(), p.scores.max()))
        axes.plot([low, high], [low, high], color=MUTED, lw=1, ls=(0, (4, 3)))
        axes.plot(p.truth, p.scores, "o", color=MODEL, ms=3.2, alpha=0.45, mew=0)
        axes.set(
            xlabel=f"True {p.target} {unit}".strip(),
            ylabel=f"Predicted {p.target} {unit}".strip(),
            title="Held-out scans",
        )
        axes.grid()
    return figure


def calibration(p: Predictions) -> Figure:
    """Share of right predictions against stated confidence, in the bins of the calibration
    error."""
    confidence = p.scores.max(1)
    right = p.predicted == p.truth
    bins = np.clip(
        np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1
    )
    used = np.unique(bins)
    x = [confidence[bins == b].mean() for b in used]
    y = [right[bins == b].mean() for b in used]
    counts = np.array([(bins == b).sum() for b in used])
    with style():
        figure, axes = _square()
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)))
        axes.plot(x, y, color=MODEL, lw=1.4)
        axes.scatter(
            x,
            y,
            s=18 + 220 * counts / counts.sum(),
            color=MODEL,
            edgecolor="white",
            linewidth=0.8,
            zorder=3,
            clip_on=False,
        )
        axes.set(
            xlabel="Confidence",
            ylabel="Share right",
            xlim=(0, 1.02),
            ylim=(0, 1.02),
            title="Calibration",
        )
        axes.grid()
    return figure


def learning_curve(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Training and validation loss by epoch, a line at each switch of phase.

    Args: rows: ``epoch``, ``phase``, ``train_loss``, ``val_loss`` (missing: None) and, where
        several folds are drawn, ``fold``; the mean over folds is the strong line.
    """
    folds = sorted({row.get("fold", 0) for row in rows})
    with style():
        figure = Figure(figsize=(5.8, 2.8))
        axes = figure.subplots()
        for key, name, colour, dashes in (
            ("train_loss", "training", OTHERS[0], (0, (4, 2))),
            ("val_loss", "validation", MODEL, "-"),
        ):
            points = [(row["epoch"], row[key]) for row in rows if _number(row.get(key))]
            for fold in folds if len(folds) > 1 else []:
                line = sorted(
                    (r["epoch"], r[key])
                    for r in rows
                    if r.get("fold", 0) == fold and _number(r.get(key))
                )
                axes.plot(*_columns(line), color=colour, lw=0.7, alpha=0.35)
            epochs = sorted({epoch for epoch, _ in points})
            means = [float(np.mean([loss for e, loss in points if e == epoch])) for epoch in epochs]
            axes.plot(
                epochs,
                means,
                color=colour,
                lw=2,
                ls=dashes,
                label=name,
                marker="o" if len(epochs) == 1 else None,
            )
        _mark_phases(axes, rows)
        axes.set(xlabel="Epoch", ylabel="Loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        axes.legend(loc="upper right", fontsize=8.5)
    return figure


def label_curve(
    points: Sequence[LabelPoint], metric: str, label: str, model: str, baselines: Sequence[str]
) -> Figure:
    """A metric by the number of labelled people, with intervals; models a little beside each other.

    Args:
        metric: its name.   label: of its axis.   model: ours, as the points name it.
        baselines: names of the others, for their colours; majority is not drawn.
    """
    names = [n for n in points[0].results if n == model or (n in baselines and n != "majority")]
    with style():
        figure = Figure(figsize=(5.8, 3.2))
        axes = figure.subplots()
        for place, name in enumerate(names):
            colour, marker = look(name, model, baselines)
            ours, shift = name == model, 1 + 0.03 * (place - (len(names) - 1) / 2)
            found = [p.metric(name, metric) for p in points]
            at = [p.count * shift for p in points]
            axes.vlines(
                at, [m.low for m in found], [m.high for m in found], color=colour, alpha=0.45
            )
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
        figure.legend(loc="outside upper left", ncols=4, fontsize=8.5)
    return figure


def _tick(point: LabelPoint) -> str:
    return point.label if point.label.isdigit() else f"{point.label}, {point.count:.0f}"


def _mark_phases(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    first: dict[str, float] = {}
    for row in rows:
        name = str(row["phase"])
        first[name] = min(first.get(name, np.inf), float(row["epoch"]))
    for number, (name, epoch) in enumerate(sorted(first.items(), key=lambda item: item[1])):
        if number:
            axes.axvline(epoch - 0.5, color=INK, lw=0.9, ls=":")
        rung = 4 + 11 * (
            number % 3
        )  # neighbours stand on different rungs: a phase may be three epochs of two hundred
        axes.annotate(
            name,
            (epoch - 0.5 if number else epoch, 1),
            (4 if number else 0, rung),
            fontsize=8.5,
            color=MUTED,
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
        )


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.3, 3.3))
    return figure, figure.subplots()


def _rank_within_folds(scores: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Each score's share of its fold's scores that lie below it, ties one half."""
    ranks = np.zeros(len(scores))
    for number in np.unique(fold):
        here = np.flatnonzero(fold == number)
        ordered = np.sort(scores[here])
        ends = (np.searchsorted(ordered, scores[here], side) for side in ("left", "right"))
        ranks[here] = sum(ends) / (2 * len(here))
    return ranks


def _short(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"


def _number(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
