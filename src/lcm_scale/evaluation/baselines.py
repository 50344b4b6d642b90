"""The plain models that stand beside each of our numbers, on the same folds: majority, linear and
tangent.

In come the raw correlations of a fold's training and test scans, out go scores of the test scans:
(m, C) probabilities or (m,) values. Scans are far fewer than edges, so every linear model here is
fitted on the n x n matrix of inner products between scans, which is exact and a hundred times
faster than on the edges. Whatever is fitted (centre, tangent reference, C or alpha, calibration) is
fitted on training scans; the tuning is an inner cross-validation by subject.
Shapes: n training scans, m test scans, E edges, R regions, C classes.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.svm import SVC

from lcm_scale.data.harmonise import SiteEffects
from lcm_scale.data.kinds import CORRELATIONS, MAX_FISHER
from lcm_scale.errors import InputError

INNER_FOLDS = 5
MAX_SVM_CLASSES = 8  # beyond it one SVM a class costs minutes; a ridge classifier is as good there
SVM_COSTS = np.logspace(-0.8, 0.4, 7)  # against inner products whose training diagonal averages 1
RIDGE_ALPHAS = np.logspace(-2.5, 1.5, 13)
TEMPERATURES = np.logspace(-1, 2, 61)
# Ledoit-Wolf gives .05 to .14 (median .08) on the series of 884 ABIDE scans; from matrices alone it
# cannot be had, so one value near its median stands for all.
SHRINKAGE = 0.1
MEAN_STEPS = 10
MEAN_TOLERANCE = 1e-3  # of the gradient's norm per region

Features = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Problem:
    """One target in one fold, as inner products: `train` (n, n), `test` (m, n), their training
    diagonal averaging 1."""

    train: np.ndarray
    test: np.ndarray
    truth: np.ndarray
    subject: np.ndarray
    n_classes: int
    seed: int


def fit_predict(
    name: str,
    edges_train: np.ndarray,
    truth_train: np.ndarray,
    subject_train: np.ndarray,
    edges_test: np.ndarray,
    kind: str,
    n_classes: int,
    seed: int,
    connectivity: Collection[str] = ("pearson",),
    sites: SiteEffects | None = None,
    log: bool = False,
) -> np.ndarray:
    """Fit a baseline on training scans and score the test scans.

    Args:
        name: one of `BASELINES`.
        edges_train, edges_test: (n, E), (m, E) edges as stored, upper triangle by rows.
        truth_train: (n,) class codes below `n_classes`, or values; no missing ones.
        subject_train: (n,) groups of the inner cross-validation.
        kind: ``class`` or ``scalar``.   n_classes: width of the result; ignored for a scalar.
        connectivity: the kinds of the matrices (`ShardSets.kinds_of`).
        sites: their effects are taken out of the tangent vectors. Whoever gives them gives the
            tangent space matrices as they are, and the others matrices without them: those are far
            from positive definite, and how far tells the site.
        log: fit the logarithm of a scalar; what is given and returned is in its unit.
    Returns: float64 (m, n_classes) probabilities (0 for a class without a training scan), or (m,)
        values.
    """
    model = BASELINES[name]
    if name == "tangent" and sites is not None:
        model = partial(tuned_linear, tangent_features, sites=sites)
    if name == "linear" and "covariance" in connectivity:
        model = partial(tuned_linear, plain_features)
    learnt = np.log(truth_train) if log else truth_train
    answer = model(edges_train, learnt, subject_train, edges_test, kind, n_classes, seed)
    return np.exp(answer) if log else answer


def check_baselines(names: Iterable[str], connectivity: Collection[str], key: str) -> None:
    """Raises: InputError naming `key` where a baseline makes no sense of matrices so made."""
    strange = sorted(set(connectivity) - set(CORRELATIONS))
    if "tangent" in names and strange:
        raise InputError(
            f"{key}: tangent: a tangent space needs positive definite matrices "
            f"({' or '.join(CORRELATIONS)}), and these are {', '.join(strange)}; leave it out"
        )


def majority(
    edges_train: np.ndarray,
    truth_train: np.ndarray,
    subject_train: np.ndarray,
    edges_test: np.ndarray,
    kind: str,
    n_classes: int,
    seed: int,
) -> np.ndarray:
    """The class frequencies of the training scans, so that the commonest class is predicted; their
    mean for a scalar."""
    if kind == "scalar":
        return np.full(len(edges_test), truth_train.mean())
    frequency = np.bincount(truth_train.astype(np.int64), minlength=n_classes) / len(truth_train)
    return np.tile(frequency, (len(edges_test), 1))


def tuned_linear(
    features: Features,
    edges_train: np.ndarray,
    truth_train: np.ndarray,
    subject_train: np.ndarray,
    edges_test: np.ndarray,
    kind: str,
    n_classes: int,
    seed: int,
    sites: SiteEffects | None = None,
) -> np.ndarray:
    """A tuned linear model on some features of the edges: SVM (ridge beyond 8 classes), or ridge
    for a scalar."""
    train, test = _inner_products(features, edges_train, edges_test, sites)
    return _tuned(Problem(train, test, truth_train, subject_train, n_classes, seed), kind)


# -- features --------------------------------------------------------------------------------------


def fisher_features(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fisher z of the edges, centred on the training mean: (n, E), (m, E)."""
    train_z, test_z = (
        np.arctanh(np.clip(e.astype(np.float64), -MAX_FISHER, MAX_FISHER)) for e in (train, test)
    )
    centre = train_z.mean(0)
    return train_z - centre, test_z - centre


