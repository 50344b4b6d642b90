"""Ridge regression from inner products is scikit-learn's on the features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier

from lcm_scale.linear import ridge
from lcm_scale.linear.problem import Problem, inner_folds


def test_the_ridge_path_equals_scikit_learn_on_the_features(
    problem: Callable[..., tuple[Problem, np.ndarray, np.ndarray]],
) -> None:
    p, train, test = problem()
    truth = np.random.default_rng(1).normal(40, 9, (90, 2))
    path = ridge.ridge_path(p.train, p.test, truth, ridge.RIDGE_ALPHAS)
    for alpha, ours in zip(ridge.RIDGE_ALPHAS, path, strict=True):
        expected = Ridge(alpha=alpha).fit(train, truth).predict(test)
        assert np.allclose(ours, expected, rtol=1e-6, atol=1e-6), alpha


def test_the_ridge_path_needs_no_centred_features(
    problem: Callable[..., tuple[Problem, np.ndarray, np.ndarray]],
) -> None:
    p, train, test = problem()
    train, test = train + 3, test + 3
    truth = p.truth[:, None].astype(float)
    ours = ridge.ridge_path(train @ train.T, test @ train.T, truth, np.array([0.3]))[0]
    assert np.allclose(
        ours[:, 0], Ridge(alpha=0.3).fit(train, truth[:, 0]).predict(test), atol=1e-6
    )


def test_ridge_classes_equals_ridge_classifier_at_the_alpha_it_chose(
    problem: Callable[..., tuple[Problem, np.ndarray, np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ridge, "RIDGE_ALPHAS", np.array([0.3]))
    p, train, test = problem()
    _, ours = ridge.ridge_classes(p)
    reference = RidgeClassifier(alpha=0.3).fit(train, p.truth)
    assert np.array_equal(ours.argmax(1), reference.predict(test))
    assert np.allclose(ours.sum(1), 1)


def test_a_person_never_stands_on_both_sides_of_the_tuning() -> None:
    subject = np.repeat(np.arange(20), 3)
    p = Problem(np.eye(60), np.eye(60), np.repeat(np.arange(20) % 2, 3), subject, 2, 0)
    for stratified in (True, False):
        for fit, held in inner_folds(p, stratified):
            assert not set(subject[fit]) & set(subject[held])
