"""The rows of confounds.csv: what is told of each target without any matrix, and the model's score
among people who are alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lcm_scale.evaluation.metrics import Metric
from lcm_scale.evaluation.results import Report


def confound_rows(report: Report) -> Iterator[dict[str, Any]]:
    """A row a target, covariate and metric; `what` is one of alone, model minus it, model within
    strata, model of the same people, and within minus that."""
    for of_target in report.confounds:
        about = {"target": of_target.target, "simulated": report.simulated}
        for told in of_target.told:
            row = {**about, "covariate": told.by, "unknown": told.unknown, "strata": ""}
            if told.why:
                yield {**row, "what": "alone", **_numbers(None), "note": told.why}
            for what, metrics in (("alone", told.metrics), ("model minus it", told.differences)):
                for metric in metrics:
                    yield {**row, "what": what, **_numbers(metric), "note": ""}
        for within in of_target.within:
            row = {**about, "covariate": within.by, "unknown": "", "strata": within.strata}
            parts = {
                "model within strata": within.within,
                "model of the same people": within.whole,
                "within minus that": within.change,
            }
            if within.why:
                yield {**row, "what": "model within strata", **_numbers(None), "note": within.why}
                continue
            for what, found in parts.items():
                yield {**row, "what": what, **_numbers(found), "note": ""}


def _numbers(m: Metric | None) -> dict[str, Any]:
    if m is None:
        return dict.fromkeys(("metric", "value", "low", "high", "n_scans", "n_subjects"), "")
    return {
        "metric": m.name,
        "value": m.value,
        "low": m.low,
        "high": m.high,
        "n_scans": m.n_scans,
        "n_subjects": m.n_subjects,
    }
