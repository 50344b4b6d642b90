"""Folds by subject: who is trained on, who chooses the epoch, who is tested, once.

In come the subject of each scan and the sorted order of the raw subject ids; out go positions of
scans. Without stratification the outer folds are the published ones (KFold over subjects in
sorted-id order, seed 142857).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from lcm_scale.errors import InputError

MIN_TRAINING_SUBJECTS = 2  # of a class: with one, the class cannot be told from that person


@dataclass(frozen=True)
class Fold:
    """Scan positions (int64, ascending): `train` fits, `validation` chooses the epoch, `test` is
    read once."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def fitted(self) -> np.ndarray:
        """What a baseline is fitted on: it has no epoch to choose, so that the validation scans are
        training scans to it, but where they are the held-out ones (the published protocol)."""
        both = np.concatenate([self.train, self.validation])
        return both[~np.isin(both, self.test)]


def subject_folds(
    subject: np.ndarray,
    ranks: np.ndarray,
    n_folds: int,
    seed: int,
    stratify: np.ndarray | None,
    validation: float,
) -> list[Fold]:
    """Outer folds by subject, each with an inner split by subject of its training part.

    Args:
        subject: int (N,) subject of each scan.
        ranks: int (S,) position of each subject among the sorted raw ids
            (`ShardManifest.subject_ranks`).
        stratify: int (N,) a class per scan to spread evenly over the folds, -1 missing; a subject
            counts with its
            commonest class. None: plain shuffled folds, the published ones for seed 142857.
        validation: share of the training subjects that choose the epoch; 0 leaves none.
    Returns: `n_folds` folds; together their tests hold every scan once.
    Raises: InputError where there are fewer subjects than folds, or each class has too few to be
        spread.
    """
    people = np.unique(subject)
    people = people[np.argsort(ranks[people])]
    if n_folds < 2 or len(people) < n_folds:
        raise InputError(
            f"evaluate.folds={n_folds}: the data hold {len(people)} subjects; folds must be 2 to "
            "that many"
        )
    strata = (
        np.zeros(len(people), np.int64)
        if stratify is None
        else subject_strata(subject, people, stratify)
    )
    folds = []
    for number, (rest, held) in enumerate(_outer(strata, n_folds, seed, stratify is not None)):
        inner = _inner(rest, strata, validation, np.random.default_rng((seed, number)))
        groups = (np.setdiff1d(rest, inner), inner, held)
        parts = [np.flatnonzero(np.isin(subject, people[group])) for group in groups]
        folds.append(Fold(parts[0], parts[1], parts[2]))
    _check(folds, subject)
    return folds


def _outer(
    strata: np.ndarray, n_folds: int, seed: int, stratified: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    if not stratified:
        return list(KFold(n_folds, shuffle=True, random_state=seed).split(strata))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # a stratum smaller than the folds is spread as far as it goes
        try:
            return list(
                StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(strata, strata)
            )
        except ValueError as error:
            raise InputError(
                f"evaluate.stratify: no class has {n_folds} subjects to spread over {n_folds} "
                "folds; use fewer folds or stratify by a coarser column"
            ) from error


def _inner(
    rest: np.ndarray, strata: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """About `share` of `rest`, evenly through its strata: every k-th of a shuffled list sorted by
    stratum."""
    if share <= 0:
        return rest[:0]
    count = min(max(1, round(share * len(rest))), len(rest) - 1)
    shuffled = rng.permutation(rest)
    ordered = shuffled[np.argsort(strata[shuffled], kind="stable")]
    chosen = np.floor((np.arange(count) + rng.random()) * len(rest) / count).astype(np.int64)
    return np.sort(ordered[chosen])


def subject_strata(subject: np.ndarray, people: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Each person's commonest known class; -1 where none is known. Ties go to the lower class.

    Args:
        subject: int (N,) of each scan.   people: int (P,).
        classes: (N,) of each scan, negative where it is not known.
    """
    strata = np.full(len(people), -1, np.int64)
    for i, person in enumerate(people):
        known = classes[(subject == person) & (classes >= 0)].astype(np.int64)
        if len(known):
            strata[i] = np.bincount(known).argmax()
    return strata


def _check(folds: Sequence[Fold], subject: np.ndarray) -> None:
    """Stays in: a person in two parts is the commonest way to fool oneself."""
    for fold in folds:
        parts = [set(subject[part].tolist()) for part in (fold.train, fold.validation, fold.test)]
        assert len(set.union(*parts)) == sum(map(len, parts)), (
            "a subject stands in two parts of a fold"
        )
    tested = np.sort(np.concatenate([fold.test for fold in folds]))
    assert np.array_equal(tested, np.arange(len(subject))), "a scan is not tested exactly once"


def class_shortages(
    fold: Fold, codes: np.ndarray, categories: Sequence[str], subject: np.ndarray
) -> list[str]:
    """What a fold lacks of each class that occurs in the data: two training subjects, one test
    scan.

    Args: codes: (N,) class of each scan, -1 or NaN missing.  subject: (N,).
    Returns: one phrase a shortage, for the report's notes (small sites are often short) or for
        `require_classes`.
    """
    phrases = []
    for code in np.unique(codes[codes >= 0]).astype(np.int64):
        count = len(np.unique(subject[fold.train][codes[fold.train] == code]))
        if count < MIN_TRAINING_SUBJECTS:
            phrases.append(
                f"'{categories[code]}' has {count} training subject{'' if count == 1 else 's'}"
            )
        if not (codes[fold.test] == code).any():
            phrases.append(f"'{categories[code]}' has no test scan")
    return phrases


def require_classes(
    fold: Fold,
    codes: np.ndarray,
    target: str,
    categories: Sequence[str],
    subject: np.ndarray,
    number: int,
) -> None:
    """Refuse a fold that cannot measure the headline target. For other targets, report
    `class_shortages` instead.

    Args: number: the fold's number for people, from 1.
    Raises: InputError naming fold, class and the way out.
    """
    present = np.unique(codes[codes >= 0])
    if len(present) < 2:
        known = f"only '{categories[int(present[0])]}'" if len(present) else "no label"
        raise InputError(
            f"target {target}: {known} occurs in the data; at least two classes are needed"
        )
    short = class_shortages(fold, codes, categories, subject)
    if short:
        raise InputError(
            f"target {target}, fold {number}: {short[0]}, needs at least {MIN_TRAINING_SUBJECTS} "
            "training subjects and a test scan of each class; use fewer folds (evaluate.folds) or "
            f"evaluate.stratify={target}"
        )
