"""How well site and motion alone tell a label: what a model of brains has to beat before anybody
believes that it looks at brains.

In: opened sets and each scan's mean framewise displacement. Out: AUROC or R2 of a plain logistic or
ridge regression, each scan told by a model that never saw its person. Nothing is tuned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError
from lcm_scale.evaluation.folds import subject_folds
from lcm_scale.evaluation.intervals import resampled
from lcm_scale.evaluation.metrics import METRICS, Metric, Predictions
from lcm_scale.vocabulary import NOT_APPLICABLE, Target

FOLDS = 5
DRAWS = 500  # of the bootstrap
SEED = 0
ASKED = {"class": "auroc", "scalar": "r2"}
SITE, MOTION = "site", "motion"
LEAST_PEOPLE = 2 * FOLDS
# mm: below it nobody moves. Motion enters by its logarithm, since a few who move much would
# otherwise decide a straight line (docs/log.md).
STILL = 1e-3


@dataclass(frozen=True)
class Told:
    """Attributes:
    target: its name.   by: what tells it, in words.
    metric: with its interval; None where it was not measured, and `why` says why not.
    """

    target: str
    by: str
    label: str
    metric: Metric | None
    why: str = ""


def told_by_nuisance(sets: ShardSets, mean_fd: np.ndarray) -> list[Told]:
    """Every target by site, by motion and by both.

    Args: mean_fd: (N,) mm, NaN unknown.
    """
    return [
        _told(sets, column, target, by, mean_fd)
        for column, target in enumerate(sets.vocabulary.targets)
        for by in ((SITE,), (MOTION,), (SITE, MOTION))
    ]


def _told(
    sets: ShardSets, column: int, target: Target, by: tuple[str, ...], mean_fd: np.ndarray
) -> Told:
    kind = "class" if target.is_class else "scalar"
    label = METRICS[kind][ASKED[kind]].label
    words = " and ".join(by)
    truth = sets.labels[:, column]
    known = np.isfinite(truth)
    if target.kind == "group" and NOT_APPLICABLE in target.categories:
        known &= truth != target.categories.index(NOT_APPLICABLE)
    if SITE in by:
        known &= sets.site >= 0
    if MOTION in by:
        known &= np.isfinite(mean_fd)
    scans = np.flatnonzero(known)
    if len(np.unique(sets.subject[scans])) < LEAST_PEOPLE or len(np.unique(truth[scans])) < 2:
        return Told(target.name, words, label, None, "too few people, or one value alone")
    if SITE in by and len(np.unique(sets.site[scans])) < 2:
        return Told(target.name, words, label, None, "one site alone")
    if kind == "class" and SITE in by and _follows(sets.site[scans], truth[scans]):
        return Told(target.name, words, label, None, "the site decides it: each has one value")
    parts = []
    if SITE in by:
        parts.append(np.eye(len(sets.sites))[sets.site[scans]])
    if MOTION in by:
        parts.append(np.log(np.maximum(mean_fd[scans, None], STILL)))
    try:
        predicted = _predictions(sets, scans, target, truth[scans], np.hstack(parts))
    except InputError as error:
        return Told(target.name, words, label, None, str(error))
    metrics = resampled(predicted, DRAWS, SEED).metrics()
    return Told(target.name, words, label, next(m for m in metrics if m.name == ASKED[kind]))


def _follows(site: np.ndarray, truth: np.ndarray) -> bool:
    """Whether every site has one value of it."""
    return len(np.unique(np.stack([site, truth]), axis=1)[0]) == len(np.unique(site))


def _predictions(
    sets: ShardSets, scans: np.ndarray, target: Target, truth: np.ndarray, features: np.ndarray
) -> Predictions:
    """Of each scan, by a model of the other folds' people."""
    subject = sets.subject[scans]
    strata = truth.astype(np.int64) if target.is_class else None
    folds = subject_folds(subject, sets.subject_ranks, FOLDS, SEED, strata, 0.0)
    scores = np.zeros((len(scans), target.n_tokens) if target.is_class else len(scans))
    number = np.zeros(len(scans), np.int64)
    for place, fold in enumerate(folds):
        number[fold.test] = place
        own = truth[fold.train]
        if not target.is_class:
            ridge = make_pipeline(StandardScaler(), Ridge()).fit(features[fold.train], own)
            scores[fold.test] = ridge.predict(features[fold.test])
            continue
        codes = np.unique(own).astype(np.int64)
        if len(codes) == 1:
            scores[np.ix_(fold.test, codes)] = 1.0
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(features[fold.train], own.astype(np.int64))
        scores[np.ix_(fold.test, codes)] = model.predict_proba(features[fold.test])
    return Predictions(
        model="nuisance",
        target=target.name,
        kind="class" if target.is_class else "scalar",
        categories=target.categories,
        truth=truth,
        scores=scores,
        subject=subject,
        fold=number,
        scan=scans,
    )
