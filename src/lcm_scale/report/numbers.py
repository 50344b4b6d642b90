"""A report's numbers as files: results.json, and the rows of results.csv and predictions.csv."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from lcm_scale.evaluation.results import Report
from lcm_scale.report import conformal_rows
from lcm_scale.report.verdict import verdict


def results(report: Report) -> dict[str, Any]:
    """What results.json holds."""
    data = {k: v for k, v in report.__dict__.items() if k != "targets"}
    data["labels"] = [asdict(point) for point in report.labels]
    data["subgroups"] = [asdict(row) for row in report.subgroups]
    data["confounds"] = [asdict(of_target) for of_target in report.confounds]
    data["permuted"] = report.permuted and asdict(report.permuted)
    data["promises"] = [conformal_rows.told(promise) for promise in report.promises]
    data["verdict"] = asdict(
        verdict(
            next(t for t in report.targets if t.target == report.headline),
            report.simulated,
            report.optimistic,
        )
    )
    data["targets"] = [
        {
            **{
                k: v
                for k, v in t.__dict__.items()
                if k not in ("predictions", "results", "differences")
            },
            "model": t.model,
            "best_baseline": t.best_baseline,
            "verdict": asdict(verdict(t, report.simulated, report.optimistic)),
            "results": {name: [asdict(m) for m in metrics] for name, metrics in t.results.items()},
            "differences": {
                name: [asdict(m) for m in metrics] for name, metrics in t.differences.items()
            },
        }
        for t in report.targets
    ]
    return data


def result_rows(report: Report) -> Iterator[dict[str, Any]]:
    """A row a model and metric, then a row a paired difference and metric."""
    for t in report.targets:
        common = {
            "target": t.target,
            "simulated": report.simulated,
            "confounded": t.confounded or "",
            "optimistic": bool(report.optimistic),
        }
        for model, metrics in t.results.items():
            for m in metrics:
                yield {
                    **common,
                    "model": model,
                    "minus": "",
                    **{"metric" if k == "name" else k: v for k, v in asdict(m).items()},
                }
        for baseline, metrics in t.differences.items():
            for m in metrics:
                yield {
                    **common,
                    "model": t.model,
                    "minus": baseline,
                    **{"metric" if k == "name" else k: v for k, v in asdict(m).items()},
                }


def label_rows(report: Report) -> Iterator[dict[str, Any]]:
    """A row a number of labelled people, model and metric, then its paired differences."""
    for point in report.labels:
        about = {
            "target": report.headline,
            "simulated": report.simulated,
            "labels": point.label,
            "people": point.count,
            "draws": point.draws,
        }
        rows = [(model, "", metrics) for model, metrics in point.results.items()]
        ours = next((name for name in point.results if name not in point.differences), "")
        rows += [(ours, other, metrics) for other, metrics in point.differences.items()]
        for model, minus, metrics in rows:
            for m in metrics:
                values = {"metric" if k == "name" else k: v for k, v in asdict(m).items()}
                yield {**about, "model": model, "minus": minus, **values}


def subgroup_rows(report: Report) -> Iterator[dict[str, Any]]:
    """A row a target and group."""
    for row in report.subgroups:
        about = {
            "target": row.target,
            "simulated": report.simulated,
            "column": row.column,
            "group": row.group,
            "n_scans": row.n_scans,
            "n_subjects": row.n_people,
            "metric": row.metric,
        }
        for name, metric in (("model", row.ours), (row.baseline, row.theirs), ("rest", row.rest)):
            prefix = {"model": "", "rest": "minus_rest_"}.get(name, "baseline_")
            for key in ("value", "low", "high"):
                about[f"{prefix}{key}"] = "" if metric is None else getattr(metric, key)
        yield {**about, "baseline": row.baseline, "p_holm": row.p}


def prediction_rows(report: Report) -> Iterator[dict[str, Any]]:
    """A row a model and held-out scan."""
    for t in report.targets:
        for p in t.predictions:
            for i in range(len(p.truth)):
                row = {
                    "target": p.target,
                    "simulated": report.simulated,
                    "optimistic": bool(report.optimistic),
                    "model": p.model,
                    "fold": p.fold[i],
                    "subject": p.subject[i],
                    "scan": p.scan[i],
                }
                if p.kind == "scalar":
                    yield {
                        **row,
                        "truth": f"{p.truth[i]:.9g}",
                        "predicted": f"{p.scores[i]:.9g}",
                        "scores": "",
                    }
                else:
                    scores = ";".join(
                        f"{c}={s:.9g}" for c, s in zip(p.categories, p.scores[i], strict=True)
                    )
                    truth, predicted = (
                        p.categories[int(p.truth[i])],
                        p.categories[int(p.predicted[i])],
                    )
                    yield {**row, "truth": truth, "predicted": predicted, "scores": scores}


def plain(value: Any) -> Any:
    """Plain JSON: numpy unwrapped, NaN as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
