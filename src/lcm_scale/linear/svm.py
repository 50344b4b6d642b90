"""A linear support vector machine from inner products: C by inner AUROC, margins to probabilities.

Classes are not weighted: once C is tuned, weighting by rarity ranked alike on 746 M / 138 F (AUROC
.741 unweighted, .743 weighted) and worse on diagnosis (.718, .715).
Shapes: n training scans, m test scans, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

from lcm_scale.linear.calibration import Calibration, calibrate
from lcm_scale.linear.problem import Problem, inner_folds

SVM_COSTS = np.logspace(-0.8, 0.4, 7)  # against inner products whose training diagonal averages 1
TIED = 1e-9  # of an AUROC

# Of an inner fold: who is fitted and who is held out, and `Problem.part` of them.
Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def svm_classes(p: Problem) -> tuple[float, np.ndarray]:
    """The inner AUROC at the chosen costs (a mean over the classes), and (m, C) probabilities: one
    machine a class against the rest (one in all for two classes).

    Of costs with the same inner AUROC (on few people all of them may rank perfectly) the one whose
    calibrated inner margins have the smallest log-loss is taken: the smallest cost, which a plain
    argmax takes, has the least certain intercept.
    """
    parts = [(fit, held, *p.part(fit, held)) for fit, held in inner_folds(p, stratified=True)]
    if p.n_classes == 2:
        positive = p.truth == 1
        auroc, inner, outer = _tuned_margins(p, positive, parts)
        # The logit of one class against the other: half of a margin for it, half against the other.
        pair = calibrate(_both(inner), p.truth)
        return auroc, pair.probabilities(_both(outer))
    machines = [_tuned_margins(p, p.truth == c, parts) for c in range(p.n_classes)]
    inner, outer = (np.stack([m[part] for m in machines], axis=1) for part in (1, 2))
    auroc = float(np.mean([m[0] for m in machines]))
    return auroc, calibrate(inner, p.truth).probabilities(outer)


def _both(margins: np.ndarray) -> np.ndarray:
    return np.stack([-margins, margins], axis=1) / 2


def _tuned_margins(
    p: Problem, positive: np.ndarray, parts: Sequence[Part]
) -> tuple[float, np.ndarray, np.ndarray]:
    """Inner AUROC, out-of-fold margins (n,) and those of the test scans (m,), at the chosen
    cost."""
    held_out = np.stack([_held_out_margins(p, positive, cost, parts) for cost in SVM_COSTS])
    aurocs = np.array([_mean_auroc(positive, margins, parts) for margins in held_out])
    tied = np.flatnonzero(aurocs > aurocs.max() - TIED)
    losses = [_curve(positive, held_out[i]).loss for i in tied] if len(tied) > 1 else [0.0]
    best = int(tied[int(np.argmin(losses))])
    outer = margins(p.train, p.test, positive, SVM_COSTS[best], p.seed)
    return float(aurocs[best]), held_out[best], outer


def _curve(positive: np.ndarray, margins: np.ndarray) -> Calibration:
    return calibrate(_both(margins), positive.astype(np.int64))


def margins(
    train: np.ndarray, test: np.ndarray, positive: np.ndarray, cost: float, seed: int
) -> np.ndarray:
    """A machine's decision values of the test scans (m,), less their mean over its training scans.

    The machine's own intercept follows from the few scans on its margin, or, where all of them are
    (small costs, few people), from rounding; so it differs between inner folds and blurs the
    curve that is fitted on all of them. The training mean does not depend on it.
    """
    if positive.all() or not positive.any():  # a rare class may be absent from an inner part
        return np.zeros(len(test))
    machine = SVC(C=cost, kernel="precomputed", random_state=seed, max_iter=200_000)
    machine.fit(train, positive)
    return np.asarray(machine.decision_function(test) - machine.decision_function(train).mean())


def _held_out_margins(
    p: Problem, positive: np.ndarray, cost: float, parts: Sequence[Part]
) -> np.ndarray:
    found = np.zeros(len(positive))
    for fit, held, own, theirs in parts:
        found[held] = margins(own, theirs, positive[fit], cost, p.seed)
    return found


def _mean_auroc(positive: np.ndarray, margins: np.ndarray, parts: Sequence[Part]) -> float:
    """The mean over inner folds: each is ranked by itself, because margins of differently fitted
    machines do not compare."""
    values = [
        roc_auc_score(positive[held], margins[held])
        for _, held, *_ in parts
        if 0 < positive[held].sum() < len(held)
    ]
    return float(np.mean(values)) if values else 0.5
