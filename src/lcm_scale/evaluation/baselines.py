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

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.svm import SVC

from lcm_scale.data.harmonise import SiteEffects
from lcm_scale.data.kinds import CORRELATIONS
from lcm_scale.errors import InputError
from lcm_scale.evaluation.features import (
    Features,
    Inner,
    fisher_features,
    inner_products,
    plain_features,
    products_without_sites,
    tangent_features,
)

INNER_FOLDS = 5
MAX_SVM_CLASSES = 8  # beyond it one SVM a class costs minutes; a ridge classifier is as good there
SVM_COSTS = np.logspace(-0.8, 0.4, 7)  # against inner products whose training diagonal averages 1
RIDGE_ALPHAS = np.logspace(-2.5, 1.5, 13)
TEMPERATURES = np.logspace(-1, 2, 61)


@dataclass(frozen=True)
class Problem:
    """One target in one fold, as inner products: `train` (n, n), `test` (m, n), their training
    diagonal averaging 1.

    Attributes: inner: as `part`, where the features of a part of the training scans are others than
        in the whole; None where they are the same.
    """

    train: np.ndarray
    test: np.ndarray
    truth: np.ndarray
    subject: np.ndarray
    n_classes: int
    seed: int
    inner: Inner | None = None

    def part(self, fit: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inner products of some training scans, and of others with them."""
        if self.inner is not None:
            return self.inner(fit, held)
        return self.train[np.ix_(fit, fit)], self.train[np.ix_(held, fit)]


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
        sites: of the training scans, then the test scans: their effects are taken out of the
            features, fitted on the training scans.
        log: fit the logarithm of a scalar; what is given and returned is in its unit.
    Returns: float64 (m, n_classes) probabilities (0 for a class without a training scan), or (m,)
        values.
    """
    model = BASELINES[name]
    if name == "linear" and "covariance" in connectivity:
        model = partial(tuned_linear, plain_features)
    if name != "majority" and sites is not None:
        model = partial(model, sites=sites)
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
    inner = None
    if sites is None:
        train, test = inner_products(features, edges_train, edges_test)
    else:
        train, test, inner = products_without_sites(features, edges_train, edges_test, sites)
    p = Problem(train, test, truth_train, subject_train, n_classes, seed, inner)
    return _tuned(p, kind)


BASELINES: dict[str, Callable[..., np.ndarray]] = {
    "majority": majority,
    "linear": partial(
        tuned_linear, fisher_features
    ),  # Fisher-z edges, centred on the training mean
    "tangent": partial(
        tuned_linear, tangent_features
    ),  # the tangent space of the training scans' geometric mean
}

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
    known = replace(p, truth=position, n_classes=len(present))
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
    parts = [(fit, held, *p.part(fit, held)) for fit, held in folds]
    columns = [1] if p.n_classes == 2 else list(range(p.n_classes))
    inner = np.zeros((len(p.truth), len(columns)))
    outer = np.zeros((len(p.test), len(columns)))
    for j, column in enumerate(columns):
        positive = p.truth == column
        margins = np.stack([_held_out_margins(p, positive, cost, parts) for cost in SVM_COSTS])
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
    p: Problem, positive: np.ndarray, cost: float, parts: Sequence[tuple[np.ndarray, ...]]
) -> np.ndarray:
    """Args: parts: of each inner fold who is fitted and who is held out, and `Problem.part`."""
    margins = np.zeros(len(positive))
    for fit, held, own, theirs in parts:
        margins[held] = _margins(own, theirs, positive[fit], cost, p.seed)
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
        out[:, held] = ridge_path(*p.part(fit, held), truth[fit], RIDGE_ALPHAS)
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
