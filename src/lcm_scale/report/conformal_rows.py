"""Sets and intervals with a promise as numbers: the rows of conformal.csv, and what results.json
says of each target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from lcm_scale.evaluation.conformal import Promise
from lcm_scale.evaluation.results import Report


def conformal_rows(report: Report) -> Iterator[dict[str, Any]]:
    """A row a target and held-out scan; classes of a set are parted by ';'."""
    for promise in report.promises:
        p = promise.predictions
        for i in range(len(p.truth)):
            row = {
                "target": promise.target,
                "simulated": report.simulated,
                "promise": f"{1 - promise.alpha:.9g}",
                "fold": p.fold[i],
                "subject": p.subject[i],
                "scan": p.scan[i],
            }
            if promise.held is not None:
                inside = ";".join(
                    c for c, held in zip(p.categories, promise.held[i], strict=True) if held
                )
                row |= {
                    "truth": p.categories[int(p.truth[i])],
                    "set": inside,
                    "low": "",
                    "high": "",
                }
            elif promise.low is not None and promise.high is not None:
                ends = {"low": f"{promise.low[i]:.9g}", "high": f"{promise.high[i]:.9g}"}
                row |= {"truth": f"{p.truth[i]:.9g}", "set": "", **ends}
            yield {**row, "covered": bool(promise.covered[i])}


def told(promise: Promise) -> dict[str, Any]:
    """Without a row a scan."""
    return {
        "target": promise.target,
        "promise": 1 - promise.alpha,
        "people_of_a_fold": promise.people,
        "coverage": asdict(promise.coverage),
        "size": asdict(promise.size),
        "by_class": {name: asdict(metric) for name, metric in promise.by_class.items()},
    }