def plain_features(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges that have no Fisher z, centred on the training mean: (n, E), (m, E)."""
    centre = train.astype(np.float64).mean(0)
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


BASELINES: dict[str, Callable[..., np.ndarray]] = {
    "majority": majority,
    "linear": partial(
        tuned_linear, fisher_features
    ),  # Fisher-z edges, centred on the training mean
    "tangent": partial(
        tuned_linear, tangent_features
    ),  # the tangent space of the training scans' geometric mean
}

_LATEST: dict[
    str, tuple[bytes, tuple[np.ndarray, np.ndarray]]
] = {}  # features -> what was asked last, and the answer


def _inner_products(
    features: Features, train: np.ndarray, test: np.ndarray, sites: SiteEffects | None
) -> tuple[np.ndarray, np.ndarray]:
    """(n, n) and (m, n) inner products over the mean training norm. The targets of one fold share
    the latest answer: no label enters it, and the tangent space of 884 scans takes seconds."""
    method = sites and sites.method
    digest = hashlib.sha256(repr((train.shape, test.shape, train.dtype, method)).encode())
    about = () if sites is None else (sites.site, sites.subject, sites.covariates)
    for array in (train, test, *about):
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    key, answer = _LATEST.get(features.__name__, (b"", None))
    if answer is None or key != digest.digest():
        a, b = features(train, test)
        if sites is not None:
            a, b = sites.remove(a, b)
        gram = a @ a.T
        scale = max(float(np.trace(gram)) / len(gram), 1e-12)
        answer = (gram / scale, b @ a.T / scale)
        _LATEST[features.__name__] = (digest.digest(), answer)
    return answer


# -- models ----------------------------------------------------------------------------------------


def _tuned(p: Problem, kind: str) -> np.ndarray:
    if kind == "scalar":
        return _ridge_values(p)
    codes = p.truth.astype(np.int64)
    present, position = np.unique(codes, return_inverse=True)
    scores = np.zeros((len(p.test), p.n_classes))
    if len(present) == 1:
        scores[:, present[0]] = 1.0
        return scores
    known = Problem(p.train, p.test, position, p.subject, len(present), p.seed)
    scores[:, present] = (_svm if len(present) <= MAX_SVM_CLASSES else _ridge_classes)(known)
    return scores


def _inner_folds(p: Problem, stratified: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    n_splits = min(INNER_FOLDS, len(np.unique(p.subject)))
    splitter = (StratifiedGroupKFold if stratified else GroupKFold)(
        n_splits, shuffle=True, random_state=p.seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # classes smaller than the number of inner folds are fine here
        return list(splitter.split(p.truth, p.truth if stratified else None, p.subject))


def _svm(p: Problem) -> np.ndarray:
    """One linear SVM a class against the rest (one in all for two classes), C by inner AUROC,
    margins to probabilities.

    Classes are not weighted: once C is tuned, weighting by rarity ranked alike on 746 M / 138 F
    (AUROC .741 unweighted, .743 weighted) and worse on diagnosis (.718, .715). The logistic
    regression on the inner out-of-fold margins gives probabilities that keep the classes' true
    frequencies, as the model's cross-entropy does.
    """
    folds = _inner_folds(p, stratified=True)
    columns = [1] if p.n_classes == 2 else list(range(p.n_classes))
    inner = np.zeros((len(p.truth), len(columns)))
    outer = np.zeros((len(p.test), len(columns)))
    for j, column in enumerate(columns):
        positive = p.truth == column
        margins = np.stack([_held_out_margins(p, positive, cost, folds) for cost in SVM_COSTS])
        best = int(np.argmax([_mean_auroc(positive, m, folds) for m in margins]))
        inner[:, j] = margins[best]
        outer[:, j] = _margins(p.train, p.test, positive, SVM_COSTS[best], p.seed)
    spread = inner.std(0) + 1e-12
    calibration = LogisticRegression(C=10.0, max_iter=1000).fit(inner / spread, p.truth)
    return np.asarray(calibration.predict_proba(outer / spread))


def _margins(
    train: np.ndarray, test: np.ndarray, positive: np.ndarray, cost: float, seed: int
) -> np.ndarray:
    if positive.all() or not positive.any():  # a rare class may be absent from an inner part
        return np.zeros(len(test))
    machine = SVC(C=cost, kernel="precomputed", random_state=seed, max_iter=200_000)
    return np.asarray(machine.fit(train, positive).decision_function(test))


def _held_out_margins(
    p: Problem, positive: np.ndarray, cost: float, folds: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    margins = np.zeros(len(positive))
    for fit, held in folds:
        margins[held] = _margins(
            p.train[np.ix_(fit, fit)], p.train[np.ix_(held, fit)], positive[fit], cost, p.seed
        )
    return margins


def _mean_auroc(
    positive: np.ndarray, margins: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]
) -> float:
    """The mean over inner folds: each is ranked by itself, because margins of differently fitted
    machines do not compare."""
    values = [
        roc_auc_score(positive[h], margins[h]) for _, h in folds if 0 < positive[h].sum() < len(h)
    ]
    return float(np.mean(values)) if values else 0.5


def ridge_path(
    train: np.ndarray, test: np.ndarray, truth: np.ndarray, alphas: np.ndarray
) -> np.ndarray:
    """Ridge regression with an unpenalised intercept for every alpha at once, from inner products.

    Args: train: (n, n).  test: (m, n).  truth: (n, K).
    Returns: (alphas, m, K), equal to scikit-learn's `Ridge` on the features themselves.
    """
    means = train.mean(0)
    centred = train - means - means[:, None] + means.mean()
    centred_test = test - test.mean(1, keepdims=True) - means + means.mean()
    values, vectors = np.linalg.eigh(centred)
    projected = vectors.T @ (truth - truth.mean(0))
    basis = centred_test @ vectors
    return np.stack(
        [basis @ (projected / (np.maximum(values, 0) + a)[:, None]) for a in alphas]
    ) + truth.mean(0)


def _held_out_path(p: Problem, truth: np.ndarray, stratified: bool) -> np.ndarray:
    out = np.zeros((len(RIDGE_ALPHAS), *truth.shape))
    for fit, held in _inner_folds(p, stratified):
        path = ridge_path(
            p.train[np.ix_(fit, fit)], p.train[np.ix_(held, fit)], truth[fit], RIDGE_ALPHAS
        )
        out[:, held] = path
    return out


def _ridge_values(p: Problem) -> np.ndarray:
    truth = p.truth.astype(np.float64)[:, None]
    errors = ((_held_out_path(p, truth, stratified=False) - truth) ** 2).mean((1, 2))
    best = int(np.argmin(errors))
    return np.asarray(ridge_path(p.train, p.test, truth, RIDGE_ALPHAS[best : best + 1])[0, :, 0])


def _ridge_classes(p: Problem) -> np.ndarray:
    """scikit-learn's RidgeClassifier (ridge on -1 / +1 columns), alpha by inner accuracy; one
    temperature, fitted on the inner out-of-fold scores, makes probabilities of them and leaves the
    predicted class alone."""
    truth = np.where(np.arange(p.n_classes) == p.truth[:, None], 1.0, -1.0)
    held_out = _held_out_path(p, truth, stratified=True)
    best = int(np.argmax((held_out.argmax(2) == p.truth).mean(1)))
    rows = np.arange(len(p.truth))
    likelihood = [
        np.log(softmax(t * held_out[best], axis=1)[rows, p.truth] + 1e-12).mean()
        for t in TEMPERATURES
    ]
    temperature = TEMPERATURES[int(np.argmax(likelihood))]
    path = ridge_path(p.train, p.test, truth, RIDGE_ALPHAS[best : best + 1])
    return np.asarray(softmax(temperature * path[0], axis=1))
