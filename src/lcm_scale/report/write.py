"""The report: one self-contained page whose first sentence is the verdict, and the same numbers as
JSON and CSV.

In come measured targets (metrics, paired differences, predictions) and facts about the run; out go
`report.html`, `results.json`, `results.csv`, `predictions.csv` and `figures/*.png`. The page needs
no script and no other file. Whatever is simulated or confounded says so in the title, in every
table and in every figure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from lcm_scale.csv_text import csv_text
from lcm_scale.evaluation.calibrate import UNCALIBRATED
from lcm_scale.evaluation.metrics import METRICS, Predictions
from lcm_scale.evaluation.results import Report, TargetResult
from lcm_scale.evaluation.subgroups import LEAST_PEOPLE
from lcm_scale.files import write_atomic
from lcm_scale.report import numbers, pages, pictures, plots, wording
from lcm_scale.report.conformal_rows import conformal_rows
from lcm_scale.report.confound_rows import confound_rows
from lcm_scale.report.verdict import verdict

TRAINING = "learning-curve"  # stems of the figures that belong to no target's section
LABELS = "label-curve"


def write_report(report: Report, folder: Path) -> Path:
    """Write the page, its figures and the numbers into `folder`, each file whole or not at all, the
    page last.

    Returns: the path of ``report.html``.  Raises: InputError where the folder cannot be written.
    """
    figures = list(_figures(report))
    _write_figures(figures, folder / "figures")
    results = json.dumps(
        numbers.plain(numbers.results(report)), indent=1, ensure_ascii=False, allow_nan=False
    )
    write_atomic(folder / "results.json", results.encode())
    write_atomic(folder / "results.csv", csv_text(numbers.result_rows(report)).encode())
    write_atomic(folder / "predictions.csv", csv_text(numbers.prediction_rows(report)).encode())
    beside = {
        "subgroups.csv": list(numbers.subgroup_rows(report)),
        "confounds.csv": list(confound_rows(report)),
        "conformal.csv": list(conformal_rows(report)),
        "labels.csv": list(numbers.label_rows(report)),
    }
    for name, rows in beside.items():
        if rows:
            write_atomic(folder / name, csv_text(rows).encode())
        else:  # of an earlier report that was asked for it
            (folder / name).unlink(missing_ok=True)
    page = folder / "report.html"
    write_atomic(page, _render(report, figures).encode())
    return page


def _render(report: Report, figures: Sequence[Drawn]) -> str:
    """The page as HTML, every text escaped."""
    templates = pages.environment(
        cell=wording.cell,
        label=wording.label,
        fact=wording.fact,
        words=wording.words,
        better=wording.better,
        first=wording.first_upper,
        whole=wording.whole,
        p=wording.p_value,
        permutation=wording.permutation,
        digits=wording.digits,
    )
    images: dict[str, list[Markup]] = {}
    for drawn in figures:
        images.setdefault(drawn.target, []).append(pictures.image(drawn.figure, drawn.alt))
    ordered = sorted(report.targets, key=lambda t: t.target != report.headline)
    return templates.get_template("report.html.j2").render(
        report=report,
        targets=ordered,
        headline=ordered[0],
        verdicts={t.target: verdict(t, report.simulated, report.optimistic) for t in ordered},
        images=images,
        few=next((pictures.image(d.figure, d.alt) for d in figures if d.stem == LABELS), None),
        curve=pictures.image(figures[-1].figure, figures[-1].alt) if report.curves else None,
        by_fold=any("fold" in row for row in report.curves),
        audit=[
            wording.audit_row(row, {t.target: (t.kind, t.unit) for t in report.targets})
            for row in report.pseudo_labels
        ],
        audit_heads=[
            wording.AUDIT.get(key, wording.first_upper(wording.words(key)))
            for key in (report.pseudo_labels or [{}])[0]
        ],
        quality=wording.quality(report.quality),
        metrics=METRICS,
        least=LEAST_PEOPLE,
        warning=plots.WARNING,
        blue=plots.MODEL,
    )


# -- figures ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A figure: `stem` of its file, the `target` it belongs to ('': training), `alt` for those who
    cannot see it."""

    stem: str
    target: str
    figure: Figure
    alt: str


