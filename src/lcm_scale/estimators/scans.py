"""What an estimator is given, read: series, matrices or columns, answers, people.

Series are correlated as `lcm-scale shard` does it; of a matrix the upper triangle is kept. Columns
are features of any kind and have no tangent space. Whatever is wrong is a ValueError of
scikit-learn's kind, since that is what its users catch.
Shapes: n scans, T volumes, R regions, E = R(R-1)/2 edges, F columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from lcm_scale.data.kinds import CORRELATIONS, ESTIMATORS, constant, matrix_of
from lcm_scale.errors import InputError, nearest

KINDS = ("pearson", *ESTIMATORS)
TOLERANCE = 1e-3  # by which a matrix may miss symmetry or the range of a correlation
LEAST_VOLUMES = 3  # of two, every correlation is 1 or -1


@dataclass(frozen=True)
class Scans:
    """What was given.

    Attributes:
        values: float32 (n, E) edges, or float64 (n, F) columns.
        n_regions: R, 0 of columns.   from_series: whether the edges were made here.
    """

    values: np.ndarray
    n_regions: int
    from_series: bool = False


def read_scans(estimator: BaseEstimator, X: Any, kind: str, reset: bool) -> Scans:
    """Check X and, where `reset`, remember its width in the estimator; else compare with it.

    Args:
        X: a list of series (T_i, R), or an array (n, T, R) of them; matrices (n, R, R), as an array
            or a list; or columns (n, F). A list of symmetric matrices is one of matrices.
        kind: one of `KINDS`: what series become, or what the matrices are.
    Raises: ValueError.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}{nearest(str(kind), KINDS)} (one of {', '.join(KINDS)})")
    given = _connectomes(X)
    if given is None:
        if not reset:
            _same_form(estimator, 0)
        columns = validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32])
        return Scans(columns, 0)
    if not len(given):
        raise ValueError("X holds 0 sample(s) (scans), and at least 1 is needed")
    from_series = not _are_matrices(given)
    if from_series:
        given = [_matrix(series, kind, number) for number, series in enumerate(given)]
    else:
        given = [_checked(matrix, kind, number) for number, matrix in enumerate(given)]
    widths = sorted({len(matrix) for matrix in given})
    if len(widths) > 1:
        raise ValueError(f"X: all scans must have the same regions; found {widths} of them")
    R = widths[0]
    if reset:
        estimator.n_features_in_ = R
        estimator.n_regions_ = R
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
    else:
        _same_form(estimator, R)
    rows, columns = np.triu_indices(R, 1)
    edges = np.stack([matrix[rows, columns] for matrix in given])
    # Of series the diagonal says it: Ledoit-Wolf may shrink a short scan to nothing but that.
    off_diagonal = (1 - np.eye(R, dtype=np.float32)) if not from_series else 1
    lost = sum(not (matrix * off_diagonal).any(0).all() for matrix in given)
    if reset and lost:
        warnings.warn(
            f"{lost} of {len(given)} scans have a region without data (constant, or a row of "
            "zeros); it tells nothing of them",
            UserWarning,
            stacklevel=3,
        )
    return Scans(edges, R, from_series)


def read_answers(estimator: BaseEstimator, y: Any, n_scans: int, numbers: bool) -> np.ndarray:
    """y as (n,), float64 of a regressor.  Raises: ValueError."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y "
            "is None"
        )
    y = column_or_1d(y, warn=True)
    assert_all_finite(y, input_name="y")
    if numbers:
        y = y.astype(np.float64)
    else:
        check_classification_targets(y)
    if len(y) != n_scans:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: [{n_scans}, {len(y)}]"
        )
    return y


def read_people(groups: Any, n_scans: int) -> np.ndarray:
    """(n,) the person of each scan, numbered in sorted order; without groups each scan is one.

    Raises: ValueError.
    """
    if groups is None:
        return np.arange(n_scans)
    groups = column_or_1d(groups)
    if len(groups) != n_scans:
        raise ValueError(f"groups: expected one person a scan ({n_scans}), found {len(groups)}")
    if groups.dtype.kind == "f" and np.isnan(groups).any():
        raise ValueError("groups contains NaN: every scan needs its person")
    people = np.unique(groups, return_inverse=True)[1]
    if people.max() == 0:
        raise ValueError("groups names 1 person; at least 2 people are needed")
    return np.asarray(people)


def seed_of(random_state: Any) -> int:
    """A seed as the recipes have it: an integer is itself."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


