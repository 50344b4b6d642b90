"""Harmonisation inside the folds: one harmoniser a fold, fitted on its training scans, applied to
all scans that the fold's model and its baselines see.

The people who choose the epoch are treated as the held-out ones: nothing is fitted on them. A
covariate that is evaluated is not preserved, because preserving it would write the held-out answer
into the held-out matrix (ComBat puts a scan's own covariates back).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    if not isinstance(opened.source, ResidentEdges):
        raise InputError(
            f"evaluate.harmonise={method}: fitted in memory, and these sets are above "
            f"data.resident_gb={opened.recipe.data.resident_gb:g} and streamed; raise it, or set "
            "evaluate.harmonise=none"
        )
    for number, (fold, train) in enumerate(zip(folds, training, strict=True), 1):
        _require_sites(sets, train, f"evaluate.harmonise={method}, fold {number}")
        if "tangent" not in opened.recipe.evaluate.baselines:
            continue
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
    Raises: InputError as `fit_harmoniser`.
    """
    site, covariates = sets.site, covariates_of(sets, preserved(method, asked))
    fisher = "covariance" not in sets.kinds_of(np.arange(sets.n_scans))
    fitted = fit_harmoniser(
        method, edges[train], site[train], sets.subject[train], covariates[train], fisher
    )
    return fitted.apply(edges, site, covariates)


@dataclass(frozen=True)
class FoldEdges:
    """The evaluated scans as a fold's baselines get them. The tangent space takes the matrices as
    they are, and the sites' effects are taken out of the tangent vectors: harmonised matrices are
    far from positive definite, and how far tells the site (docs/log.md).

    Attributes:
        stored, harmonised: (n, E), one array where nothing is harmonised.
        sites: of these n scans, in their order.
    """

    stored: np.ndarray
    harmonised: np.ndarray
    sites: SiteEffects | None

    @classmethod
    def of(
        cls,
        method: str,
        stored: np.ndarray,
        harmonised: np.ndarray,
        sets: ShardSets,
        scans: np.ndarray,
        asked: Sequence[str],
    ) -> FoldEdges:
        """Args: scans: numbers of the evaluated scans.   asked: names of the evaluated targets."""
        if method == "none":
            return cls(stored, stored, None)
        covariates = covariates_of(sets, preserved(method, asked))[scans]
        return cls(
            stored,
            harmonised,
            SiteEffects(method, sets.site[scans], sets.subject[scans], covariates),
        )

    def parts(
        self, baseline: str, train: np.ndarray, test: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, SiteEffects | None]:
        """A baseline's training and test edges, and what is to be taken out of its own features.

        Args: train, test: positions of the scans.
        """
        if self.sites is None or baseline != "tangent":
            return self.harmonised[train], self.harmonised[test], None
        sites = self.sites.of(np.concatenate([train, test]))
        return self.stored[train], self.stored[test], sites


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
        f"Harmonised ({method}) inside each fold, for the model and the baselines alike, fitted on "
        f"the scans that the fold's model trains on: {len(fitted)} sites "
        f"({', '.join(sorted(fitted))}).",
    ]
    if method == "combat":
        words.append(
            f"Preserved: {', '.join(kept) or 'nothing'}; an evaluated target never is, since a "
            "held-out scan's own value would be written into its matrix."
        )
    if "tangent" in opened.recipe.evaluate.baselines:
        words.append(
            "The tangent baseline takes the matrices as they are, and the effects are taken out of "
            "its tangent vectors."
        )
    where = f" ({', '.join(sorted(strange))})" if left else ""
    words.append(
        f"Left as they are, since their site has fewer than {LEAST_PEOPLE} training people: {left} "
        f"of {len(scans)} held-out scans{where}."
    )
    return " ".join(words)
