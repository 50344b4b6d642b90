"""Intervals of metrics, and of paired differences between models: a bootstrap over *subjects*.

A person's scans are drawn together, since they are not independent. A resample is a weight per
scan, and every metric is a function of a (B, N) matrix of weights, so that 2000 resamples are a few
matrix products. Row 0 holds ones: the point estimate takes the same path.
Shapes: B weightings, N scans, S subjects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from lcm_scale.errors import InputError
from lcm_scale.evaluation.metrics import METRICS, OF_ORDER, Metric, Predictions, of_order

CHUNK = 4_000_000  # weights held at once
KEPT = 10_000_000  # draws of subjects that are kept for the next metric, 2 bytes each


@dataclass(frozen=True)
class Draws:
    """Every metric of some predictions on every resample.

    Attributes: values: metric -> (1 + B,), the first of them the point estimate.
    """

    predictions: Predictions
    values: Mapping[str, np.ndarray]

    def metrics(self) -> tuple[Metric, ...]:
        """In the order of `METRICS`, with their intervals."""
        return tuple(_with_interval(n, v, self.predictions) for n, v in self.values.items())

    def minus(self, baseline: Draws) -> tuple[Metric, ...]:
        """Paired differences, metric by metric, on the same resamples of the same scans. For an
        error (MAE, calibration error) a negative difference favours the model.

        Raises: ValueError where the two are of different scans.
        """
        ours, theirs = self.predictions, baseline.predictions
        if not (
            np.array_equal(ours.scan, theirs.scan) and np.array_equal(ours.truth, theirs.truth)
        ):
            raise ValueError(
                f"{ours.model} and {theirs.model}: predictions of different scans cannot be "
                "compared"
            )
        return tuple(
            replace(
                _with_interval(name, values - baseline.values[name], ours),
                p=p_of_zero(values - baseline.values[name]),
            )
            for name, values in self.values.items()
        )


def resampled(
    p: Predictions,
    n_bootstrap: int,
    seed: int,
    together: np.ndarray | None = None,
    names: Collection[str] = (),
) -> Draws:
    """Metrics of the target's kind on all scans and on `n_bootstrap` resamples of people.

    Args:
        together: (N,) who is drawn together, where that is more than a person's scans.
        names: metrics that are asked for; none: every one.
    Raises: InputError where no scan has a known truth.
    """
    return Draws(p, weighted(p, weightings(p, n_bootstrap, seed, together), names))


def weighted(
    p: Predictions, weightings: Iterable[np.ndarray], names: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Metrics of the target's kind under every weighting, one after the other.

    Args: weightings: of the scans, each (B, N).   names: as `resampled`.
    """
    asked = {name: m for name, m in METRICS[p.kind].items() if not names or name in names}
    values: dict[str, list[np.ndarray]] = {name: [] for name in asked}
    ordered = [name for name in asked if name in OF_ORDER]
    for weights in weightings:
        found = of_order(p, weights, ordered)
        for name, metric in asked.items():
            values[name].append(found[name] if name in found else metric.compute(p, weights))
    return {name: np.concatenate(parts) for name, parts in values.items()}


def weightings(
    p: Predictions, n_bootstrap: int, seed: int, together: np.ndarray | None
) -> Iterator[np.ndarray]:
    """Weights of the scans, (1, N) of ones and then (B, N) how often each scan's subject was drawn.

    They depend on the subjects and the seed alone, so that two models of the same scans meet the
    same resamples.
    """
    if not len(p.truth):
        raise InputError(
            f"target {p.target}: no scan to evaluate has this label; leave it out of "
            "evaluate.targets"
        )
    subjects, position = np.unique(p.subject if together is None else together, return_inverse=True)
    yield np.ones((1, len(position)))
    size = max(1, CHUNK // len(position))
    few = len(subjects) * n_bootstrap <= KEPT
    drawn = _kept if few else _drawn
    for draws in drawn(len(subjects), n_bootstrap, seed, size):
        yield draws.astype(np.float64)[:, position]


def _drawn(subjects: int, n_bootstrap: int, seed: int, size: int) -> Iterator[np.ndarray]:
    """(at most `size`, S) at a time: how often each subject is drawn."""
    rng = np.random.default_rng(seed)
    for start in range(0, n_bootstrap, size):
        drawn = rng.multinomial(
            subjects, np.full(subjects, 1 / subjects), min(size, n_bootstrap - start)
        )
        yield drawn.astype(np.min_scalar_type(subjects))


@lru_cache(maxsize=4)
def _kept(subjects: int, n_bootstrap: int, seed: int, size: int) -> tuple[np.ndarray, ...]:
    """The same: one report asks for the same draws some hundred times."""
    return tuple(_drawn(subjects, n_bootstrap, seed, size))


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval.  Args: values: (1 + B,), the point estimate and its resamples."""
    drawn = values[1:][np.isfinite(values[1:])]
    if not len(drawn) or not np.isfinite(values[0]):
        return np.nan, np.nan
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def p_of_zero(differences: np.ndarray) -> float:
    """Two-sided p of a bootstrap: twice the share of resamples on the far side of zero, the point
    estimate among them, so that it is never 0; NaN where nothing is defined.

    Args: differences: (1 + B,), the point estimate and its resamples.
    """
    known = differences[np.isfinite(differences)]
    if not len(known) or not np.isfinite(differences[0]):
        return float("nan")
    beyond = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * max(1, beyond) / len(known))


def _with_interval(name: str, values: np.ndarray, p: Predictions) -> Metric:
    low, high = interval(values)
    return Metric(name, float(values[0]), low, high, len(p.truth), len(np.unique(p.subject)))