@contextmanager
def as_value_errors() -> Iterator[None]:
    """Mistakes of the user's in scikit-learn's words."""
    try:
        yield
    except InputError as error:
        raise ValueError(str(error)) from error


def _connectomes(X: Any) -> np.ndarray | list[Any] | None:
    """X as scans; None where it holds columns, or nothing that is known here."""
    if getattr(X, "ndim", 0) == 3:
        return np.asarray(X)
    listed = isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.ndim == 1)
    return list(X) if listed and len(X) and getattr(X[0], "ndim", 0) == 2 else None


def _are_matrices(given: np.ndarray | list[Any]) -> bool:
    """A square array holds matrices; a list does where all are symmetric, since no series is."""
    shapes = [np.shape(each) for each in given]
    if any(len(shape) != 2 for shape in shapes):
        raise ValueError("X: every scan of a list must be 2-D, series (T, R) or matrices (R, R)")
    if any(rows != columns for rows, columns in shapes):
        return False
    if isinstance(given, np.ndarray):
        return True
    return all(
        np.allclose(each, each.T, atol=TOLERANCE, equal_nan=True) for each in map(_f8, given)
    )


def _f8(each: Any) -> np.ndarray:
    return np.asarray(each, dtype=np.float64)


def _finite(values: np.ndarray, number: int) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        what = "NaN" if np.isnan(values).any() else "infinity"
        raise ValueError(
            f"Input X contains {what}: scan {number}, region {int(np.argwhere(bad)[0, 1])}. A "
            "region without data is a column of zeros in series, a row and column of zeros in a "
            "matrix"
        )


def _matrix(given: Any, kind: str, number: int) -> np.ndarray:
    """Connectivity, float32 (R, R), of a series."""
    series = _f8(given)
    _finite(series, number)
    if len(series) < LEAST_VOLUMES:
        raise ValueError(
            f"X: scan {number} has {len(series)} volumes (rows); at least {LEAST_VOLUMES} are "
            "needed"
        )
    if constant(series).all():
        raise ValueError(f"X: scan {number}: no region changes over its {len(series)} volumes")
    return matrix_of(series, kind)


def _checked(given: Any, kind: str, number: int) -> np.ndarray:
    """A matrix that was made elsewhere, float32 (R, R)."""
    matrix = np.asarray(given, dtype=np.float32)
    _finite(matrix, number)
    if np.abs(matrix - matrix.T).max() > TOLERANCE:
        raise ValueError(
            f"X: scan {number}: the matrix is not symmetric; series of as many volumes as regions "
            "go in as a list"
        )
    largest = float(np.abs(matrix).max())
    if kind != "covariance" and largest > 1 + TOLERANCE:
        raise ValueError(
            f"X: scan {number}: {largest:.3g} is no correlation; expected -1..1, neither Fisher z "
            "nor a covariance"
        )
    if not np.triu(matrix, 1).any():
        raise ValueError(f"X: scan {number}: every correlation is 0; it holds no data")
    return matrix


def _same_form(estimator: BaseEstimator, n_regions: int) -> None:
    """n_regions: of what is given, 0 of columns."""
    check_is_fitted(estimator)
    fitted = estimator.n_regions_
    if n_regions == fitted:
        return
    name = type(estimator).__name__
    words = [
        f"series or matrices of {count} regions" if count else "columns of features"
        for count in (n_regions, fitted)
    ]
    raise ValueError(f"X holds {words[0]}, but {name} was fitted on {words[1]}")


def check_correlations(kind: str, what: str) -> None:
    """Raises: ValueError where matrices of this kind have no tangent space."""
    if kind in KINDS and kind not in CORRELATIONS:
        raise ValueError(
            f"kind={kind!r}: {what} needs positive definite matrices "
            f"({' or '.join(CORRELATIONS)}); ConnectomeFeatures(kind=...) makes columns of others"
        )
