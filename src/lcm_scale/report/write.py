"""The report: one self-contained page whose first sentence is the verdict, and the same numbers as
JSON and CSV.

In come measured targets (metrics, paired differences, predictions) and facts about the run; out go
`report.html`, `results.json`, `results.csv`, `predictions.csv` and `figures/*.png`. The page needs
no script and no other file. Whatever is simulated or confounded says so in the title, in every
table and in every figure.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

from lcm_scale.csv_text import csv_text
from lcm_scale.evaluation.metrics import METRICS, Predictions
from lcm_scale.evaluation.results import Report, TargetResult
from lcm_scale.files import write_atomic
from lcm_scale.report import plots, wording

PNG_DPI = 160
TRAINING = "learning-curve"  # stem of the one figure that belongs to no target


@dataclass(frozen=True)
class Verdict:
    """`standing` is ahead, behind, level or alone (no baseline); `certain`: the paired interval
    excludes zero."""

    standing: str
    certain: bool
    sentence: str
    detail: str


def write_report(report: Report, folder: Path) -> Path:
    """Write the page, its figures and the numbers into `folder`, each file whole or not at all, the
    page last.

    Returns: the path of ``report.html``.  Raises: InputError where the folder cannot be written.
    """
    figures = list(_figures(report))
    _write_figures(figures, folder / "figures")
    results = json.dumps(_plain(_results(report)), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / "results.json", results.encode())
    write_atomic(folder / "results.csv", csv_text(_result_rows(report)).encode())
    write_atomic(folder / "predictions.csv", csv_text(_prediction_rows(report)).encode())
    page = folder / "report.html"
    write_atomic(page, _render(report, figures).encode())
    return page


def _render(report: Report, figures: Sequence[Drawn]) -> str:
    """The page as HTML, every text escaped."""
    template = (resources.files("lcm_scale.report") / "report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        cell=wording.cell,
        label=wording.label,
        fact=wording.fact,
        words=wording.words,
        better=wording.better,
        first=wording.first_upper,
        whole=wording.whole,
    )
    images: dict[str, list[Markup]] = {}
    for drawn in figures:
        images.setdefault(drawn.target, []).append(_image(drawn.figure, drawn.alt))
    ordered = sorted(report.targets, key=lambda t: t.target != report.headline)
    return environment.from_string(template).render(
        report=report,
        targets=ordered,
        headline=ordered[0],
        verdicts={t.target: verdict(t, report.simulated) for t in ordered},
        images=images,
        curve=_image(figures[-1].figure, figures[-1].alt) if report.curves else None,
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
        warning=plots.WARNING,
        blue=plots.MODEL,
    )


def verdict(t: TargetResult, simulated: bool = False) -> Verdict:
    """Who wins on a target, in plain words: the point estimate says who leads, the paired interval
    whether it may be luck."""
    kind = METRICS[t.kind][t.deciding]
    ours = t.metric(t.model, t.deciding)
    where = (
        f"{wording.words(t.target)} ({ours.n_scans} {'simulated ' if simulated else ''}scans, "
        f"{ours.n_subjects} people)"
    )
    label = kind.label if kind.label[:2].isupper() else kind.label[0].lower() + kind.label[1:]
    best = t.best_baseline
    if best is None:
        return Verdict(
            "alone",
            False,
            f"On {where} {t.model} has {label} {wording.show(ours, kind)}.",
            "No baseline was run.",
        )
    theirs, difference = t.metric(best, t.deciding), t.differences[best]
    lead = difference.value if kind.higher_is_better else -difference.value
    certain = difference.low > 0 or difference.high < 0
    mine, other = f"{t.model} has {wording.show(ours, kind)}", f"{wording.show(theirs, kind)}"
    name = wording.baseline_phrase(best, t.kind)
    if lead < 0:
        verb = "beats" if certain else "is ahead of"
        sentence = (
            f"A plain baseline {verb} {t.model} on {where}: {name} has {label} {other}, {mine}."
        )
    elif lead > 0:
        verb = "beats" if certain else "is ahead of"
        sentence = (
            f"{t.model} {verb} the best baseline on {where}: {label} "
            f"{wording.show(ours, kind)}, {name} {other}."
        )
    else:
        sentence = (
            f"{t.model} is level with the best baseline on {where}: both have {label} "
            f"{wording.show(ours, kind)}."
        )
    ending = (
        "it excludes zero, so the lead is hardly an accident of who was scanned"
        if certain
        else ("it includes zero, so who leads may be an accident of who was scanned")
    )
    detail = (
        f"The paired difference, {t.model} minus {name}, is "
        f"{wording.show(difference, kind, signed=True)}: {ending}."
    )
    return Verdict(
        "behind" if lead < 0 else "ahead" if lead > 0 else "level", certain, sentence, detail
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
        words = "   ".join(
            w for w, on in (("SIMULATED", report.simulated), ("CONFOUNDED", t.confounded)) if on
        )
        for name, figure in _target_figures(t):
            yield Drawn(
                f"{t.target}-{name}",
                t.target,
                plots.stamp(figure, words),
                f"{name} of {t.target}. {words}".strip(),
            )
    if report.curves:
        figure = plots.learning_curve(report.curves)
        yield Drawn(
            TRAINING,
            "",
            plots.stamp(figure, "SIMULATED" if report.simulated else ""),
            "loss by epoch",
        )


def _target_figures(t: TargetResult) -> Iterator[tuple[str, Figure]]:
    ours = next((p for p in t.predictions if p.model == t.model), None)
    baselines = [wording.label(name) for name in t.differences]
    drawn = [t.deciding] + [m for m in ("auroc", "r2") if m in METRICS[t.kind] and m != t.deciding]
    for name in drawn:
        kind = METRICS[t.kind][name]
        rows = {wording.label(model): t.metric(model, name) for model in t.results}
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
        curves = [p for p in t.predictions if p.model != "majority"]
        yield "roc", plots.roc([_renamed(p) for p in curves], t.model, baselines)
    yield "confusion", plots.confusion(ours)
    yield "calibration", plots.calibration(ours)


def _renamed(p: Predictions) -> Predictions:
    return Predictions(**{**p.__dict__, "model": wording.label(p.model)})


def _image(figure: Figure, alt: str) -> Markup:
    buffer = io.BytesIO()
    with plots.style():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    width = round(figure.get_figwidth() * 96)
    return Markup('<img src="data:image/svg+xml;base64,{}" alt="{}" width="{}">').format(
        data, alt, width
    )


def _write_figures(figures: Sequence[Drawn], folder: Path) -> None:
    written = set()
    for drawn in figures:
        buffer = io.BytesIO()
        with plots.style():
            drawn.figure.savefig(buffer, format="png", dpi=PNG_DPI)
        path = folder / _file_name(f"{drawn.stem}.png")
        write_atomic(path, buffer.getvalue())
        written.add(path.name)
    for old in folder.glob("*.png"):
        if old.name not in written:  # of an earlier report with other targets
            old.unlink()


def _file_name(name: str) -> str:
    """Letters, digits, '-', '_' and '.', so that a target's name never leaves the folder."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")


