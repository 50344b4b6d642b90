"""The kinds of connectivity: region series (T, R) to a symmetric matrix (R, R).

A region without data (constant, or with NaN or inf) is a row of zeros in every kind, its diagonal
included, and enters nothing else. The diagonal of all others is 1, as it is read back from the
stored triangles. Every kind but `covariance` lies in -1..1. Only `pearson` and `ledoit-wolf` are
positive definite with that diagonal (Pearson as far as there are more volumes than regions), which
is what a tangent space needs.

Ledoit-Wolf shrinkage is scikit-learn's, the one that nilearn's `ConnectivityMeasure` calls: on
standardised series the results are equal (docs/log.md says why it is called directly).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lcm_scale import plugins

Estimator = Callable[[np.ndarray, int], np.ndarray]  # usable series (T, R), lag -> (R, R)
LARGEST = 1e300  # beyond it a value counts as inf: the sum of a longest series would become that
MAX_FISHER = 0.999  # a correlation of 1 has no Fisher z
TOLERANCE = 1e-6  # by which a plug-in's matrix may miss symmetry or -1..1
CORRELATIONS = ("pearson", "ledoit-wolf")  # positive definite, with a diagonal of 1


def matrix_of(series: np.ndarray, kind: str, lag: int = 1) -> np.ndarray:
    """The connectivity of the columns.

    Args:
        series: (T, R).   kind: ``pearson``, one of `ESTIMATORS`, or as another package offers it.
        lag: volumes, for ``lagged``; below T - 1.
    Returns: float32 (R, R), computed in float64.
    Raises: InputError where nobody offers the kind, or what is offered fails.
    """
    if kind == "pearson":
        return pearson(series)
    x = np.asarray(series, dtype=np.float64)
    usable = np.flatnonzero(summable(x) & ~constant(x))
    matrix = np.zeros((x.shape[1], x.shape[1]))
    if len(usable):
        of = x[:, usable]
        estimate = ESTIMATORS[kind](of, lag) if kind in ESTIMATORS else _of_plugin(kind, of)
        matrix[np.ix_(usable, usable)] = estimate
        matrix[usable, usable] = 1.0
    return matrix.astype(np.float32)


def check_kind(kind: str) -> None:
    """Raises: InputError where nobody offers it, or the package that does cannot be imported."""
    if kind != "pearson" and kind not in ESTIMATORS:
        plugins.load_function("connectivities", kind)


def pearson(series: np.ndarray) -> np.ndarray:
    """Pearson correlation of the columns.

    Args: series: (T, R).
    Returns: float32 (R, R), computed in float64. Rows and columns of a constant region, or of one
        with NaN or inf, are 0, the diagonal included.
    """
    x = np.asarray(series, dtype=np.float64)
    usable = summable(x) & ~constant(x)
    x = _unit_columns(np.where(usable, x, 0.0))
    matrix = np.clip(x.T @ x, -1.0, 1.0)
    np.fill_diagonal(matrix, usable)
    return matrix.astype(np.float32)


def summable(series: np.ndarray) -> np.ndarray:
    """(R,) whether a column has neither NaN nor inf, nor sums to that."""
    return np.asarray((np.abs(series) <= LARGEST).all(0))


def constant(series: np.ndarray) -> np.ndarray:
    """(R,) whether a column is one value throughout: exact, because a mean of equal floats need not
    equal them."""
    return np.asarray((series == series[:1]).all(0))


def _unit_columns(x: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and length 1; one of no spread stays 0."""
    x = x - x.mean(0)
    largest = np.abs(x).max(0)  # brings tiny and huge units to one size before squaring
    x = x / np.where(largest > 0, largest, 1.0)
    norm = np.sqrt((x * x).sum(0))
    return np.asarray(x / np.where(norm > 0, norm, 1.0))


def _shrunk(x: np.ndarray) -> np.ndarray:
    """Ledoit-Wolf covariance of the columns."""
    from sklearn.covariance import LedoitWolf  # a third of a second, which Pearson does without

    return np.asarray(LedoitWolf(store_precision=False).fit(x).covariance_)


def _normalised(covariance: np.ndarray) -> np.ndarray:
    scale = 1 / np.sqrt(np.diag(covariance))
    return covariance * scale * scale[:, None]


def _ledoit_wolf(x: np.ndarray, lag: int) -> np.ndarray:
    return _normalised(_shrunk(_unit_columns(x)))


def _partial(x: np.ndarray, lag: int) -> np.ndarray:
    """Correlation of two regions given all others, from the inverse of the Ledoit-Wolf estimate."""
    precision = np.linalg.inv(_ledoit_wolf(x, lag))
    return -_normalised((precision + precision.T) / 2)


def _covariance(x: np.ndarray, lag: int) -> np.ndarray:
    """Ledoit-Wolf covariance over its mean variance: the unit of the series says nothing, the
    diagonal averages the 1 that is read back for it, and no number is above R."""
    x = x - x.mean(0)
    covariance = _shrunk(x / np.abs(x).max())
    return covariance / np.diag(covariance).mean()


def _lagged(x: np.ndarray, lag: int) -> np.ndarray:
    """Correlation of a region with another `lag` volumes later, the mean of both directions: what
    is stored is symmetric."""
    ahead = _unit_columns(x[:-lag]).T @ _unit_columns(x[lag:])
    return np.clip((ahead + ahead.T) / 2, -1.0, 1.0)


def _of_plugin(kind: str, x: np.ndarray) -> np.ndarray:
    """Another package's estimate, seen to be what is stored and read as a correlation is."""
    plugin, estimate = plugins.load_function("connectivities", kind)
    matrix = np.asarray(estimate(x), dtype=np.float64)
    R = x.shape[1]
    if matrix.shape != (R, R):
        raise plugin.fault(f"a matrix of shape {matrix.shape}, expected {(R, R)}")
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > 1 + TOLERANCE:
        raise plugin.fault("a value that is no number, or beyond -1..1")
    if np.abs(matrix - matrix.T).max() > TOLERANCE:
        raise plugin.fault("its matrix is not symmetric")
    return np.clip((matrix + matrix.T) / 2, -1.0, 1.0)


ESTIMATORS: Mapping[str, Estimator] = {
    "ledoit-wolf": _ledoit_wolf,
    "partial": _partial,
    "covariance": _covariance,
    "lagged": _lagged,
}
