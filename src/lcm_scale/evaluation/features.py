"""What the linear baselines see of the matrices, and the inner products of it that they are fitted
on: Fisher z of the edges, edges as they are, or the tangent space.

The sites' effects may be taken out of the features (`SiteEffects`). They are fitted anew in every
part of an inner cross-validation: a scan that has taken part in its site's mean is the negative of
the site's others, so that its answer is the wrong way round (docs/log.md).
Shapes: n training scans, m test scans, E edges, R regions, F features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from lcm_scale.data.harmonise import SiteEffects
from lcm_scale.data.kinds import MAX_FISHER

# Ledoit-Wolf gives .05 to .14 (median .08) on the series of 884 ABIDE scans; from matrices alone it
# cannot be had, so one value near its median stands for all.
SHRINKAGE = 0.1
MEAN_STEPS = 10
MEAN_TOLERANCE = 1e-3  # of the gradient's norm per region

# (n, E) and (m, E) edges -> (n, F) and (m, F)
Features = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# positions of some training scans and of others -> the inner products of the former, and of the
# latter with them
Inner = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def fisher_features(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fisher z of the edges, centred on the training mean: (n, E), (m, E)."""
    return centred(*fisher_vectors(train, test))


def fisher_vectors(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Not centred: a region without data is still a row of zeros."""
    train, test = plain_vectors(train, test)
    return tuple(np.arctanh(np.clip(e, -MAX_FISHER, MAX_FISHER)) for e in (train, test))


def plain_features(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges that have no Fisher z, centred on the training mean: (n, E), (m, E)."""
    return centred(*plain_vectors(train, test))


def plain_vectors(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return train.astype(np.float64), test.astype(np.float64)


def centred(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both about the training mean."""
    centre = train.mean(0)
    return train - centre, test - centre


def tangent_features(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tangent vectors log(G^-1/2 C G^-1/2) about the geometric mean G of the *training* matrices,
    (n, E + R), (m, E + R).

    nilearn's definition (`ConnectivityMeasure(kind="tangent")`; Varoquaux et al. 2010, Ng et al.
    2014) with one difference. nilearn shrinks each scan's covariance by Ledoit-Wolf from the
    series; we have correlation matrices alone and move each a fixed `SHRINKAGE` towards the
    identity, C = (1 - s) FC + s I, eigenvalues floored at s / 10. A constant region (a row of
    zeros) becomes a row of the identity, so it neither fails nor tells anything. Off-diagonals
    carry sqrt 2, so that a vector's norm is its matrix's. Nothing is centred further, because the
    mean tangent vector is about zero.
    """
    train_spd, test_spd = _positive_definite(train), _positive_definite(test)
    values, vectors = np.linalg.eigh(geometric_mean(train_spd))
    whitening = (vectors / np.sqrt(values)) @ vectors.T
    return _tangent_vectors(train_spd, whitening), _tangent_vectors(test_spd, whitening)


def geometric_mean(matrices: np.ndarray) -> np.ndarray:
    """The geometric (Karcher) mean of symmetric positive definite matrices (n, R, R), by
    fixed-point iteration.

    Starts from the arithmetic mean; each step moves along the mean tangent vector and is halved
    where that grows.
    """
    mean = matrices.mean(0)
    step, last = 1.0, np.inf
    for _ in range(MEAN_STEPS):
        values, vectors = np.linalg.eigh(mean)
        root = (vectors * np.sqrt(values)) @ vectors.T
        inverse_root = (vectors / np.sqrt(values)) @ vectors.T
        gradient = sum(
            _spectral(inverse_root @ part @ inverse_root, np.log).sum(0)
            for part in _parts(matrices)
        ) / len(matrices)
        norm = float(np.linalg.norm(gradient))
        if norm / len(mean) < MEAN_TOLERANCE:
            break
        step = step / 2 if norm > last else step
        last = norm
        mean = root @ _spectral(step * gradient, np.exp) @ root
        mean = (mean + mean.T) / 2
    return mean


def _parts(matrices: np.ndarray, size: int = 128) -> Iterator[np.ndarray]:
    """Slices that keep the temporary arrays small."""
    for start in range(0, len(matrices), size):
        yield matrices[start : start + size]


def _spectral(matrix: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A function of symmetric matrices (..., R, R) through their eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * function(values)[..., None, :]) @ np.swapaxes(vectors, -1, -2))


def _positive_definite(edges: np.ndarray) -> np.ndarray:
    n_regions = int((1 + np.sqrt(1 + 8 * edges.shape[1])) / 2)
    rows, columns = np.triu_indices(n_regions, 1)
    matrices = np.zeros((len(edges), n_regions, n_regions))
    matrices[:, rows, columns] = (1 - SHRINKAGE) * edges
    matrices += np.swapaxes(matrices, 1, 2) + np.eye(n_regions)
    # Rounded to fp16, or padded as published, a correlation matrix may be a little or far from
    # positive definite.
    if np.linalg.eigvalsh(matrices)[:, 0].min() < SHRINKAGE / 10:
        matrices = np.concatenate(
            [_spectral(p, lambda v: np.maximum(v, SHRINKAGE / 10)) for p in _parts(matrices)]
        )
    return matrices


def _tangent_vectors(matrices: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    rows, columns = np.triu_indices(matrices.shape[1])
    scale = np.where(rows == columns, 1.0, np.sqrt(2.0))
    logs = (
        _spectral(whitening @ part @ whitening, np.log)[:, rows, columns]
        for part in _parts(matrices)
    )
    return np.concatenate(list(logs)) * scale


_LATEST: dict[
    str, tuple[bytes, tuple[np.ndarray, np.ndarray]]
] = {}  # what was made -> what was asked last, and the answer


def inner_products(
    features: Features, train: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n, n) and (m, n) inner products over the mean training norm. The targets of one fold share
    the latest answer: no label enters it, and the tangent space of 884 scans takes seconds."""

    def make(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b = features(train, test)
        gram = a @ a.T
        scale = _scale(gram)
        return gram / scale, b @ a.T / scale

    return _latest(f"products of {features.__name__}", make, train, test)


def products_without_sites(
    features: Features, train: np.ndarray, test: np.ndarray, sites: SiteEffects
) -> tuple[np.ndarray, np.ndarray, Inner]:
    """As `inner_products`, of features without the sites' effects, and what gives them of a part of
    the training scans.

    Args: sites: of the training scans, then of the test scans.
    """
    vectors = VECTORS.get(features, features)
    own, held_out = _latest(vectors.__name__, vectors, train, test)

    def products(
        fitted: np.ndarray, others: np.ndarray, about: SiteEffects
    ) -> tuple[np.ndarray, np.ndarray]:
        moved = about.removed(np.concatenate([fitted, others]), len(fitted))
        a, b = centred(moved[: len(fitted)], moved[len(fitted) :])
        return a @ a.T, b @ a.T

    gram, test_gram = products(own, held_out, sites)
    scale = _scale(gram)

    def inner(fit: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        part = products(own[fit], own[held], sites.of(np.concatenate([fit, held])))
        return part[0] / scale, part[1] / scale

    return gram / scale, test_gram / scale, inner


VECTORS: dict[Features, Features] = {
    fisher_features: fisher_vectors,
    plain_features: plain_vectors,
}  # before they are centred


def _scale(gram: np.ndarray) -> float:
    return max(float(np.trace(gram)) / len(gram), 1e-12)


def _latest(
    name: str, make: Features, train: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    digest = hashlib.sha256(repr((train.shape, test.shape, train.dtype)).encode())
    for array in (train, test):
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    key, answer = _LATEST.get(name, (b"", None))
    if answer is None or key != digest.digest():
        answer = make(train, test)
        _LATEST[name] = (digest.digest(), answer)
    return answer
