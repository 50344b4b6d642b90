"""Metrics equal scikit-learn's, and ranks are compared within folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as reference
from toy_predictions import classes, point, values

from lcm_scale.errors import InputError
from lcm_scale.evaluation.metrics import METRICS, Predictions

SKLEARN: dict[str, Callable[[Predictions], float]] = {
    "accuracy": lambda p: reference.accuracy_score(p.truth, p.predicted),
    "balanced_accuracy": lambda p: reference.balanced_accuracy_score(p.truth, p.predicted),
    "weighted_f1": lambda p: reference.f1_score(p.truth, p.predicted, average="weighted"),
    "mae": lambda p: reference.mean_absolute_error(p.truth, p.scores),
    "r2": lambda p: reference.r2_score(p.truth, p.scores),
    "pearson_r": lambda p: np.corrcoef(p.truth, p.scores)[0, 1],
}


@pytest.mark.parametrize("name", SKLEARN)
@pytest.mark.parametrize("seed", range(3))
def test_point_values_are_those_of_scikit_learn(name: str, seed: int) -> None:
    p = classes(n_classes=2 + seed, seed=seed) if name in METRICS["class"] else values(seed=seed)
    assert point(p, name) == pytest.approx(SKLEARN[name](p), abs=1e-12)


def test_binary_auroc_is_that_of_scikit_learn_ties_included() -> None:
    p = classes()
    p = replace(p, scores=np.round(p.scores, 1))
    assert len(np.unique(p.scores[:, 1])) < 12, "the case must hold ties"
    assert point(p, "auroc") == pytest.approx(
        reference.roc_auc_score(p.truth, p.scores[:, 1]), abs=1e-12
    )


def test_auroc_of_several_classes_is_the_mean_of_one_against_the_rest() -> None:
    p = classes(n_classes=4)
    expected = reference.roc_auc_score(p.truth, p.scores, multi_class="ovr", average="macro")
    assert point(p, "auroc") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("digits", [1, 6], ids=["ties", "no ties"])
def test_average_precision_and_sensitivity_are_those_of_scikit_learn(digits: int) -> None:
    p = classes()
    p = replace(p, scores=np.round(p.scores, digits))
    positive, score = p.truth == 1, p.scores[:, 1]
    expected = reference.average_precision_score(positive, score)
    assert point(p, "auprc") == pytest.approx(expected, abs=1e-12)
    false, true, _ = reference.roc_curve(positive, score, drop_intermediate=False)
    assert point(p, "sensitivity_at_90") == pytest.approx(true[false <= 0.1].max(), abs=1e-12)


@pytest.mark.parametrize("name", ["auprc", "sensitivity_at_90"])
def test_metrics_of_the_order_over_folds_are_means_weighted_by_positive_scans(name: str) -> None:
    p = classes(n_folds=3)
    folds = [replace(p, **of_fold(p, p.fold == fold)) for fold in range(3)]
    expected = np.average([point(q, name) for q in folds], weights=[q.truth.sum() for q in folds])
    assert point(p, name) == pytest.approx(expected, abs=1e-12)


def of_fold(p: Predictions, here: np.ndarray) -> dict[str, np.ndarray]:
    return {k: getattr(p, k)[here] for k in ("truth", "scores", "subject", "fold", "scan")}


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_brier_score_is_that_of_scikit_learn(n_classes: int) -> None:
    p = classes(n_classes=n_classes)
    if n_classes == 2:
        expected = reference.brier_score_loss(p.truth, p.scores[:, 1])
    else:
        expected = np.mean([((q - np.eye(4)[t]) ** 2).sum() for q, t in zip(p.scores, p.truth)]) / 2
    assert point(p, "brier") == pytest.approx(expected, abs=1e-12)


def test_nothing_is_found_at_a_specificity_that_a_constant_score_cannot_reach() -> None:
    p = classes()
    constant = replace(p, scores=np.full_like(p.scores, 0.5))
    assert point(constant, "sensitivity_at_90") == 0
    assert point(constant, "auprc") == pytest.approx(p.truth.mean())


def test_a_class_that_never_occurs_changes_nothing() -> None:
    p = classes()
    wider = replace(p, categories=("a", "b", "c"), scores=np.c_[p.scores, np.zeros(len(p.truth))])
    for name in METRICS["class"]:
        assert point(wider, name) == pytest.approx(point(p, name), abs=1e-12)


def test_a_predicted_class_that_never_occurs_counts_as_wrong() -> None:
    p = classes()
    scores = np.c_[p.scores, np.zeros(len(p.truth))]
    scores[:50] = [0, 0, 1]
    p = replace(p, categories=("a", "b", "c"), scores=scores)
    assert point(p, "accuracy") == pytest.approx(reference.accuracy_score(p.truth, p.predicted))
    assert point(p, "weighted_f1") == pytest.approx(
        reference.f1_score(p.truth, p.predicted, average="weighted")
    )


def test_calibration_error_is_its_textbook_sum() -> None:
    p = classes(n_classes=3)
    confidence, right = p.scores.max(1), p.predicted == p.truth
    expected = 0.0
    for low in np.arange(10) / 10:
        inside = (confidence > low) & (confidence <= low + 0.1)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert point(p, "calibration_error") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["auroc", "auprc", "sensitivity_at_90", "pearson_r"])
def test_ranks_are_compared_within_a_fold_only(name: str) -> None:
    """Each fold's model has its own scale: shifting a fold's scores changes nothing."""
    p = classes(n_folds=4) if name in METRICS["class"] else values(n_folds=4)
    shift = 100.0 * p.fold if p.kind == "scalar" else 100.0 * p.fold[:, None] * [0, 1]
    assert point(replace(p, scores=p.scores + shift), name) == pytest.approx(
        point(p, name), abs=1e-9
    )


def test_auroc_over_folds_is_the_mean_weighted_by_pairs() -> None:
    p = classes(n_folds=3)
    aurocs, pairs = [], []
    for fold in range(3):
        here = p.fold == fold
        positives = p.truth[here].sum()
        pairs.append(positives * (here.sum() - positives))
        aurocs.append(reference.roc_auc_score(p.truth[here], p.scores[here, 1]))
    assert point(p, "auroc") == pytest.approx(np.average(aurocs, weights=pairs), abs=1e-12)


def test_a_constant_guess_is_at_chance_although_its_constant_differs_by_fold() -> None:
    """Pooled over folds it would fall below .5: a fold with more patients to train on has fewer to
    test."""
    p = classes(n_folds=5)
    rates = np.array([p.truth[p.fold != f].mean() for f in p.fold])
    guess = replace(p, scores=np.c_[1 - rates, rates])
    assert point(guess, "auroc") == 0.5
    assert reference.roc_auc_score(p.truth, rates) < 0.5


@pytest.mark.parametrize("name", [*METRICS["class"], *METRICS["scalar"]])
def test_weights_mean_repeated_scans(name: str) -> None:
    """The bootstrap rests on this: a scan of weight k counts as k copies."""
    p = classes(60, n_folds=3) if name in METRICS["class"] else values(60, n_folds=3)
    if name == "r2":  # measured about the mean of the scans at hand, hence of the copies
        p = replace(p, truth=p.truth - p.truth.mean(), scores=p.scores - p.truth.mean())
    weights = np.random.default_rng(0).integers(0, 4, 60)
    copies = {
        k: np.repeat(getattr(p, k), weights, axis=0)
        for k in ("truth", "scores", "subject", "fold", "scan")
    }
    weighted = METRICS[p.kind][name].compute(p, weights[None].astype(float))[0]
    assert weighted == pytest.approx(point(replace(p, **copies), name), abs=1e-9)


def test_a_diverged_model_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        InputError, match=r"LCM, target age: a prediction is not a number.*clip_norm"
    ):
        replace(values(), scores=np.full(200, np.nan))


def test_scores_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(classes(), scores=np.zeros((200, 3)))
