"""Metrics with intervals: what a set of held-out predictions is worth, and which of two models is
better.

Every interval is a 95 % percentile bootstrap over *subjects*: a person's scans are drawn together,
since they are not independent. A resample is a weight per scan, and every metric here is a function
of a (B, N) matrix of weights, so that 2000 resamples are a few matrix products. Row 0 holds ones:
the point estimate takes the same path. Ranks are compared within a fold only (AUROC, r): scores of
differently trained models share no scale, and pooling them pushes a constant guess below chance.
Shapes: B weightings, N scans, C classes, S subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from lcm_scale.errors import InputError
from lcm_scale.evaluation.ranking import (
    area_under_roc,
    average_precision,
    over,
    sensitivity,
)

CALIBRATION_BINS = 10
CHUNK = 4_000_000  # weights held at once
KEPT = 10_000_000  # draws of subjects that are kept for the next metric, 2 bytes each


@dataclass(frozen=True)
class Predictions:
    """Held-out predictions of one model for one target, of the scans whose truth is known.

    Attributes:
        model: its name in tables.  target: its name.  kind: ``class`` or ``scalar``.
        categories: C class names in code order; (name,) for a scalar.
        truth: (N,) class codes or values.
        scores: (N, C) probabilities or (N,) values.
        subject: (N,) hashed subject id or number.  fold: (N,) which model scored it.  scan: (N,)
            the scan's id.
    """

    model: str
    target: str
    kind: str
    categories: tuple[str, ...]
    truth: np.ndarray
    scores: np.ndarray
    subject: np.ndarray
    fold: np.ndarray
    scan: np.ndarray

    def __post_init__(self) -> None:
        shape = (
            (len(self.truth), len(self.categories)) if self.kind == "class" else (len(self.truth),)
        )
        if self.scores.shape != shape:
            raise ValueError(
                f"{self.model}, {self.target}: scores of shape {self.scores.shape}, expected "
                f"{shape}"
            )
        if not np.isfinite(self.scores).all():
            raise InputError(
                f"{self.model}, target {self.target}: a prediction is not a number, the training "
                "diverged; lower optim.momentum.lr and optim.adaptive.lr, or set optim.clip_norm"
            )

    def of(self, which: np.ndarray) -> Predictions:
        """Those of some scans.  Args: which: (N,) bool, or positions."""
        return replace(
            self,
            truth=self.truth[which],
            scores=self.scores[which],
            subject=self.subject[which],
            fold=self.fold[which],
            scan=self.scan[which],
        )

    def once(self) -> Predictions:
        """Every scan once: of several divisions into folds those of the first."""
        return self.of(np.sort(np.unique(self.scan, return_index=True)[1]))

    @property
    def predicted(self) -> np.ndarray:
        """(N,) class codes or values."""
        return self.scores.argmax(1) if self.kind == "class" else self.scores


@dataclass(frozen=True)
class Metric:
    """A value with its 95 % interval over subjects; NaN where it is undefined (AUROC of one class).

    Attributes: p: of a difference, two-sided, that it is zero; None of a value.
    """

    name: str
    value: float
    low: float
    high: float
    n_scans: int
    n_subjects: int
    p: float | None = None


def accuracy(p: Predictions, weights: np.ndarray) -> np.ndarray:
    return over(weights @ (p.predicted == p.truth), weights.sum(1))


def balanced_accuracy(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean recall over the classes that occur."""
    counts = _confusion(p, weights)
    return _nanmean(over(np.diagonal(counts, axis1=1, axis2=2), counts.sum(2)))