# -- numbers as files ------------------------------------------------------------------------------


def _results(report: Report) -> dict[str, Any]:
    data = {k: v for k, v in report.__dict__.items() if k != "targets"}
    data["verdict"] = asdict(
        verdict(next(t for t in report.targets if t.target == report.headline), report.simulated)
    )
    data["targets"] = [
        {
            **{
                k: v
                for k, v in t.__dict__.items()
                if k not in ("predictions", "results", "differences")
            },
            "model": t.model,
            "results": {name: [asdict(m) for m in metrics] for name, metrics in t.results.items()},
            "differences": {name: asdict(m) for name, m in t.differences.items()},
        }
        for t in report.targets
    ]
    return data


def _result_rows(report: Report) -> Iterator[dict[str, Any]]:
    for t in report.targets:
        common = {
            "target": t.target,
            "simulated": report.simulated,
            "confounded": t.confounded or "",
        }
        for model, metrics in t.results.items():
            for m in metrics:
                yield {
                    **common,
                    "model": model,
                    "minus": "",
                    **{"metric" if k == "name" else k: v for k, v in asdict(m).items()},
                }
        for baseline, m in t.differences.items():
            yield {
                **common,
                "model": t.model,
                "minus": baseline,
                **{"metric" if k == "name" else k: v for k, v in asdict(m).items()},
            }


def _prediction_rows(report: Report) -> Iterator[dict[str, Any]]:
    for t in report.targets:
        for p in t.predictions:
            for i in range(len(p.truth)):
                row = {
                    "target": p.target,
                    "simulated": report.simulated,
                    "model": p.model,
                    "fold": p.fold[i],
                    "subject": p.subject[i],
                    "scan": p.scan[i],
                }
                if p.kind == "scalar":
                    yield {
                        **row,
                        "truth": f"{p.truth[i]:.6g}",
                        "predicted": f"{p.scores[i]:.6g}",
                        "scores": "",
                    }
                else:
                    scores = ";".join(
                        f"{c}={s:.5f}" for c, s in zip(p.categories, p.scores[i], strict=True)
                    )
                    truth, predicted = (
                        p.categories[int(p.truth[i])],
                        p.categories[int(p.predicted[i])],
                    )
                    yield {**row, "truth": truth, "predicted": predicted, "scores": scores}


def _plain(value: Any) -> Any:
    """Plain JSON: numpy unwrapped, NaN as null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
