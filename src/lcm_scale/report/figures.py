"""All figures of a report, each with the rows that it shows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from lcm_scale.evaluation.calibrate import UNCALIBRATED
from lcm_scale.evaluation.metrics import METRICS, Metric, Predictions
from lcm_scale.evaluation.results import Report, TargetResult
from lcm_scale.report import curves, prediction_plots, style, wording
from lcm_scale.report.forest import Line, Panel, forest
from lcm_scale.report.pictures import Drawn
from lcm_scale.report.prediction_plots import Rows

TRAINING, LABELS = "learning-curves", "label-curve"  # stems of those that belong to no target


def figures_of(report: Report) -> Iterator[Drawn]:
    """Target by target, the curves last."""
    for t in report.targets:
        words = _stamped(report, t.confounded)
        for name, figure, rows in _of_target(t):
            alt = f"{name} of {t.target}. {words}".strip()
            stamped = style.stamp(figure, words)
            yield Drawn(f"{t.target}-{name}", stamped, rows, alt, t.target)
    if report.labels:
        yield _label_figure(report)
    if report.curves:
        words = _stamped(report, None)
        wide, narrow = (
            style.stamp(curves.learning_curves(report.curves, columns), words)
            for columns in (curves.MOST_COLUMNS, 2)
        )
        alt = f"Loss by epoch, a panel a fold. {words}".strip()
        yield Drawn(TRAINING, wide, report.curves, alt, narrow=narrow)


def _stamped(report: Report, confounded: str | None) -> str:
    """What every figure of the report, or of a target, says of itself."""
    return wording.stamped(report.simulated, confounded, report.optimistic)


def _label_figure(report: Report) -> Drawn:
    t = next(t for t in report.targets if t.target == report.headline)
    label = f"{METRICS[t.kind][t.deciding].label} (95 % interval)"
    baselines = [name for name in t.differences if name not in t.parts]
    figure, rows = curves.label_curve(report.labels, t.deciding, label, t.model, baselines)
    words = _stamped(report, t.confounded)
    return Drawn(
        LABELS, style.stamp(figure, words), rows, f"{t.target} by labelled people. {words}"
    )


def _of_target(t: TargetResult) -> Iterator[tuple[str, Figure, Rows]]:
    once = [p.once() for p in t.predictions]
    ours = next((p for p in once if p.model == t.model), None)
    baselines = [wording.label(name) for name in t.differences]
    drawn = [t.deciding] + [
        m for m in ("auroc", "accuracy", "r2") if m in METRICS[t.kind] and m != t.deciding
    ]
    for name in drawn:
        shown = {
            model: t.metric(model, name)
            for model in t.results
            if model != UNCALIBRATED and math.isfinite(t.metric(model, name).value)
        }
        if shown:
            yield f"comparison-{name}", *comparison(t, name, shown)
    if ours is None:
        return
    if t.kind == "scalar":
        yield "scatter", *prediction_plots.scatter(ours, f"({t.unit})" if t.unit else "")
        return
    if len(np.unique(ours.truth)) == 2:
        lines = [_renamed(p) for p in once if p.model not in ("majority", UNCALIBRATED)]
        yield "roc", *prediction_plots.roc(lines, t.model, baselines)
    yield "confusion", *prediction_plots.confusion(ours)
    yield "calibration", *prediction_plots.calibration(ours)
    for plain in (p for p in once if p.model == UNCALIBRATED):
        yield "not-calibrated", *prediction_plots.calibration(plain, "Not calibrated")


def comparison(t: TargetResult, name: str, shown: dict[str, Metric]) -> tuple[Figure, Rows]:
    """One metric of the model and the baselines: a dot and its 95 % interval each, dashes where
    there is no skill.

    Args: name: the metric's.   shown: model -> that metric, top to bottom.
    """
    kind, unit = METRICS[t.kind][name], t.unit if name == "mae" else ""
    lines = []
    for model, metric in shown.items():
        colour, marker = style.look(model, t.model, list(t.differences))
        text = wording.digits(metric.value, kind)
        ours = model == t.model
        lines.append(Line(wording.label(model), metric, text, colour, marker, ours))
    no_skill = t.metric("majority", name).value if "majority" in t.results else None
    label = f"{kind.label}{f', {unit}' if unit else ''} (95 % interval)"
    rows = [
        {"model": model, "metric": name, "value": m.value, "low": m.low, "high": m.high}
        for model, m in shown.items()
    ]
    return forest([Panel(lines, label, no_skill)]), rows


def _renamed(p: Predictions) -> Predictions:
    return replace(p, model=wording.label(p.model))
