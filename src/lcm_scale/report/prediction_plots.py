"""Figures of what was predicted of held-out scans: ROC, confusion, calibration, scatter.

Predictions in; out go a Figure and the rows that it shows, for the CSV beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from lcm_scale.evaluation.metrics import CALIBRATION_BINS, Predictions
from lcm_scale.report import style

Rows = list[dict[str, Any]]
MANY = 8  # classes, from which on their names and numbers are small
LONG = 20  # characters of a name, of which no two stand beside each other in a legend


def roc(
    predictions: Sequence[Predictions], model: str, baselines: Sequence[str]
) -> tuple[Figure, Rows]:
    """ROC curves of a two-class target; scores of a fold are ranked within it before folds are
    joined, as AUROC is."""
    rows: Rows = []
    columns = 1 if max(len(p.model) for p in predictions) > LONG else 2
    below = 0.16 * -(-len(predictions) // columns)  # inches, of the legend
    with style.style():
        figure = Figure(figsize=(style.SQUARE, style.SQUARE + below))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=style.MUTED, lw=1, ls=(0, (4, 3)))
        for p in sorted(predictions, key=lambda p: p.model == model):
            present = np.unique(p.truth).astype(np.int64)
            rank = _rank_within_folds(p.scores[:, present[1]], p.fold)
            false_rate, true_rate, _ = roc_curve(p.truth == present[1], rank)
            names = ("false_positive_rate", "true_positive_rate")
            points = zip(false_rate, true_rate, strict=True)
            rows += [{"model": p.model, **dict(zip(names, at, strict=True))} for at in points]
            colour, _ = style.look(p.model, model, baselines)
            axes.plot(
                false_rate,
                true_rate,
                color=colour,
                lw=2.2 if p.model == model else 1.4,
                ls="-" if p.model in (model, *baselines) else ":",
                label=p.model,
            )
        axes.set(xlabel="False positive rate", ylabel="True positive rate", title="ROC")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        # Below the axes, where it covers no curve.
        figure.legend(loc="outside lower left", ncols=columns, fontsize=8)
    return figure, rows


def confusion(p: Predictions) -> tuple[Figure, Rows]:
    """Shares of each true class by predicted class, in percent; classes that never occur are left
    out."""
    present = np.unique(np.concatenate([p.truth.astype(np.int64), p.predicted]))
    counts = (p.truth.astype(np.int64)[:, None, None] == present[:, None]) & (
        p.predicted[:, None, None] == present
    )
    table = counts.sum(0)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    names = [_short(p.categories[c]) for c in present]
    with style.style():
        size = style.SQUARE + 0.14 * max(0, len(present) - 4)
        figure = Figure(figsize=(size, size))
        axes = figure.subplots()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1.15)
        small = len(present) > MANY
        for i, j in np.ndindex(*share.shape):
            if table[i, j] and not (small and share[i, j] < 0.095):
                axes.text(
                    j,
                    i,
                    f"{100 * share[i, j]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=6 if small else 9.5,
                    color="white" if share[i, j] > 0.6 else style.INK,
                )
        ticks = range(len(present))
        axes.set_xticks(ticks, names, rotation=90 if small else 0, fontsize=7 if small else 9)
        of = [f"{n} ({k})" for n, k in zip(names, table.sum(1), strict=True)]
        axes.set_yticks(ticks, of, fontsize=7 if small else 9)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="Predicted", ylabel="True (scans)", title="Confusion, % of true class")
    rows = [
        {
            "true": p.categories[present[i]],
            "predicted": p.categories[present[j]],
            "scans": int(table[i, j]),
            "share_of_true": share[i, j],
        }
        for i, j in np.ndindex(*table.shape)
    ]
    return figure, rows


def scatter(p: Predictions, unit: str) -> tuple[Figure, Rows]:
    """True against predicted values of a scalar target, with the line of identity."""
    with style.style():
        figure, axes = _square()
        low = float(min(p.truth.min(), p.scores.min()))
        high = float(max(p.truth.max(), p.scores.max()))
        axes.plot([low, high], [low, high], color=style.MUTED, lw=1, ls=(0, (4, 3)))
        axes.plot(p.truth, p.scores, "o", color=style.MODEL, ms=3.2, alpha=0.45, mew=0)
        axes.set(
            xlabel=f"True {p.target} {unit}".strip(),
            ylabel=f"Predicted {p.target} {unit}".strip(),
            title="Held-out scans",
        )
        axes.grid()
    columns = {"fold": p.fold, "subject": p.subject, "scan": p.scan}
    columns |= {"truth": p.truth, "predicted": p.scores}
    values = zip(*columns.values(), strict=True)
    return figure, [dict(zip(columns, each, strict=True)) for each in values]


def calibration(p: Predictions, title: str = "Calibration") -> tuple[Figure, Rows]:
    """Share of right predictions against stated confidence, in the bins of the calibration
    error."""
    confidence = p.scores.max(1)
    right = p.predicted == p.truth
    bins = np.clip(
        np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1
    )
    used = np.unique(bins)
    x = [float(confidence[bins == b].mean()) for b in used]
    y = [float(right[bins == b].mean()) for b in used]
    counts = np.array([(bins == b).sum() for b in used])
    with style.style():
        figure, axes = _square()
        axes.plot([0, 1], [0, 1], color=style.MUTED, lw=1, ls=(0, (4, 3)))
        axes.plot(x, y, color=style.MODEL, lw=1.4)
        axes.scatter(
            x,
            y,
            s=18 + 220 * counts / counts.sum(),
            color=style.MODEL,
            edgecolor="white",
            linewidth=0.8,
            zorder=3,
            clip_on=False,
        )
        axes.set(xlabel="Confidence", ylabel="Share right", title=title)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
        axes.grid()
    rows = zip(x, y, counts, strict=True)
    return figure, [{"confidence": a, "share_right": b, "scans": int(n)} for a, b, n in rows]


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(style.SQUARE, style.SQUARE))
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
