"""The tangent space of correlation matrices: scans as vectors in which differences are nearly flat.

nilearn's definition (`ConnectivityMeasure(kind="tangent")`; Varoquaux et al. 2010, Ng et al. 2014)
with one difference. nilearn shrinks each scan's covariance by Ledoit-Wolf from the series; we have
correlation matrices alone and move each a fixed `SHRINKAGE` towards the identity,
C = (1 - s) FC + s I, eigenvalues floored at s / 10. A constant region (a row of zeros) becomes a
row of the identity, so it neither fails nor tells anything.
Shapes: n scans, E = R(R-1)/2 edges, R regions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

# Ledoit-Wolf gives .05 to .14 (median .08) on the series of 884 ABIDE scans; from matrices alone it
# cannot be had, so one value near its median stands for all.
SHRINKAGE = 0.1
MEAN_STEPS = 10
MEAN_TOLERANCE = 1e-3  # of the gradient's norm per region


@dataclass(frozen=True)
class TangentSpace:
    """The space about one matrix.  Attributes: whitening: (R, R), its inverse square root."""

    whitening: np.ndarray

    @classmethod
    def of(cls, edges: np.ndarray) -> TangentSpace:
        """About the geometric mean of some scans.  Args: edges: (n, E) upper triangles by rows."""
        return cls.about(positive_definite(edges))

    @classmethod
    def about(cls, matrices: np.ndarray) -> TangentSpace:
        """About the geometric mean of positive definite matrices (n, R, R)."""
        values, vectors = np.linalg.eigh(geometric_mean(matrices))
        return cls((vectors / np.sqrt(values)) @ vectors.T)

    def vectors(self, edges: np.ndarray) -> np.ndarray:
        """log(G^-1/2 C G^-1/2) of each scan: (n, E) -> (n, E + R), off-diagonals times sqrt 2, so
        that a vector's norm is its matrix's."""
        return self.vectors_of(positive_definite(edges))

    def vectors_of(self, matrices: np.ndarray) -> np.ndarray:
        """As `vectors`, of positive definite matrices (n, R, R)."""
        rows, columns = np.triu_indices(matrices.shape[1])
        scale = np.where(rows == columns, 1.0, np.sqrt(2.0))
        logs = (
            _spectral(self.whitening @ part @ self.whitening, np.log)[:, rows, columns]
            for part in _parts(matrices)
        )
        return np.concatenate(list(logs)) * scale


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


def positive_definite(edges: np.ndarray) -> np.ndarray:
    """Shrunk matrices (n, R, R) of upper triangles (n, E)."""
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


def _parts(matrices: np.ndarray, size: int = 128) -> Iterator[np.ndarray]:
    """Slices that keep the temporary arrays small."""
    for start in range(0, len(matrices), size):
        yield matrices[start : start + size]


def _spectral(matrix: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A function of symmetric matrices (..., R, R) through their eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * function(values)[..., None, :]) @ np.swapaxes(vectors, -1, -2))
