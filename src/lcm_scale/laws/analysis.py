"""What a sweep says: which law foretells the largest size, how sure its coefficients are, and what
may not be concluded.

The law is chosen by what it foretells: fitted without the largest size, it must meet the losses
there. `data`, in which size does nothing, is among the candidates. A compute-optimal frontier is
refused where the runs do not hold one: where E's interval covers nearly all of the smallest loss,
or the term of the size may be zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lcm_scale.config import FitConfig
from lcm_scale.errors import InputError
from lcm_scale.evaluation.metrics import METRICS
from lcm_scale.laws.collect import Collected, Ensemble, Row, best_rates, ensembles, runs_of
from lcm_scale.laws.fit import (
    Fit,
    Interval,
    bootstrap,
    check,
    drop,
    fit,
    objective_at,
    percentile_interval,
    profile_interval,
    threshold,
)
from lcm_scale.laws.laws import LAWS, Law, Runs, law_of, raw_coefficients
from lcm_scale.progress import stage

NEARLY_ALL = 0.8  # of the smallest loss, covered by E's interval
NO_DIFFERENCE = 0.02  # laws whose errors lie so close are told apart by their number of parameters
SIMULATIONS = 150


@dataclass(frozen=True)
class Candidate:
    """A law, by the root mean square of its log-errors: on the runs it saw, and on the largest
    size, which it did not see."""

    law: str
    inside: float
    foretold: float
    reason: str = ""  # why it was not fitted


@dataclass(frozen=True)
class Coefficient:
    name: str
    value: float
    profile: Interval
    bootstrap: Interval


@dataclass(frozen=True)
class Influence:
    """What leaving one run out does to E, in half-widths of its interval."""

    name: str
    e_without: float
    shift: float


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


@dataclass(frozen=True)
class Against:
    """At one number of people and share of them labelled: the best size against the best
    baseline."""

    people: int
    label_share: float
    size: str
    loss: float
    baseline: str
    baseline_loss: float
    chance: float


@dataclass(frozen=True)
class LawFit:
    """The law that was chosen, and what follows from it.

    Attributes:
        refused: why there is no frontier, or ''.
        other_count: coefficients with N counted the other way (body instead of all, or the
            reverse).
    """

    runs: Runs
    candidates: tuple[Candidate, ...]
    fitted: Fit
    coefficients: tuple[Coefficient, ...]
    raw: Mapping[str, float]
    other_count: Mapping[str, float]
    influence: tuple[Influence, ...]
    frontier: Frontier | None
    refused: str
    options: tuple[Option, ...]
    metrics: tuple[MetricFit, ...]
    draws: np.ndarray


@dataclass(frozen=True)
class Analysis:
    """Everything `sweep fit` found.

    Attributes:
        rows: that a law may see.   passed_over: rows of other rates that were not the best, or of
            fewer labels.
        law: None where a sweep of rates or of labels holds too little for one;   unfitted: says
            what.
    """

    collected: Collected
    rows: tuple[Row, ...]
    passed_over: int
    against: tuple[Against, ...]
    ensembles: tuple[Ensemble, ...]
    law: LawFit | None
    unfitted: str


def analyse(collected: Collected) -> Analysis:
    """Fit a collected sweep.

    Raises: InputError where there are too few runs for every law, saying how many more; unless the
        sweep asks for
        something else: which rate is best, or what labels are worth.
    """
    rows, passed_over = best_rates(collected.rows)
    law, unfitted = None, ""
    try:
        law = fit_laws(collected, rows)
    except InputError as error:
        if (
            collected.sweep.recipe.design != "lr_transfer"
            and len({r.label_share for r in collected.rows}) == 1
        ):
            raise
        unfitted = str(error).partition(": ")[2]
    return Analysis(
        collected,
        tuple(rows),
        passed_over,
        tuple(against(collected.rows, collected.baselines)),
        tuple(ensembles(collected)),
        law,
        unfitted,
    )


def fit_laws(collected: Collected, rows: Sequence[Row]) -> LawFit:
    """Choose and fit a law.  Raises: InputError where there are too few runs for every law."""
    config = collected.sweep.recipe.fit
    runs = runs_of(rows, config.parameters, config.data, config.epoch)
    candidates = compare([law_of(name) for name in config.laws], runs)
    usable = [c for c in candidates if not c.reason]
    if not usable:
        raise InputError(
            f"{collected.sweep.folder}: {min((c.reason for c in candidates), key=len)}{_absent(collected)}"
        )
    law = LAWS[chosen(usable)]
    fitted = fit(law, runs)
    with stage("bootstrap and intervals", 1 + len(law.names)) as advance:
        draws = bootstrap(fitted, config.bootstrap, config.seed)
        advance()
        profiles = {}
        for name in law.names:
            profiles[name] = profile_interval(fitted, name)
            advance(note=name)
    coefficients = tuple(
        Coefficient(name, fitted.named[name], profiles[name], percentile_interval(draws, law, name))
        for name in law.names
    )
    refused = refusal(fitted, coefficients)
    other = runs_of(
        rows, "body" if config.parameters == "all" else "all", config.data, config.epoch
    )
    return LawFit(
        runs,
        tuple(candidates),
        fitted,
        coefficients,
        raw_coefficients(law, fitted.scale, fitted.named),
        fit(law, other).named,
        tuple(influence(fitted, [r.name for r in rows], coefficients[0].profile)),
        None if refused else frontier(fitted, rows, draws),
        refused,
        tuple(options(fitted)),
        tuple(metric_fits(rows, collected.baselines, config)),
        draws,
    )


# -- which law -------------------------------------------------------------------------------------


def compare(laws: Sequence[Law], runs: Runs) -> list[Candidate]:
    """Each law, fitted without the largest size and asked for it."""
    largest = runs.parameters == runs.parameters.max()
    out = []
    for law in laws:
        try:
            check(law, runs)
            rest = runs.take(~largest)
            check(law, rest)
        except InputError as error:
            out.append(Candidate(law.name, math.nan, math.nan, str(error)))
            continue
        part = fit(law, rest)
        held_out = runs.take(largest)
        missed = np.log(held_out.loss) - np.log(np.maximum(part.predict(held_out), 1e-12))
        out.append(Candidate(law.name, _rms(part.residuals), _rms(missed)))
    return out


def chosen(usable: Sequence[Candidate]) -> str:
    """The best foretold; of those within `NO_DIFFERENCE` of it (relative) the one with the fewest
    parameters."""
    best = min(c.foretold for c in usable)
    level = [c for c in usable if c.foretold <= best * (1 + NO_DIFFERENCE)]
    return min(level, key=lambda c: len(LAWS[c.law].names)).law


def refusal(fitted: Fit, coefficients: Sequence[Coefficient]) -> str:
    """Why a compute-optimal frontier would be an invention, or ''."""
    by_name = {c.name: c for c in coefficients}
    smallest = float(fitted.runs.loss.min())
    if "A" not in by_name:
        return f"the law that foretells best ({fitted.law.name}) has no term for the size: the smallest model is as good"
    e, a = by_name["E"].profile, by_name["A"].profile
    if e.width > NEARLY_ALL * smallest:
        return (
            f"E lies between {e.low:.3g} and {e.high:.3g}, nearly all of the smallest loss ({smallest:.3g}): what size and "
            "data could still gain is unknown"
        )
    if not a.bounded_below or a.low <= 0:
        return "the size's term A may be zero: these runs do not show that size matters"
    return ""


def influence(fitted: Fit, names: Sequence[str], e: Interval) -> list[Influence]:
    """Every run left out once; the strongest first."""
    half = max(e.width / 2, 1e-12)
    out = []
    for i, name in enumerate(names):
        keep = np.arange(len(fitted.runs)) != i
        without = fit(
            fitted.law, fitted.runs.take(keep), fitted.scale, fitted.values, fitted.delta
        ).named["E"]
        out.append(Influence(name, without, (without - fitted.named["E"]) / half))
    return sorted(out, key=lambda row: -abs(row.shift))


# -- what follows ----------------------------------------------------------------------------------


def frontier(fitted: Fit, rows: Sequence[Row], draws: np.ndarray, points: int = 40) -> Frontier:
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


def metric_fits(
    rows: Sequence[Row], baselines: Sequence[Row], config: FitConfig
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


def against(rows: Sequence[Row], baselines: Sequence[Row]) -> list[Against]:
    """Seeds averaged, at every number of people (and of labelled ones) that has a baseline."""
    out = []
    for people, share in sorted({(b.people, b.label_share) for b in baselines}):
        here = [r for r in rows if (r.people, r.label_share) == (people, share)]
        ours = _mean_loss(here)
        theirs = _mean_loss([b for b in baselines if (b.people, b.label_share) == (people, share)])
        if ours:
            best, best_baseline = (
                min(ours, key=ours.__getitem__),
                min(theirs, key=theirs.__getitem__),
            )
            chance = float(np.mean([r.chance for r in here]))
            out.append(
                Against(
                    people,
                    share,
                    best[0],
                    ours[best],
                    best_baseline[0],
                    theirs[best_baseline],
                    chance,
                )
            )
    return out


def _mean_loss(rows: Sequence[Row]) -> dict[tuple[str, int, tuple[str, ...]], float]:
    """(size, epochs, rate) -> loss: runs of other lengths or rates are other runs, not seeds of
    one."""
    found: dict[tuple[str, int, tuple[str, ...]], list[float]] = {}
    for row in rows:
        found.setdefault((row.size, row.epochs, row.rate), []).append(row.loss)
    return {kind: float(np.mean(losses)) for kind, losses in found.items()}


def _absent(collected: Collected) -> str:
    parts = [
        f"{len(names)} {word}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
        for word, names in (
            ("diverged and left out", collected.diverged),
            ("missing", collected.missing),
            ("without all folds", collected.incomplete),
        )
        if names
    ]
    return f" ({'; '.join(parts)})" if parts else ""


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
