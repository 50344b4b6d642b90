"""Metrics: what a set of held-out predictions is worth.

Every metric is a function of a (B, N) matrix of weights, how often each resample of `intervals`
holds each scan. Ranks are compared within a fold only (AUROC, r): scores of differently trained
models share no scale, and pooling them pushes a constant guess below chance.
Shapes: B weightings, N scans, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lcm_scale.errors import InputError
from lcm_scale.evaluation.ranking import Ranking, as_rows, over

CALIBRATION_BINS = 10


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
    return of_order(p, weights, ["auroc"])["auroc"]


def auprc(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """Average precision, of the classes as `auroc`: chance is the positive class's share."""
    return of_order(p, weights, ["auprc"])["auprc"]


def sensitivity_at_90(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """Sensitivity at 90 % specificity, of the classes as `auroc`."""
    return of_order(p, weights, ["sensitivity_at_90"])["sensitivity_at_90"]


OF_ORDER: Mapping[str, Callable[[Ranking], np.ndarray]] = {
    "auroc": Ranking.area_under_roc,
    "auprc": Ranking.average_precision,
    "sensitivity_at_90": Ranking.sensitivity,
}


def of_order(p: Predictions, weights: np.ndarray, names: Collection[str]) -> dict[str, np.ndarray]:
    """Metrics of the order, of the second of two classes, or the mean over those that occur: of
    each class the scans are sorted once for all of them.

    Args: names: keys of `OF_ORDER`.
    """
    present = np.unique(p.truth).astype(np.int64)
    if len(present) < 2 or not names:
        return {name: np.full(len(weights), np.nan) for name in names}
    rows = as_rows(weights)
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for c in present[1:] if len(present) == 2 else present:
        ranking = Ranking(p.scores[:, c], p.truth == c, p.fold, rows)
        for name in names:
            found[name].append(OF_ORDER[name](ranking))
    return {name: _nanmean(np.stack(each, axis=1)) for name, each in found.items()}


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