def _figures(report: Report) -> Iterator[Drawn]:
    """Target by target, the learning curve last."""
    for t in report.targets:
        words = _stamped(report, t.confounded)
        for name, figure in _target_figures(t):
            yield Drawn(
                f"{t.target}-{name}",
                t.target,
                plots.stamp(figure, words),
                f"{name} of {t.target}. {words}".strip(),
            )
    if report.labels:
        yield _label_figure(report)
    if report.curves:
        figure = plots.learning_curve(report.curves)
        yield Drawn(
            TRAINING,
            "",
            plots.stamp(figure, _stamped(report, None)),
            "loss by epoch",
        )


def _stamped(report: Report, confounded: str | None) -> str:
    """What every figure of the report, or of a target, says of itself."""
    words = {
        "SIMULATED": report.simulated,
        "OPTIMISTIC": report.optimistic,
        "CONFOUNDED": confounded,
    }
    return "   ".join(word for word, on in words.items() if on)


def _label_figure(report: Report) -> Drawn:
    t = next(t for t in report.targets if t.target == report.headline)
    kind = METRICS[t.kind][t.deciding]
    baselines = [name for name in t.differences if name not in t.parts]
    label = f"{kind.label} (95 % interval)"
    figure = plots.label_curve(report.labels, t.deciding, label, t.model, baselines)
    words = _stamped(report, t.confounded)
    return Drawn(LABELS, "", plots.stamp(figure, words), f"{t.target} by labelled people. {words}")


def _target_figures(t: TargetResult) -> Iterator[tuple[str, Figure]]:
    once = [p.once() for p in t.predictions]
    ours = next((p for p in once if p.model == t.model), None)
    baselines = [wording.label(name) for name in t.differences]
    drawn = [t.deciding] + [
        m for m in ("auroc", "accuracy", "r2") if m in METRICS[t.kind] and m != t.deciding
    ]
    for name in drawn:
        kind = METRICS[t.kind][name]
        rows = {
            wording.label(model): t.metric(model, name)
            for model in t.results
            if model != UNCALIBRATED
        }
        rows = {model: m for model, m in rows.items() if math.isfinite(m.value)}
        no_skill = t.metric("majority", name).value if "majority" in t.results else None
        if rows:
            unit = t.unit if name == "mae" else ""
            label = f"{kind.label}{f', {unit}' if unit else ''} (95 % interval)"
            yield (
                f"comparison-{name}",
                plots.comparison(rows, label, no_skill, t.model, baselines, wording.places(kind)),
            )
    if ours is None:
        return
    if t.kind == "scalar":
        yield (
            "scatter",
            plots.scatter(ours, f"({t.unit})" if t.unit else ""),
        )
        return
    if len(np.unique(ours.truth)) == 2:
        curves = [p for p in once if p.model not in ("majority", UNCALIBRATED)]
        yield "roc", plots.roc([_renamed(p) for p in curves], t.model, baselines)
    yield "confusion", plots.confusion(ours)
    yield "calibration", plots.calibration(ours)
    for plain in (p for p in once if p.model == UNCALIBRATED):
        figure = plots.calibration(plain)
        with plots.style():
            figure.axes[0].set_title("Not calibrated")
        yield "not-calibrated", figure


def _renamed(p: Predictions) -> Predictions:
    return replace(p, model=wording.label(p.model))


def _write_figures(figures: Sequence[Drawn], folder: Path) -> None:
    written = set()
    for drawn in figures:
        path = folder / pictures.file_name(f"{drawn.stem}.png")
        write_atomic(path, pictures.png(drawn.figure))
        written.add(path.name)
    for old in folder.glob("*.png"):
        if old.name not in written:  # of an earlier report with other targets
            old.unlink()
