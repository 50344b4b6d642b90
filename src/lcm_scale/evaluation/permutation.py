"""Whether held-out predictions and labels go together at all: labels are exchanged between people
against the predictions as they are, and nothing is trained anew.

Exchangeable, where predictions say nothing of labels, are the people whom one model scored: those
of one fold, or of one fold and site, since a site's people may be ill more often and be scored
higher for their scanner. A person's scans move together where they have one label; where they
differ (eyes open and closed) labels move among the scans of each person.
Shapes: N scans, U units that carry a label.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from lcm_scale import progress
from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError
from lcm_scale.evaluation.metrics import METRICS, Predictions

KEY = "evaluate.permutations"
TIED = 1e-12  # what differs by less is the same value, summed in another order


@dataclass(frozen=True)
class Permuted:
    """One target's deciding metric against what it is with exchanged labels.

    Attributes:
        value: as it is.   low, high: 95 % of the exchanged ones lie between them.
        permutations: how many.   p: the share of them, the labels as they are counted too, that is
            at least as good.
        people: whose labels were exchanged.   movable: of them, those in whose stratum two labels
            differ; nobody else can get another one.
        within: of one fold, or of one fold and site; '' among the scans of each person.
    """

    target: str
    metric: str
    value: float
    low: float
    high: float
    permutations: int
    p: float
    people: int
    movable: int
    within: str


def check_permutations(recipe: Recipe, sets: ShardSets, scans: np.ndarray) -> None:
    """See, before anything is trained, that labels may be exchanged.

    Args: scans: numbers of the tested ones.   Raises: InputError.
    """
    config = recipe.evaluate
    if not config.permutations:
        return
    if config.group:
        raise InputError(
            f"{KEY}={config.permutations}: with evaluate.group={config.group} a label cannot be "
            "exchanged between people, since relatives share more than chance; set "
            f"{KEY}=0 or leave evaluate.group out"
        )
    if config.protocol == "paper":
        raise InputError(
            f"{KEY}={config.permutations}: evaluate.protocol=paper chooses the epoch by the labels "
            f"that would be exchanged, so that p would be too small; set {KEY}=0 or another "
            "protocol"
        )
    if config.permute_within == "site" and (sets.site[scans] < 0).all():
        raise InputError(
            "evaluate.permute_within=site: no evaluated scan names its site; set "
            "evaluate.permute_within=fold"
        )


def permuted(
    p: Predictions, metric: str, permutations: int, seed: int, site: np.ndarray | None = None
) -> Permuted:
    """Exchange the labels of one model's predictions `permutations` times.

    Args:
        p: of which those of the first division into folds are taken.
        site: of all scans of the sets, where labels are exchanged within sites; None: within folds.
    """
    p = p.once()
    unit, stratum, within = _units(p, site)
    _, first = np.unique(unit, return_index=True)
    kind = METRICS[p.kind][metric]
    sign = 1 if kind.higher_is_better else -1
    everyone = np.ones((1, len(p.truth)))
    value = float(kind.compute(p, everyone)[0])
    found = np.zeros(permutations)
    labels = exchanged(p.truth[first], stratum[first], permutations, seed)
    with progress.stage(f"permute {p.target}", permutations) as advance:
        for number, label in enumerate(labels):
            found[number] = kind.compute(replace(p, truth=label[unit]), everyone)[0]
            advance(1)
    as_good = int((sign * found >= sign * value - TIED).sum())
    low, high = np.percentile(found, [2.5, 97.5])
    mixed = [each for each in np.unique(stratum) if len(np.unique(p.truth[stratum == each])) > 1]
    movable = len(np.unique(p.subject[np.isin(stratum, mixed)]))
    return Permuted(
        target=p.target,
        metric=metric,
        value=value,
        low=float(low),
        high=float(high),
        permutations=permutations,
        p=(1 + as_good) / (1 + permutations) if np.isfinite(value) else float("nan"),
        people=len(np.unique(p.subject)),
        movable=movable,
        within=within,
    )


def _units(p: Predictions, site: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, str]:
    """What carries a label (N,) from 0, in what stratum (N,), and its name."""
    person = np.unique(p.subject, return_inverse=True)[1]
    _, first = np.unique(person, return_index=True)
    if (p.truth != p.truth[first][person]).any():
        return np.arange(len(p.truth)), person, ""
    fold = np.unique(p.fold, return_inverse=True)[1]
    if site is None:
        return person, fold, "fold"
    own = site[p.scan][first][person] + 1  # of somebody scanned at several the first; 0: unknown
    return person, fold * (own.max() + 1) + own, "fold and site"


def exchanged(
    labels: np.ndarray, stratum: np.ndarray, permutations: int, seed: int
) -> Iterator[np.ndarray]:
    """(U,) labels, each time shuffled within the strata.  Args: labels, stratum: (U,)."""
    rng = np.random.default_rng(seed)
    order = np.argsort(stratum, kind="stable")
    for _ in range(permutations):
        out = np.empty_like(labels)
        out[order] = labels[np.lexsort((rng.random(len(order)), stratum))]
        yield out