def weighted_f1(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """F1 of each class, averaged by its share of the scans."""
    counts = _confusion(p, weights)
    support = counts.sum(2)
    f1 = over(2 * np.diagonal(counts, axis1=1, axis2=2), support + counts.sum(1))
    return over((np.nan_to_num(f1) * support).sum(1), support.sum(1))


def auroc(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """Share of rightly ordered pairs, each pair within one fold: of two classes the second is the
    positive one; of more the mean of one-vs-rest over the classes that occur."""
    return _one_vs_rest(area_under_roc, p, weights)


def auprc(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """Average precision, of the classes as `auroc`: chance is the positive class's share."""
    return _one_vs_rest(average_precision, p, weights)


def sensitivity_at_90(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """Sensitivity at 90 % specificity, of the classes as `auroc`."""
    return _one_vs_rest(sensitivity, p, weights)


def brier(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """Squared error of the probabilities, half its sum over the classes, 0 to 1: of two classes the
    usual score, of more scikit-learn's with `scale_by_half`."""
    wrong = p.scores - np.eye(len(p.categories))[p.truth.astype(np.int64)]
    return over(weights @ (wrong**2).sum(1), 2 * weights.sum(1))


def calibration_error(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error: |share right - mean confidence| over ten equal bins of the top
    class's probability."""
    confidence = p.scores.max(1)
    bins = np.clip(
        np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1
    )
    excess = (p.predicted == p.truth) - confidence
    gaps = weights @ (np.eye(CALIBRATION_BINS)[bins] * excess[:, None])
    return over(np.abs(gaps).sum(1), weights.sum(1))


def mean_absolute_error(p: Predictions, weights: np.ndarray) -> np.ndarray:
    return over(weights @ np.abs(p.scores - p.truth), weights.sum(1))


def r_squared(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """Share of the variance about the mean of the scans at hand that is explained; below 0 is worse
    than that mean."""
    truth = p.truth - p.truth.mean()
    total = weights.sum(1)
    variance = weights @ truth**2 - over((weights @ truth) ** 2, total)
    return 1 - over(weights @ (p.scores - p.truth) ** 2, variance)


def pearson_r(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """Correlation of truth and prediction, both centred on their fold's mean."""
    folds = (np.unique(p.fold)[:, None] == p.fold).astype(np.float64).T
    total = weights @ folds
    x, y = (v - v.mean() for v in (p.scores.astype(np.float64), p.truth.astype(np.float64)))
    sums = {
        k: weights @ (folds * v[:, None])
        for k, v in {"x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y}.items()
    }

    def within(a: str, b: str) -> np.ndarray:
        return np.asarray((sums[a + b] - np.nan_to_num(over(sums[a] * sums[b], total))).sum(1))

    xx, yy = within("x", "x"), within("y", "y")
    floor = 1e-9 * (1 + weights.sum(1))  # a constant prediction has no correlation
    return np.where(
        (xx > floor) & (yy > floor),
        within("x", "y") / np.sqrt(np.maximum(xx * yy, floor**2)),
        np.nan,
    )


@dataclass(frozen=True)
class MetricKind:
    """How a metric is called, computed and read; `ideal` is the value of a perfect model."""

    label: str
    compute: Callable[[Predictions, np.ndarray], np.ndarray]
    higher_is_better: bool
    ideal: float


METRICS: Mapping[str, dict[str, MetricKind]] = {  # and `offered` adds those of other packages
    "class": {
        "accuracy": MetricKind("Accuracy", accuracy, True, 1),
        "balanced_accuracy": MetricKind("Balanced accuracy", balanced_accuracy, True, 1),
        "weighted_f1": MetricKind("Weighted F1", weighted_f1, True, 1),
        "auroc": MetricKind("AUROC", auroc, True, 1),
        "auprc": MetricKind("AUPRC", auprc, True, 1),
        "sensitivity_at_90": MetricKind(
            "Sensitivity at 90 % specificity", sensitivity_at_90, True, 1
        ),
        "brier": MetricKind("Brier score", brier, False, 0),
        "calibration_error": MetricKind("Calibration error", calibration_error, False, 0),
    },
    "scalar": {
        "mae": MetricKind("Mean absolute error", mean_absolute_error, False, 0),
        "r2": MetricKind("R²", r_squared, True, 1),
        "pearson_r": MetricKind("Pearson r", pearson_r, True, 1),
    },
}


def primary(kind: str, n_classes: int, wanted: str = "") -> str:
    """The metric that says who wins a target: `wanted` where the kind has it, else AUROC for two
    classes, accuracy for more and the mean absolute error of a scalar."""
    if wanted in METRICS[kind]:
        return wanted
    if kind == "scalar":
        return "mae"
    return "auroc" if n_classes == 2 else "accuracy"


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
    for weights in weightings:
        for name, metric in asked.items():
            values[name].append(metric.compute(p, weights))
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


def _one_vs_rest(
    of: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    p: Predictions,
    weights: np.ndarray,
) -> np.ndarray:
    """A metric of the order, of the second of two classes, or the mean over those that occur."""
    present = np.unique(p.truth).astype(np.int64)
    if len(present) < 2:
        return np.full(len(weights), np.nan)
    if len(present) == 2:
        present = present[1:]
    each = [of(p.scores[:, c], p.truth == c, p.fold, weights) for c in present]
    return _nanmean(np.stack(each, axis=1))


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Mean over axis 1 of what is defined, NaN where nothing is."""
    return over(np.nansum(values, axis=1), np.isfinite(values).sum(1))


def _confusion(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """(B, C, C) weights by truth and prediction."""
    n_classes = len(p.categories)
    cells, cell = np.unique(p.truth.astype(np.int64) * n_classes + p.predicted, return_inverse=True)
    counts = np.zeros((len(weights), n_classes * n_classes))
    counts[:, cells] = weights @ np.eye(len(cells))[cell]
    return counts.reshape(-1, n_classes, n_classes)
