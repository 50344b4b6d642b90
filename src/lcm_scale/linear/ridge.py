"""Ridge regression from inner products, every alpha at once."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from lcm_scale.linear.problem import Problem, inner_folds

RIDGE_ALPHAS = np.logspace(-2.5, 1.5, 13)
TEMPERATURES = np.logspace(-1, 2, 61)


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


def held_out_path(p: Problem, truth: np.ndarray, stratified: bool) -> np.ndarray:
    """Inner out-of-fold answers for every alpha: (alphas, n, K).  Args: truth: (n, K)."""
    out = np.zeros((len(RIDGE_ALPHAS), *truth.shape))
    for fit, held in inner_folds(p, stratified):
        out[:, held] = ridge_path(*p.part(fit, held), truth[fit], RIDGE_ALPHAS)
    return out


def ridge_values(p: Problem) -> tuple[float, np.ndarray]:
    """Minus the inner squared error, and (m,) values by a ridge whose alpha makes it smallest."""
    truth = p.truth.astype(np.float64)[:, None]
    errors = ((held_out_path(p, truth, stratified=False) - truth) ** 2).mean((1, 2))
    best = int(np.argmin(errors))
    path = ridge_path(p.train, p.test, truth, RIDGE_ALPHAS[best : best + 1])
    return -float(errors[best]), np.asarray(path[0, :, 0])


def ridge_classes(p: Problem) -> tuple[float, np.ndarray]:
    """The inner accuracy, and (m, C) probabilities by scikit-learn's RidgeClassifier (ridge on
    -1 / +1 columns), alpha by that accuracy; one temperature, fitted on the inner out-of-fold
    scores, makes probabilities of them and leaves the predicted class alone."""
    truth = np.where(np.arange(p.n_classes) == p.truth[:, None], 1.0, -1.0)
    held_out = held_out_path(p, truth, stratified=True)
    accuracies = (held_out.argmax(2) == p.truth).mean(1)
    best = int(np.argmax(accuracies))
    rows = np.arange(len(p.truth))
    likelihood = [
        np.log(softmax(t * held_out[best], axis=1)[rows, p.truth] + 1e-12).mean()
        for t in TEMPERATURES
    ]
    temperature = TEMPERATURES[int(np.argmax(likelihood))]
    path = ridge_path(p.train, p.test, truth, RIDGE_ALPHAS[best : best + 1])
    return float(accuracies[best]), np.asarray(softmax(temperature * path[0], axis=1))
