"""The tangent space is nilearn's and pyRiemann's, given the same matrices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lcm_scale.linear import tangent
from lcm_scale.linear.tangent import TangentSpace

REGIONS = 12
EDGES = REGIONS * (REGIONS - 1) // 2


def tangent_features(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    space = TangentSpace.of(train)
    return space.vectors(train), space.vectors(test)


def as_matrices(vectors: np.ndarray) -> np.ndarray:
    """Undo the vectorisation: off-diagonals carry sqrt 2."""
    rows, columns = np.triu_indices(REGIONS)
    out = np.zeros((len(vectors), REGIONS, REGIONS))
    out[:, rows, columns] = vectors / np.where(rows == columns, 1.0, np.sqrt(2.0))
    return out + np.swapaxes(np.triu(out, 1), 1, 2)


def test_tangent_vectors_equal_nilearns_where_the_covariances_are_the_same(
    correlations: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """nilearn shrinks by Ledoit-Wolf from the series; here it gets series whose empirical
    covariance is our shrunk matrix."""
    connectivity = pytest.importorskip("nilearn.connectome")
    from sklearn.covariance import EmpiricalCovariance

    monkeypatch.setattr(tangent, "MEAN_STEPS", 40)
    monkeypatch.setattr(tangent, "MEAN_TOLERANCE", 1e-10)
    edges = correlations(14)
    shrunk = tangent.positive_definite(edges)
    series = []
    for number, matrix in enumerate(shrunk):
        noise = np.random.default_rng(number).normal(size=(50, REGIONS))
        noise -= noise.mean(0)
        white = noise @ np.linalg.inv(np.linalg.cholesky(noise.T @ noise / 50)).T
        series.append(white @ np.linalg.cholesky(matrix).T)
    measure = connectivity.ConnectivityMeasure(
        cov_estimator=EmpiricalCovariance(), kind="tangent", standardize=False
    )
    train, test = measure.fit_transform(series[:10]), measure.transform(series[10:])
    ours_train, ours_test = tangent_features(edges[:10], edges[10:])
    assert np.allclose(as_matrices(ours_train), train, atol=1e-5)
    assert np.allclose(as_matrices(ours_test), test, atol=1e-5)


def test_the_tangent_space_equals_pyriemanns_where_both_converge(
    correlations: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = pytest.importorskip("pyriemann.tangentspace").TangentSpace(metric="riemann")
    monkeypatch.setattr(tangent, "MEAN_STEPS", 50)
    monkeypatch.setattr(tangent, "MEAN_TOLERANCE", 1e-9)
    edges = correlations(14)
    matrices = tangent.positive_definite(edges)
    train = space.fit(matrices[:10]).transform(matrices[:10])
    ours_train, ours_test = tangent_features(edges[:10], edges[10:])
    assert np.abs(ours_train - train).max() < 1e-7
    assert np.abs(ours_test - space.transform(matrices[10:])).max() < 1e-7


def test_shrinkage_is_a_tenth_of_the_way_to_the_identity(
    correlations: Callable[..., np.ndarray],
) -> None:
    edges = correlations(2)
    matrices = tangent.positive_definite(edges)
    rows, columns = np.triu_indices(REGIONS, 1)
    assert np.allclose(matrices[:, rows, columns], 0.9 * edges) and np.allclose(
        np.einsum("nii->ni", matrices), 1
    )


def test_the_geometric_mean_of_commuting_matrices_is_that_of_their_eigenvalues() -> None:
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    spectra = np.random.default_rng(1).uniform(0.2, 5, (7, 5))
    mean = tangent.geometric_mean((basis * spectra[:, None, :]) @ basis.T)
    assert np.allclose(mean, (basis * np.exp(np.log(spectra).mean(0))) @ basis.T, atol=1e-2)


def test_tangent_vectors_average_to_about_zero_and_keep_the_norm(
    correlations: Callable[..., np.ndarray],
) -> None:
    train, _ = tangent_features(correlations(30), correlations(2))
    assert np.abs(train.mean(0)).max() < 0.02
    assert np.allclose((train**2).sum(1), (as_matrices(train) ** 2).sum((1, 2)))


def test_a_matrix_that_is_not_positive_definite_and_a_constant_region_are_survived(
    correlations: Callable[..., np.ndarray],
) -> None:
    edges = correlations(6)
    edges[0] = np.random.default_rng(0).uniform(-1, 1, EDGES)  # no correlation matrix at all
    rows, columns = np.triu_indices(REGIONS, 1)
    edges[:, (rows == 3) | (columns == 3)] = 0
    train, test = tangent_features(edges[:4], edges[4:])
    assert np.isfinite(train).all() and np.isfinite(test).all()
