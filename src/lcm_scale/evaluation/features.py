"""What the linear baselines see of the matrices, and the inner products of it that they are fitted
on: Fisher z of the edges, edges as they are, or the tangent space.

The sites' effects may be taken out of the features (`SiteEffects`). They are fitted anew in every
part of an inner cross-validation: a scan that has taken part in its site's mean is the negative of
the site's others, so that its answer is the wrong way round (docs/log.md).
Shapes: n training scans, m test scans, E edges, R regions, F features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from lcm_scale.data.harmonise import SiteEffects
from lcm_scale.data.kinds import MAX_FISHER
from lcm_scale.linear.problem import Inner
from lcm_scale.linear.tangent import TangentSpace, positive_definite

# (n, E) and (m, E) edges -> (n, F) and (m, F)
Features = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


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
    """Tangent vectors about the geometric mean of the *training* matrices, (n, E + R), (m, E + R).
    Nothing is centred further, because the mean tangent vector is about zero."""
    train_spd = positive_definite(train)
    space = TangentSpace.about(train_spd)
    return space.vectors_of(train_spd), space.vectors(test)


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
