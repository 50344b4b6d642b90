"""Metrics of an order: how scores rank the scans that have a label above those that have not.

Only scans of one fold are ranked against each other, since each fold has a model of its own, whose
scores share no scale with another's. A fold counts by its pairs (AUROC) or by its positive scans.
Each function takes weights of the scans, (B, N), a row a resample, and answers (B,): NaN where a
resample leaves nothing to rank. Ties count as they do in scikit-learn.
Shapes: B weightings, N scans, P positive scans.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SPECIFICITY = 0.9
ROUNDING = 1e-9  # of shares that are sums of weights


def over(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A quotient that is NaN where the denominator is 0."""
    return np.divide(
        numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0
    )


@dataclass(frozen=True)
class _Ranked:
    """Scans sorted by fold and score.

    Attributes:
        weights: (B, N).   positive: (P,) places of the positive scans.
        up, down: (B, N + 1) weight of the positive, and of the other scans, before each place.
        fold_start, fold_end, tie_start, tie_end: (N,) places of the fold, and of the run of equal
            scores, that a scan stands in; ends are exclusive.
    """

    weights: np.ndarray
    positive: np.ndarray
    up: np.ndarray
    down: np.ndarray
    fold_start: np.ndarray
    fold_end: np.ndarray
    tie_start: np.ndarray
    tie_end: np.ndarray


def _ranked(
    score: np.ndarray, positive: np.ndarray, fold: np.ndarray, weights: np.ndarray
) -> _Ranked:
    fold_number = np.unique(fold, return_inverse=True)[1]
    order = np.lexsort((score, fold_number))
    folds, scores, is_up = fold_number[order], score[order], positive[order]
    sorted_weights = weights[:, order]
    new_fold = np.r_[True, np.diff(folds) != 0]
    new_value = new_fold | np.r_[True, np.diff(scores) != 0]
    place = np.arange(len(order))
    return _Ranked(
        weights=sorted_weights,
        positive=np.flatnonzero(is_up),
        up=_before(sorted_weights * is_up),
        down=_before(sorted_weights * ~is_up),
        fold_start=np.maximum.accumulate(np.where(new_fold, place, 0)),
        fold_end=_ends(new_fold),
        tie_start=np.maximum.accumulate(np.where(new_value, place, 0)),
        tie_end=_ends(new_value),
    )


def _before(weights: np.ndarray) -> np.ndarray:
    """(B, N + 1) of (B, N): what stands before each place."""
    summed = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=summed[:, 1:])
    return summed


def _ends(new: np.ndarray) -> np.ndarray:
    """For each place the end (exclusive) of the run it stands in; `new` marks where runs begin."""
    starts = np.flatnonzero(new)
    ends = np.r_[starts[1:], len(new)]
    return ends[np.cumsum(new) - 1]


def area_under_roc(
    score: np.ndarray, positive: np.ndarray, fold: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Share of the pairs of a positive and another scan that are rightly ordered (Mann-Whitney),
    ties one half.

    Args: score: (N,).   positive: (N,) bool.   fold: (N,).   weights: (B, N).
    """
    r = _ranked(score, positive, fold, weights)
    i = r.positive
    lower = (r.down[:, r.tie_start[i]] + r.down[:, r.tie_end[i]]) / 2 - r.down[:, r.fold_start[i]]
    pairs = r.down[:, r.fold_end[i]] - r.down[:, r.fold_start[i]]
    ups = r.weights[:, i]
    return over((ups * lower).sum(1), (ups * pairs).sum(1))


def average_precision(
    score: np.ndarray, positive: np.ndarray, fold: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Area under the precision-recall curve, by steps: over the positive scans, the mean share of
    positive ones among those of the fold that score as high or higher. Chance is their share.

    Args: as of `area_under_roc`.
    """
    r = _ranked(score, positive, fold, weights)
    i = r.positive
    first, last = r.tie_start[i], r.fold_end[i]
    up = r.up[:, last] - r.up[:, first]
    ups = r.weights[:, i]
    precision = over(up, up + r.down[:, last] - r.down[:, first])
    return over((ups * np.nan_to_num(precision)).sum(1), ups.sum(1))


def sensitivity(
    score: np.ndarray, positive: np.ndarray, fold: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Share of the positive scans found where at most a tenth of the fold's others is called
    positive too. The threshold is read off the fold's own scans, as a point of its ROC curve is.

    Args: as of `area_under_roc`.
    """
    r = _ranked(score, positive, fold, weights)
    i = r.positive
    above = r.down[:, r.fold_end[i]] - r.down[:, r.tie_start[i]]
    others = r.down[:, r.fold_end[i]] - r.down[:, r.fold_start[i]]
    found = above <= (1 - SPECIFICITY + ROUNDING) * others
    ups = r.weights[:, i] * (others > 0)
    return over((ups * found).sum(1), ups.sum(1))
