"""One target in one fold as inner products between scans, and how it is split for tuning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

INNER_FOLDS = 5

Folds = list[tuple[np.ndarray, np.ndarray]]
# positions of some training scans and of others -> the inner products of the former, and of the
# latter with them
Inner = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Problem:
    """Scans as their inner products, over the mean of the training diagonal.

    Attributes:
        train: (n, n).   test: (m, n).   truth: (n,) class codes or values.
        subject: (n,) who must not stand on both sides of an inner split.
        n_classes: C of class codes.   seed: of the inner splits.
        inner: as `part`, where the features of a part of the training scans are others than in the
            whole; None where they are the same.
    """

    train: np.ndarray
    test: np.ndarray
    truth: np.ndarray
    subject: np.ndarray
    n_classes: int
    seed: int
    inner: Inner | None = None

    def part(self, fit: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inner products of some training scans, and of others with them."""
        if self.inner is not None:
            return self.inner(fit, held)
        return self.train[np.ix_(fit, fit)], self.train[np.ix_(held, fit)]


def inner_folds(p: Problem, stratified: bool) -> Folds:
    """(fitted, held out) positions of the inner cross-validation, as `folds_within`."""
    return folds_within(p.truth, p.subject, p.seed, stratified)


def folds_within(truth: np.ndarray, subject: np.ndarray, seed: int, stratified: bool) -> Folds:
    """(fitted, held out) positions of an inner cross-validation, by person; as many folds as
    people, or of classes as scans of the commonest, where those are fewer.

    Args: truth, subject: (n,).   stratified: spread the classes evenly.
    """
    people = np.unique(subject, return_inverse=True)[1]
    # The folds are made of ranks alone, and each target's models ask for the same ones.
    codes = np.unique(truth, return_inverse=True)[1] if stratified else np.zeros_like(people)
    kept = _folds(codes.tobytes(), people.tobytes(), seed, stratified)
    return [(fit.copy(), held.copy()) for fit, held in kept]


@lru_cache(maxsize=8)
def _folds(
    codes: bytes, people: bytes, seed: int, stratified: bool
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Args: codes, people: int64 (n,), from 0."""
    # Every training run loads this module, and few fit anything here.
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    truth, subject = (np.frombuffer(each, np.int64) for each in (codes, people))
    n_splits = min(INNER_FOLDS, int(subject.max()) + 1)
    if stratified:
        commonest = int(np.bincount(truth).max())
        stratified, n_splits = commonest > 1, min(n_splits, max(commonest, 2))
    splitter = (StratifiedGroupKFold if stratified else GroupKFold)(
        n_splits, shuffle=True, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # classes smaller than the number of inner folds are fine here
        return tuple(splitter.split(truth, truth if stratified else None, subject))
