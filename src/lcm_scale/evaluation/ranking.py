"""Metrics of an order: how scores rank the scans that have a label above those that have not.

Only scans of one fold are ranked against each other, since each fold has a model of its own, whose
scores share no scale with another's. A fold counts by its pairs (AUROC) or by its positive scans.
Every metric answers (B,), one a resample: NaN where that leaves nothing to rank. Ties count as they
do in scikit-learn.

A resample is a column of weights, a scan a row: what stands before a scan is then a sum of whole
rows, which a processor adds at the pace of its memory, and all metrics of one order share it.
Shapes: B weightings, N scans, P positive scans, D others, F folds.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

SPECIFICITY = 0.9
ROUNDING = 1e-9  # of shares that are sums of weights
EXACT = 2.0**24  # whole numbers up to here are exact in single precision
NARROW = 100  # resamples below which one call is quicker than a call a row


def over(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A quotient that is NaN where the denominator is 0."""
    return np.divide(
        numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0
    )


def as_rows(weights: np.ndarray) -> np.ndarray:
    """(N, B) of (B, N) weights, which are whole numbers: in single precision where every sum of
    products of two of them is exact in it."""
    most = weights.sum(1).max(initial=0.0)
    return np.ascontiguousarray(weights.T, np.float32 if most**2 <= EXACT else np.float64)


class Ranking:
    """Scans sorted by fold and score.

    Args:
        score: (N,).   positive: (N,) bool.   fold: (N,).
        rows: (N, B) weights, as `as_rows` gives them.
    """

    def __init__(
        self, score: np.ndarray, positive: np.ndarray, fold: np.ndarray, rows: np.ndarray
    ) -> None:
        number = np.unique(fold, return_inverse=True)[1]
        order = np.lexsort((score, number))
        folds, scores, is_up = number[order], score[order], positive[order]
        new_fold = np.r_[True, np.diff(folds) != 0]
        new_value = new_fold | np.r_[True, np.diff(scores) != 0]
        starts = np.flatnonzero(new_fold)
        ends = np.r_[starts[1:], len(order)]
        tie_start = np.maximum.accumulate(np.where(new_value, np.arange(len(order)), 0))[is_up]
        ups, downs = (np.r_[0, np.cumsum(each)] for each in (is_up, ~is_up))
        self._fold = folds[is_up]  # (P,)
        self._rows = rows[order[is_up]]  # (P, B)
        self._up = _before(self._rows)
        self._down = _before(rows[order[~is_up]])
        self._down_start, self._up_end = downs[starts], ups[ends]
        # How many of them stand before each positive scan's run of equal scores, and its end.
        self._ups_below = ups[tie_start]
        self._downs_below = downs[tie_start]
        self._downs_to_tie = downs[_ends(new_value)[is_up]]
        self._down_first = self._down[self._down_start]  # (F, B)
        self._others = self._down[downs[ends]] - self._down_first  # (F, B) weight of a fold's
        self._own = self._up[self._up_end] - self._up[ups[starts]]

    def area_under_roc(self) -> np.ndarray:
        """Share of the pairs of a positive and another scan that are rightly ordered
        (Mann-Whitney), ties one half."""
        lower = _dot(self._rows, self._down[self._downs_below])
        tied = not np.array_equal(self._downs_below, self._downs_to_tie)
        to_tie = _dot(self._rows, self._down[self._downs_to_tie]) if tied else lower
        right = (lower + to_tie) / 2 - _dot(self._own, self._down_first)
        return over(right, _dot(self._own, self._others))

    def average_precision(self) -> np.ndarray:
        """Area under the precision-recall curve, by steps: over the positive scans, the mean share
        of positive ones among those of the fold that score as high or higher. Chance is their
        share."""
        up = self._up[self._up_end][self._fold] - self._up[self._ups_below]
        called = up + self._above
        precision = np.divide(up, called, out=np.zeros(up.shape), where=called > 0, dtype="f8")
        return over(_dot(self._rows, precision), self._up[-1].astype(np.float64))

    def sensitivity(self) -> np.ndarray:
        """Share of the positive scans found where at most a tenth of the fold's others is called
        positive too. The threshold is read off the fold's own scans, as a point of its ROC curve
        is."""
        most = np.floor((1 - SPECIFICITY + ROUNDING) * self._others.astype(np.float64))
        there = self._others > 0
        most = np.where(there, most, -1).astype(self._rows.dtype)
        found = (self._above <= most[self._fold]).astype(self._rows.dtype)
        return over(_dot(self._rows, found), (self._own * there).sum(0, dtype=np.float64))

    @cached_property
    def _above(self) -> np.ndarray:
        """(P, B) weight of the fold's others that score as high as each positive scan, or higher"""
        down = self._down[self._downs_below]
        return np.subtract((self._down_first + self._others)[self._fold], down, out=down)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(B,) sums over the rows of products; exact sums, in double precision from there on."""
    return np.einsum("nb,nb->b", a, b).astype(np.float64)


def _before(rows: np.ndarray) -> np.ndarray:
    """(N + 1, B) of (N, B): what stands before each row."""
    summed = np.zeros((len(rows) + 1, rows.shape[1]), rows.dtype)
    if rows.shape[1] < NARROW:
        np.cumsum(rows, axis=0, out=summed[1:])
        return summed
    for place, row in enumerate(rows):
        np.add(summed[place], row, out=summed[place + 1])
    return summed


def _ends(new: np.ndarray) -> np.ndarray:
    """For each place the end (exclusive) of the run it stands in; `new` marks where runs begin."""
    starts = np.flatnonzero(new)
    return np.r_[starts[1:], len(new)][np.cumsum(new) - 1]
