"""From a linear score to a map of the connectome that may be read.

Weights may not be: an edge gets a large weight for cancelling another's noise, and none for being
redundant. Haufe et al. (NeuroImage 87, 2014; doi 10.1016/j.neuroimage.2013.10.067) turn a filter w
into the activation pattern it responds to, a = cov(x) w / var(w'x) = cov(x, s) / var(s): how much a
feature changes where the score s is one higher. The second form asks for no weights, so it serves a
score of several parts too.

A pattern lies in the tangent space; to first order about its reference G it is the change
G^1/2 S G^1/2 of a scan's shrunk matrix, and of its correlations that over 1 - shrinkage.
Shapes: n scans, R regions, E edges, F = E + R tangent features, K scores.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lcm_scale.linear.tangent import SHRINKAGE


def covariances(vectors: Iterable[np.ndarray], scores: np.ndarray) -> np.ndarray:
    """(K, F) covariance of each feature with each score, over n scans.

    Args: vectors: (n, F), in blocks of scans, in order.   scores: (n, K).
    """
    centred = scores - scores.mean(0)  # which makes centring the features needless
    done, total = 0, np.zeros(())
    for block in vectors:
        total = total + centred[done : done + len(block)].T @ block
        done += len(block)
    return np.asarray(total / len(scores))


def haufe(covariance: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(K, F) activation patterns.  Args: covariance: as `covariances`.   scores: (n, K)."""
    return covariance / np.maximum(scores.var(0), 1e-300)[:, None]


def on_connectome(tangent: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    """(K, E) change of the raw correlations along tangent vectors (K, F), to first order.

    Args: whitening: (R, R), G^-1/2 of the reference G.
    """
    n_regions = len(whitening)
    values, axes = np.linalg.eigh(whitening)
    root = (axes / values) @ axes.T
    rows, columns = np.triu_indices(n_regions)
    scale = np.where(rows == columns, 1.0, np.sqrt(0.5))
    upper = np.triu_indices(n_regions, 1)
    found = np.empty((len(tangent), len(upper[0])))
    for number, vector in enumerate(tangent):
        square = np.zeros((n_regions, n_regions))
        square[rows, columns] = vector * scale
        square[columns, rows] = vector * scale
        found[number] = (root @ square @ root)[upper]
    return found / (1 - SHRINKAGE)
