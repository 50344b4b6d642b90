"""What follows from a fitted law: the best size for each amount of FLOPs, ways to go on, and where
the metrics saturate.

All of it holds within the sizes, people and FLOPs that were run; nothing is drawn beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcm_scale.config import FitConfig
from lcm_scale.errors import InputError
from lcm_scale.evaluation.metrics import METRICS
from lcm_scale.laws.collect import Configuration, runs_of
from lcm_scale.laws.fit import (
    Fit,
    Interval,
    check,
    drop,
    fit,
    objective_at,
    profile_interval,
    threshold,
)
from lcm_scale.laws.laws import LAWS, Runs

SIMULATIONS = 150  # of each way to go on


@dataclass(frozen=True)
class Frontier:
    """The best size for each amount of FLOPs, with all people at hand: (n,) each, the band 95 % of
    the bootstrap."""

    flops: np.ndarray
    parameters: np.ndarray
    low: np.ndarray
    high: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True)
class MetricFit:
    """A metric's own law: where it saturates, and whether the size matters to it at all."""

    target: str
    metric: str
    ceiling: float
    ceiling_interval: Interval
    size_matters: bool
    best_model: float
    best_baseline: float | None
    baseline: str


@dataclass(frozen=True)
class Option:
    """A way to go on: how wide E's interval would be, by simulation from the fit."""

    what: str
    runs: int
    width: float


def frontier(
    fitted: Fit, rows: Sequence[Configuration], draws: np.ndarray, points: int = 40
) -> Frontier:
    """The size with the lowest loss at each amount of training FLOPs, within the sizes and FLOPs
    that were run.

    FLOPs a scan follow the rows' own counts (a power of N between them); all people at hand are
    used, epochs follow.
    """
    n = fitted.runs.parameters
    slope, intercept = np.polyfit(
        np.log(n), np.log([r.flops / (r.scans * r.epochs) for r in rows]), 1
    )
    grid = np.geomspace(n.min(), n.max(), 200)
    flops = np.geomspace(min(r.flops for r in rows), max(r.flops for r in rows), points)
    unique = float(fitted.runs.unique.max())
    seen = flops[:, None] / np.exp(intercept + slope * np.log(grid))

    def best(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = seen.shape
        flat = seen.ravel()
        runs = Runs(
            np.ones(flat.size),
            np.broadcast_to(grid, shape).ravel(),
            flat,
            np.minimum(flat, unique),
            np.maximum(1.0, flat / unique),
            np.arange(flat.size),
        )
        loss = fitted.law.predict(runs, fitted.scale, values).reshape(shape)
        at = loss.argmin(1)
        return grid[at], loss[np.arange(len(at)), at]

    sizes, losses = best(fitted.values)
    band = np.array([best(values)[0] for values in draws])
    low, high = np.percentile(band, [2.5, 97.5], axis=0)
    return Frontier(flops, sizes, low, high, losses)


def options(fitted: Fit) -> list[Option]:
    """Ways to go on, by how wide they would leave E: simulated from the fit, with its noise."""
    runs = fitted.runs
    top, most = runs.parameters == runs.parameters.max(), runs.seen >= np.quantile(runs.seen, 0.75)
    larger, longer = runs.take(top), runs.take(most)
    ways = {
        "as it stands": runs,
        "every run with another seed": _joined(runs, runs),
        "a size three times the largest, on the same data": _joined(
            runs,
            Runs(
                larger.loss,
                larger.parameters * 3,
                larger.seen,
                larger.unique,
                larger.epochs,
                larger.cluster,
            ),
        ),
        "three times the people, for the best-fed quarter of the runs": _joined(
            runs,
            Runs(
                longer.loss,
                longer.parameters,
                longer.seen * 3,
                longer.unique * 3,
                longer.epochs,
                longer.cluster,
            ),
        ),
    }
    return [
        Option(what, len(more) - len(runs), _spread_of_e(fitted, more))
        for what, more in ways.items()
    ]


def metric_fits(
    rows: Sequence[Configuration], baselines: Sequence[Configuration], config: FitConfig
) -> list[MetricFit]:
    """The saturating law of every AUROC and R2 that the runs have."""
    law = LAWS["saturating"]
    ideal = {name: kind.ideal for metrics in METRICS.values() for name, kind in metrics.items()}
    keys = [k for k in (rows[0].metrics if rows else {}) if k[1] in ("auroc", "r2")]
    out = []
    for key in keys:
        have = [r for r in rows if key in r.metrics]
        runs = runs_of(have, config.parameters, config.data, config.epoch)
        short = runs.with_loss(
            np.maximum(1e-4, ideal[key[1]] - np.array([r.metrics[key] for r in have]))
        )
        try:
            check(law, short)
        except InputError:
            continue
        fitted = fit(law, short)
        e = profile_interval(fitted, "E")
        without_size = drop(fitted, objective_at(fitted, "A", 0.0)[0]) <= threshold(fitted)
        theirs = {b.name: b.metrics[key] for b in baselines if key in b.metrics}
        best = max(theirs, key=theirs.__getitem__, default="")
        out.append(
            MetricFit(
                key[0],
                key[1],
                1 - fitted.named["E"],
                Interval(1 - e.high, 1 - e.low, e.bounded_above, e.bounded_below),
                not without_size,
                max(r.metrics[key] for r in have),
                theirs.get(best),
                best,
            )
        )
    return out


def _spread_of_e(fitted: Fit, design: Runs) -> float:
    clean = fitted.law.predict(design, fitted.scale, fitted.values)
    rng = np.random.default_rng(0)
    found = [
        fit(
            fitted.law,
            design.with_loss(clean * np.exp(fitted.sigma * rng.standard_normal(len(design)))),
            fitted.scale,
        ).named["E"]
        for _ in range(SIMULATIONS)
    ]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(high - low)


def _joined(a: Runs, b: Runs) -> Runs:
    return Runs(
        *(np.concatenate([getattr(a, name), getattr(b, name)]) for name in a.__dataclass_fields__)
    )
