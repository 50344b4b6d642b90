"""The support vector machine from inner products is scikit-learn's on the features; its
probabilities rank as its margins do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import SVC, LinearSVC

from lcm_scale.linear import svm
from lcm_scale.linear.calibration import LEAST_SLOPE, calibrate
from lcm_scale.linear.problem import Problem, inner_folds


@pytest.mark.parametrize("cost", svm.SVM_COSTS)
def test_svm_margins_equal_a_linear_svm_on_the_features(
    problem: Callable[..., tuple[Problem, np.ndarray, np.ndarray]], cost: float
) -> None:
    p, train, test = problem()
    ours = svm.margins(p.train, p.test, p.truth == 1, cost, 0)
    machine = SVC(C=cost, kernel="linear").fit(train, p.truth)
    plain = machine.decision_function(test) - machine.decision_function(train).mean()
    assert np.allclose(ours, plain, atol=2e-3)


def test_svm_margins_rank_as_liblinear_does(
    problem: Callable[..., tuple[Problem, np.ndarray, np.ndarray]],
) -> None:
    """LinearSVC with the hinge penalises its intercept, hence a correlation, not equality."""
    p, train, test = problem()
    ours = svm.margins(p.train, p.test, p.truth == 1, 1.0, 0)
    machine = LinearSVC(
        C=1.0, loss="hinge", intercept_scaling=10.0, max_iter=1_000_000, random_state=0
    ).fit(train, p.truth)
    assert np.corrcoef(ours, machine.decision_function(test))[0, 1] > 0.999


def test_the_cost_is_chosen_by_inner_auroc(
    problem: Callable[..., tuple[Problem, np.ndarray, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tuned by hand with scikit-learn on the features: the same C, hence the same margins."""
    p, train, _ = problem(seed=3)
    used: list[float] = []
    original = svm.margins

    def spy(
        a: np.ndarray, b: np.ndarray, positive: np.ndarray, cost: float, seed: int
    ) -> np.ndarray:
        used.append(cost)
        return original(a, b, positive, cost, seed)

    monkeypatch.setattr(svm, "margins", spy)
    svm.svm_classes(p)
    means = []
    splits = list(
        StratifiedGroupKFold(5, shuffle=True, random_state=p.seed).split(
            p.truth, p.truth, p.subject
        )
    )
    for cost in svm.SVM_COSTS:
        aurocs = []
        for fit, held in splits:
            margin = (
                SVC(C=cost, kernel="linear")
                .fit(train[fit], p.truth[fit])
                .decision_function(train[held])
            )
            up, down = margin[p.truth[held] == 1], margin[p.truth[held] == 0]
            aurocs.append((up[:, None] > down).mean())
        means.append(np.mean(aurocs))
    assert means[list(svm.SVM_COSTS).index(used[-1])] == pytest.approx(max(means), abs=5e-3)


@pytest.mark.parametrize("n", [12, 16, 24, 32, 60])
def test_few_people_are_ranked_as_the_plain_machine_ranks_them(n: int) -> None:
    """A calibration whose slope may turn negative had .14 to .23 here, the plain machine .9."""
    ours, plain, right = [], [], []
    for draw in range(6):
        rng = np.random.default_rng(draw)
        truth = rng.permutation(np.arange(n + 40) % 2)
        x = rng.normal(size=(n + 40, 300))
        x[:, :20] += 1.1 * (truth[:, None] - 0.5)
        train, test = x[:n] - x[:n].mean(0), x[n:] - x[:n].mean(0)
        scale = (train**2).sum(1).mean()
        p = Problem(train @ train.T / scale, test @ train.T / scale, truth[:n], np.arange(n), 2, 0)
        scores = svm.svm_classes(p)[1][:, 1]
        machine = SVC(C=1, kernel="precomputed").fit(p.train, p.truth)
        ours.append(roc_auc_score(truth[n:], scores))
        plain.append(roc_auc_score(truth[n:], machine.decision_function(p.test)))
        right.append(((scores > 0.5) == truth[n:]).mean())
    assert np.mean(ours) > np.mean(plain) - 0.02 and min(ours) > 0.5
    assert np.mean(right) > 0.7  # and nobody is called one class throughout


def test_of_costs_that_rank_alike_the_likeliest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cost ranks each inner fold perfectly; the smallest's folds have offsets of their own,
    as machines of a few people have. A plain argmax took it, and called 12 of 12 people one class
    (shared/cases/34)."""
    truth = np.tile([0, 1], 20)
    p = Problem(np.eye(40), np.eye(40), truth, np.arange(40), 2, 0)
    used: list[float] = []

    def held_out(
        p: Problem, positive: np.ndarray, cost: float, parts: Sequence[svm.Part]
    ) -> np.ndarray:
        margins = np.where(positive, 1.0, -1.0) * (1 + np.arange(40) / 100)
        if cost == svm.SVM_COSTS[0]:
            for number, (_, held, *_) in enumerate(parts):
                margins[held] += 10 * number
        return margins

    def fitted(
        a: np.ndarray, b: np.ndarray, positive: np.ndarray, cost: float, seed: int
    ) -> np.ndarray:
        used.append(cost)
        return np.zeros(len(b))

    monkeypatch.setattr(svm, "_held_out_margins", held_out)
    monkeypatch.setattr(svm, "margins", fitted)
    svm.svm_classes(p)
    assert len(used) == 1 and used[0] != svm.SVM_COSTS[0]


def test_a_calibrated_probability_rises_with_the_margin_whatever_the_sample_says() -> None:
    """Margins that rank the sample the wrong way round: a free slope would be about -2."""
    truth = np.arange(40) % 2
    margins = np.random.default_rng(0).normal(size=40) - 2 * truth
    both = np.stack([-margins, margins], axis=1)
    curve = calibrate(both, truth)
    assert np.allclose(curve.slopes * both.std(0), LEAST_SLOPE)
    order = np.argsort(margins)
    assert (np.diff(curve.probabilities(both)[order, 1]) > 0).all()
    assert curve.probabilities(both)[:, 1].mean() == pytest.approx(0.5, abs=0.01)


def test_a_calibration_of_many_is_a_logistic_regression() -> None:
    """With plenty of scans bound and penalty have no say: scikit-learn's free one agrees."""
    rng = np.random.default_rng(1)
    margins = rng.normal(size=4000)
    truth = (rng.random(4000) < 1 / (1 + np.exp(-(1.5 * margins - 0.4)))).astype(int)
    free = LogisticRegression(C=1e6).fit(margins[:, None], truth).predict_proba(margins[:, None])
    ours = calibrate(np.stack([-margins, margins], axis=1), truth)
    assert np.allclose(ours.probabilities(np.stack([-margins, margins], 1)), free, atol=2e-3)


def test_few_people_of_each_class_are_split_in_as_many_parts_as_hold_both() -> None:
    """Eight people of two classes have no five such parts, which once was an error of another
    library's."""
    truth = np.array([0, 1] * 4)
    gram = np.outer(truth - 0.5, truth - 0.5) * 4 + np.eye(8)
    problem = Problem(gram, gram, truth, np.arange(8), 2, 0)
    assert len(inner_folds(problem, stratified=True)) == 4
    assert (svm.svm_classes(problem)[1].argmax(1) == truth).all()
