"""Intervals that cover folds and seeds: the corrected resampled t-test of Nadeau and Bengio (2003).

Folds of several divisions share people in training and in testing, so their values are not
independent, and the plain standard error of their mean is too small. The correction adds the ratio
of tested to training people to 1 / J. A metric's value here is the mean over the folds, each by
itself, not that of the pooled scores.
Shapes: J folds over all divisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from lcm_scale.evaluation.metrics import METRICS, Metric, Predictions

COVERED = 0.975  # of the t distribution, on each side of a 95 % interval


@dataclass(frozen=True)
class FoldValues:
    """Every metric of some predictions in every fold.

    Attributes:
        values: metric -> (J,), NaN where a fold leaves it undefined.
        ratio: tested over training people of a fold.
    """

    predictions: Predictions
    values: Mapping[str, np.ndarray]
    ratio: float

    def metrics(self) -> tuple[Metric, ...]:
        """In the order of `METRICS`, with their intervals."""
        return tuple(self._with_interval(name, values) for name, values in self.values.items())

    def minus(self, baseline: FoldValues) -> tuple[Metric, ...]:
        """Paired differences, fold by fold and metric by metric. For an error (MAE, calibration
        error) a negative difference favours the model."""
        return tuple(
            replace(
                self._with_interval(name, values - baseline.values[name]),
                p=self._p(values - baseline.values[name]),
            )
            for name, values in self.values.items()
        )

    def _p(self, differences: np.ndarray) -> float:
        """Two-sided, of the same t-test as the interval."""
        mean, half = corrected_interval(differences, self.ratio)
        freedom = int(np.isfinite(differences).sum()) - 1
        if not half:
            return 1.0 if mean == 0 else 0.0  # all folds agree
        error = half / stats.t.ppf(COVERED, freedom)
        return float(2 * stats.t.sf(abs(mean) / error, freedom))

    def _with_interval(self, name: str, values: np.ndarray) -> Metric:
        mean, half = corrected_interval(values, self.ratio)
        n_scans = len(np.unique(self.predictions.scan))
        n_subjects = len(np.unique(self.predictions.subject))
        return Metric(name, mean, mean - half, mean + half, n_scans, n_subjects)


def corrected_interval(values: np.ndarray, ratio: float) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval; NaN where nothing, or too little, is defined.

    Args:
        values: (J,), NaN where undefined.   ratio: tested over training people of a fold.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return np.nan, np.nan
    if len(known) < 2:
        return float(known.mean()), np.nan
    variance = (1 / len(known) + ratio) * known.var(ddof=1)
    return float(known.mean()), float(stats.t.ppf(COVERED, len(known) - 1) * np.sqrt(variance))


def by_fold(p: Predictions, ratio: float) -> FoldValues:
    """Every metric of the target's kind in every fold.  Args: ratio: as of `FoldValues`."""
    values: dict[str, list[float]] = {name: [] for name in METRICS[p.kind]}
    for fold in np.unique(p.fold):
        own = p.of(p.fold == fold)
        weights = np.ones((1, len(own.truth)))
        for name, metric in METRICS[p.kind].items():
            values[name].append(float(metric.compute(own, weights)[0]))
    return FoldValues(p, {name: np.array(found) for name, found in values.items()}, ratio)
