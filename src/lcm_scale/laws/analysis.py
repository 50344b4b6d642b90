"""What a sweep says: the law that fits it, what follows from the law, and each size against the
baselines.

`choice.py` chooses the law and says how sure it is, `consequences.py` draws the conclusions; here
both are asked, in order, and their answers put into one `Analysis`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lcm_scale.errors import InputError
from lcm_scale.laws.choice import (
    Candidate,
    Coefficient,
    Influence,
    chosen,
    compare,
    influence,
    refusal,
)
from lcm_scale.laws.collect import (
    Collected,
    Configuration,
    Ensemble,
    best_rates,
    ensembles,
    runs_of,
)
from lcm_scale.laws.consequences import (
    Frontier,
    MetricFit,
    Option,
    frontier,
    metric_fits,
    options,
)
from lcm_scale.laws.fit import Fit, bootstrap, fit, percentile_interval, profile_interval
from lcm_scale.laws.laws import LAWS, Runs, law_of, raw_coefficients
from lcm_scale.progress import stage


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
    rows: tuple[Configuration, ...]
    passed_over: int
    against: tuple[Against, ...]
    ensembles: tuple[Ensemble, ...]
    law: LawFit | None
    unfitted: str


def analyse(collected: Collected) -> Analysis:
    """Fit a collected sweep.

    Raises: InputError where there are too few runs for every law, saying how many more; unless the
        sweep asks for something else: which rate is best, what labels or pretraining are worth.
    """
    rows, passed_over = best_rates(collected.rows)
    law, unfitted = None, ""
    try:
        law = fit_laws(collected, rows)
    except InputError as error:
        if (
            collected.sweep.recipe.design != "lr_transfer"
            and len({(r.label_share, r.start) for r in collected.rows}) == 1
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


def fit_laws(collected: Collected, rows: Sequence[Configuration]) -> LawFit:
    """Choose and fit a law.  Raises: InputError where there are too few runs for every law."""
    config = collected.sweep.recipe.fit
    runs = runs_of(rows, config.parameters, config.data, config.epoch)
    candidates = compare([law_of(name) for name in config.laws], runs)
    usable = [c for c in candidates if not c.reason]
    if not usable:
        raise InputError(
            f"{collected.sweep.folder}: "
            f"{min((c.reason for c in candidates), key=len)}{_absent(collected)}"
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


def against(rows: Sequence[Configuration], baselines: Sequence[Configuration]) -> list[Against]:
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


def _mean_loss(rows: Sequence[Configuration]) -> dict[tuple[str, int, tuple[str, ...]], float]:
    """(size, epochs, settings) -> loss: runs of other lengths or settings are other runs, not
    seeds of one."""
    found: dict[tuple[str, int, tuple[str, ...]], list[float]] = {}
    for row in rows:
        found.setdefault((row.size, row.epochs, row.settings), []).append(row.loss)
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
