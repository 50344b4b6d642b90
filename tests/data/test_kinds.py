"""Each kind of connectivity against its plain formulation, nilearn's where it has one, and against
the matrices that the Auckland collection gives away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lcm_scale.data.kinds import ESTIMATORS, matrix_of, pearson

KINDS = ["pearson", *ESTIMATORS]


@pytest.fixture
def series() -> np.ndarray:
    """(50, 5): raw BOLD of regions that share a part and differ in spread."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 5)) + rng.standard_normal((50, 1))
    return 1000 + x * [1, 2, 4, 8, 16]


def standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)


def shrunk(x: np.ndarray) -> np.ndarray:
    """Ledoit and Wolf 2004: a share of the way to mu I, found from the data."""
    x = x - x.mean(0)
    n, p = x.shape
    sample = x.T @ x / n
    mu = np.trace(sample) / p
    distance = ((sample - mu * np.eye(p)) ** 2).sum() / p
    noise = sum(((np.outer(row, row) - sample) ** 2).sum() for row in x) / p / n**2
    share = min(noise, distance) / distance
    return (1 - share) * sample + share * mu * np.eye(p)


def normalised(matrix: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.diag(matrix))
    return matrix / np.outer(scale, scale)


def plain(kind: str, x: np.ndarray) -> np.ndarray:
    if kind == "pearson":
        return np.corrcoef(x, rowvar=False)
    if kind == "ledoit-wolf":
        return normalised(shrunk(standardised(x)))
    if kind == "partial":
        return -normalised(np.linalg.inv(shrunk(standardised(x))))
    if kind == "covariance":
        found = shrunk(x)
        return found / np.diag(found).mean()
    n = x.shape[1]
    ahead = np.corrcoef(x[:-2], x[2:], rowvar=False)[:n, n:]
    return (ahead + ahead.T) / 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_its_plain_formulation_with_a_diagonal_of_one(
    kind: str, series: np.ndarray
) -> None:
    found = matrix_of(series, kind, lag=2)
    expected = plain(kind, series)
    np.fill_diagonal(expected, 1)
    assert found.dtype == np.float32
    assert np.array_equal(found, found.T)
    assert np.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("ledoit-wolf", "correlation"),
        ("partial", "partial correlation"),
        ("covariance", "covariance"),
    ],
)
def test_a_kind_is_nilearns(kind: str, theirs: str, series: np.ndarray) -> None:
    connectome = pytest.importorskip("nilearn.connectome")
    x = series if kind == "covariance" else standardised(series)
    (expected,) = connectome.ConnectivityMeasure(kind=theirs).fit_transform([x])
    if kind == "covariance":
        expected = expected / np.diag(expected).mean()
    np.fill_diagonal(expected, 1)
    assert np.allclose(matrix_of(series, kind), expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_region_is_a_row_of_zeros_and_enters_nothing_else(
    kind: str, series: np.ndarray
) -> None:
    series[:, 1], series[7, 3] = 5.0, np.nan
    found, rest = matrix_of(series, kind), [0, 2, 4]
    assert not found[[1, 3]].any() and not found[:, [1, 3]].any()
    assert np.allclose(found[np.ix_(rest, rest)], matrix_of(series[:, rest], kind), atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", [1e-150, 1e-3, 1e150])
def test_the_unit_of_the_series_says_nothing(kind: str, unit: float, series: np.ndarray) -> None:
    assert np.allclose(matrix_of(series * unit, kind), matrix_of(series, kind), atol=2e-6)


def test_a_window_without_any_data_is_zeros_in_every_kind() -> None:
    for kind in KINDS:
        assert not matrix_of(np.ones((9, 3)), kind).any()


@pytest.mark.shared
def test_the_auckland_collections_matrices_are_ours(shared: Path) -> None:
    """Files as they were given away: their series, shrunk by us, are their matrices to 2e-7 (half of
    that is our single precision); plain Pearson of the same series is not."""
    folder = shared / "data/taowu40_aal116/original_mat"
    for person in ("control032057", "patient032077"):
        stem = folder / f"sub-{person}_AAL116"
        series = scipy.io.loadmat(f"{stem}_features_timeseries.mat")["data"]
        theirs = scipy.io.loadmat(f"{stem}_correlation_matrix.mat")["data"]
        assert np.abs(matrix_of(series, "ledoit-wolf") - theirs).max() < 2e-7
        assert np.abs(pearson(series) - theirs).max() > 0.05


@pytest.mark.shared
def test_so_are_those_of_all_forty_people_of_taowu(shared: Path) -> None:
    """Series and matrices went through half precision, each on its own."""
    folder, upper = shared / "data/taowu40_aal116", np.triu_indices(116, 1)
    with (
        np.load(folder / "timeseries_fp16.npz") as series,
        np.load(folder / "fc_triu_fp16.npz") as matrices,
    ):
        ours = [matrix_of(scan, "ledoit-wolf")[upper] for scan in series["ts"]]
        assert np.abs(np.stack(ours) - matrices["fc"].astype(float)).max() < 5e-4
