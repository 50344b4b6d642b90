"""Harmonisation inside the folds.

Of the model the matrices are harmonised, fitted on the scans that it trains on: the people who
choose the epoch are treated as the held-out ones. Of a baseline its features are (`SiteEffects`),
fitted on the scans that it is fitted on, and in every part of its inner cross-validation anew. A
covariate that is evaluated is not preserved, because preserving it would write the held-out answer
into the held-out matrix (ComBat puts a scan's own covariates back).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lcm_scale.data.harmonise import (
    COVARIATES,
    LEAST_PEOPLE,
    SiteEffects,
    covariates_of,
    fit_harmoniser,
    known_sites,
)
from lcm_scale.data.sets import ShardSets
from lcm_scale.data.stream import ResidentEdges
from lcm_scale.errors import InputError
from lcm_scale.evaluation.folds import Fold
from lcm_scale.evaluation.questions import Question
from lcm_scale.training.prepare import Opened


def check_harmonise(
    opened: Opened,
    scans: np.ndarray,
    folds: Sequence[Fold],
    training: Sequence[np.ndarray],
    questions: Sequence[Question],
) -> None:
    """See, before anything is trained, that every fold can be harmonised.

    Args:
        scans: of the evaluated set; the folds' positions are in it.
        training: of each fold, the scans that its model trains on.
    Raises: InputError.
    """
    method, sets = opened.recipe.evaluate.harmonise, opened.sets
    if opened.recipe.model.people_memory != "none":
        raise InputError(
            f"evaluate.harmonise={method}: people memory is tuned on parts of the training scans, "
            "which would have to be harmonised anew; set model.people_memory=none, or "
            "evaluate.harmonise=none"
        )
    if not isinstance(opened.source, ResidentEdges):
        raise InputError(
            f"evaluate.harmonise={method}: fitted in memory, and these sets are above "
            f"data.resident_gb={opened.recipe.data.resident_gb:g} and streamed; raise it, or set "
            "evaluate.harmonise=none"
        )
    for number, (fold, train) in enumerate(zip(folds, training, strict=True), 1):
        _require_sites(sets, train, f"evaluate.harmonise={method}, fold {number}")
        own = scans[np.concatenate([fold.train, fold.validation])]
        for question in questions:
            labelled = own[np.isfinite(question.truth(sets.labels[own]))]
            where = f"evaluate.harmonise={method}, fold {number}, target {question.target.name}"
            _require_sites(sets, labelled, where)


def _require_sites(sets: ShardSets, train: np.ndarray, where: str) -> None:
    known = known_sites(sets.site[train], sets.subject[train])
    if len(known) < 2:
        raise InputError(
            f"{where}: {len(known)} sites have at least {LEAST_PEOPLE} training people, and it "
            "takes two; set evaluate.harmonise=none"
        )


def preserved(method: str, asked: Sequence[str]) -> tuple[str, ...]:
    """The covariates that are preserved.  Args: asked: names of the evaluated targets."""
    return tuple(name for name in COVARIATES if name not in asked) if method == "combat" else ()


def harmonised(opened: Opened, train: np.ndarray, asked: Sequence[str]) -> Opened:
    """The same data as a fold's model sees them; the recipe's harmonisation may be `none`.

    Args:
        train: the scans that the fold's model trains on.   asked: names of the evaluated targets.
    """
    method = opened.recipe.evaluate.harmonise
    if method == "none":
        return opened
    assert isinstance(opened.source, ResidentEdges)
    edges = harmonised_edges(method, opened.source.edges, opened.sets, train, asked)
    return replace(opened, source=opened.source.holding(edges), harmonised=method)


def harmonised_edges(
    method: str, edges: np.ndarray, sets: ShardSets, train: np.ndarray, asked: Sequence[str]
) -> np.ndarray:
    """All scans (N, E), float32, by what was fitted on some of them.

    Args:
        edges: (N, E) as stored.   train, asked: as of `harmonised`.
    """
    site, covariates = sets.site, covariates_of(sets, preserved(method, asked))
    fisher = "covariance" not in sets.kinds_of(np.arange(sets.n_scans))
    fitted = fit_harmoniser(
        method, edges[train], site[train], sets.subject[train], covariates[train], fisher
    )
    return fitted.apply(edges, site, covariates)


def site_effects(
    method: str, sets: ShardSets, scans: np.ndarray, asked: Sequence[str]
) -> SiteEffects | None:
    """What is to be taken out of baselines' features of these scans, None for `none`.

    Args: scans: numbers.   asked: names of the evaluated targets.
    """
    if method == "none":
        return None
    covariates = covariates_of(sets, preserved(method, asked))[scans]
    return SiteEffects(method, sets.site[scans], sets.subject[scans], covariates)


def sentence(
    opened: Opened,
    scans: np.ndarray,
    folds: Sequence[Fold],
    training: Sequence[np.ndarray],
    asked: Sequence[str],
) -> str:
    """What was done, for the report.

    Args:
        scans: of the evaluated set; the folds' positions are in it.
        training: of each fold, the scans that its model trains on.
    """
    method, sets = opened.recipe.evaluate.harmonise, opened.sets
    fitted, strange, left = set(), set(), 0
    for fold, train in zip(folds, training, strict=True):
        known = known_sites(sets.site[train], sets.subject[train])
        fitted |= {sets.sites[number] for number in known}
        site = sets.site[scans[fold.test]]
        unseen = site[~np.isin(site, known)]
        left += len(unseen)
        strange |= {sets.sites[n] if n >= 0 else "no site" for n in np.unique(unseen)}
    kept = preserved(method, asked)
    words = [
        f"Harmonised ({method}) inside each fold, fitted on its training scans: the matrices that "
        "the model sees, the features of the baselines (Fisher z, tangent vectors), in their inner "
        f"cross-validation anew. {len(fitted)} sites ({', '.join(sorted(fitted))}).",
    ]
    if method == "combat":
        words.append(
            f"Preserved: {', '.join(kept) or 'nothing'}; an evaluated target never is, since a "
            "held-out scan's own value would be written into its matrix."
        )
    where = f" ({', '.join(sorted(strange))})" if left else ""
    words.append(
        f"Left as they are, since their site has fewer than {LEAST_PEOPLE} training people: {left} "
        f"of {sum(len(fold.test) for fold in folds)} held-out scans{where}."
    )
    return " ".join(words)
