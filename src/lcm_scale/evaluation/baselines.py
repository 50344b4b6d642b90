"""The plain models that stand beside each of our numbers, on the same folds: majority, linear and
tangent, and tangent that is told the same context as the model.

In come the raw correlations of a fold's training and test scans, out go scores of the test scans:
(m, C) probabilities or (m,) values. Scans are far fewer than edges, so every linear model here is
fitted on the n x n matrix of inner products between scans, which is exact and a hundred times
faster than on the edges. Whatever is fitted (centre, tangent reference, C or alpha, calibration) is
fitted on training scans; the tuning is an inner cross-validation by subject.
Shapes: n training scans, m test scans, E edges, R regions, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from lcm_scale.data.harmonise import SiteEffects
from lcm_scale.data.kinds import CORRELATIONS
from lcm_scale.errors import InputError
from lcm_scale.evaluation.features import (
    Features,
    fisher_features,
    inner_products,
    plain_features,
    products_without_sites,
    tangent_features,
)
from lcm_scale.evaluation.offered import Training, answer_of_plugin
from lcm_scale.linear.context import Context, added
from lcm_scale.linear.problem import Problem
from lcm_scale.linear.ridge import ridge_classes, ridge_values
from lcm_scale.linear.svm import svm_classes

TOLD = "tangent + context"
# What is known of a scan weighs so much against its tangent vector, of which both have a mean
# square norm of 1 over training scans; chosen as C and alpha are.
CONTEXT_WEIGHTS = (0.1, 0.3, 1.0, 3.0)
MAX_SVM_CLASSES = 8  # beyond it one SVM a class costs minutes; a ridge classifier is as good there


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
    context: Context | None = None,
) -> np.ndarray:
    """Fit a baseline on training scans and score the test scans.

    Args:
        name: one of `BASELINES`, `TOLD`, or as another package offers it; for that one no effects
            of sites are taken out.
        edges_train, edges_test: (n, E), (m, E) edges as stored, upper triangle by rows.
        truth_train: (n,) class codes below `n_classes`, or values; no missing ones.
        subject_train: (n,) groups of the inner cross-validation.
        kind: ``class`` or ``scalar``.   n_classes: width of the result; ignored for a scalar.
        connectivity: the kinds of the matrices (`ShardSets.kinds_of`).
        sites: of the training scans, then the test scans: their effects are taken out of the
            features, fitted on the training scans.
        log: fit the logarithm of a scalar; what is given and returned is in its unit.
        context: what `TOLD` knows of the training scans, then of the test scans.
    Returns: float64 (m, n_classes) probabilities (0 for a class without a training scan), or (m,)
        values.
    """
    if name not in (*BASELINES, TOLD):
        learnt = np.log(truth_train) if log else truth_train
        training = Training(edges_train, learnt, subject_train, kind, n_classes, seed)
        answer = answer_of_plugin(name, training, edges_test)
        return np.exp(answer) if log else answer
    model = partial(tuned_with_context, context) if context and name == TOLD else BASELINES[name]
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
    return _tuned(p, kind)[1]


def tuned_with_context(
    context: Context,
    edges_train: np.ndarray,
    truth_train: np.ndarray,
    subject_train: np.ndarray,
    edges_test: np.ndarray,
    kind: str,
    n_classes: int,
    seed: int,
) -> np.ndarray:
    """As `tuned_linear` on tangent vectors and what is known beside them: each category a column,
    each number one, with a weight that is tuned like the rest."""
    train, test = inner_products(tangent_features, edges_train, edges_test)
    n = len(edges_train)
    own = context.of(np.arange(n)).fitted(subject_train)
    others = Context(own.columns, context.values[n:])
    plus, plus_test = (added(scans, own) / own.mean_square for scans in (own, others))
    tried = [
        _tuned(
            Problem(
                train + weight * plus,
                test + weight * plus_test,
                truth_train,
                subject_train,
                n_classes,
                seed,
            ),
            kind,
        )
        for weight in CONTEXT_WEIGHTS
    ]
    return max(tried, key=lambda scored: scored[0])[1]


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


def _tuned(p: Problem, kind: str) -> tuple[float, np.ndarray]:
    """How good it is on the inner folds (larger is better), and its answers."""
    if kind == "scalar":
        return ridge_values(p)
    codes = p.truth.astype(np.int64)
    present, position = np.unique(codes, return_inverse=True)
    scores = np.zeros((len(p.test), p.n_classes))
    if len(present) == 1:
        scores[:, present[0]] = 1.0
        return 0.0, scores
    known = replace(p, truth=position, n_classes=len(present))
    fit = svm_classes if len(present) <= MAX_SVM_CLASSES else ridge_classes
    quality, scores[:, present] = fit(known)
    return quality, scores
