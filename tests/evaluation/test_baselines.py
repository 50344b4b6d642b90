"""The baselines are what they say they are, tuned on training people alone, and see nothing of the
test scans."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from lcm_scale.evaluation.baselines import BASELINES, TOLD, fisher_features, fit_predict
from lcm_scale.evaluation.intervals import resampled
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.linear.context import Context, KnownColumn

REGIONS = 12
EDGES = REGIONS * (REGIONS - 1) // 2
FITTED = ["linear", "tangent"]


def correlations(
    n: int, seed: int = 0, effect: np.ndarray | None = None, length: int = 60
) -> np.ndarray:
    """(n, EDGES) correlations of random series; `effect` (n,) strengthens the coupling of the first
    four regions."""
    rng = np.random.default_rng(seed)
    series = rng.normal(size=(n, length, REGIONS)) + 0.8 * rng.normal(size=(n, length, 1))
    if effect is not None:
        series[:, :, :4] += effect[:, None, None] * rng.normal(size=(n, length, 1))
    rows, columns = np.triu_indices(REGIONS, 1)
    return np.stack([np.corrcoef(s.T)[rows, columns] for s in series]).astype(np.float32)


def labelled(n: int = 120, seed: int = 0, n_classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    truth = np.random.default_rng(seed).permutation(np.arange(n) % n_classes)
    return correlations(n, seed, 0.7 * truth), truth


# -- what they are ---------------------------------------------------------------------------------


def test_covariances_are_fitted_as_they_are() -> None:
    """Small enough, a number is its own Fisher z; large, it has none."""
    edges, truth = labelled(60)

    def answer(scale: float, kind: str) -> np.ndarray:
        scaled = edges.astype(np.float64) * scale
        people = np.arange(40)
        return fit_predict(
            "linear", scaled[:40], truth[:40], people, scaled[40:], "class", 2, 0, (kind,)
        )

    tiny = answer(1e-4, "pearson")
    assert np.allclose(answer(1e-4, "covariance"), tiny, atol=1e-6)
    assert np.allclose(answer(50, "covariance"), tiny, atol=1e-6)
    assert not np.allclose(answer(50, "pearson"), tiny, atol=1e-2)


def test_fisher_features_are_arctanh_centred_on_the_training_mean() -> None:
    edges = correlations(20)
    train, test = fisher_features(edges[:15], edges[15:])
    z = np.arctanh(edges.astype(np.float64))
    assert np.allclose(train.mean(0), 0, atol=1e-12) and np.allclose(
        test, z[15:] - z[:15].mean(0), atol=1e-12
    )


def test_correlations_of_one_have_a_finite_fisher_z() -> None:
    edges = np.full((3, EDGES), [[1.0], [-1.0], [0.0]], np.float16)
    assert np.isfinite(fisher_features(edges, edges)[0]).all()


@pytest.mark.parametrize("name", [*FITTED, "majority"])
def test_a_scalar_with_a_log_scale_is_fitted_as_its_logarithm(name: str) -> None:
    edges = correlations(60)
    value = np.exp(5 + 2 * edges[:, 0].astype(np.float64))
    arguments = (name, edges[:40], value[:40], np.arange(40), edges[40:], "scalar", 1, 0)
    found = fit_predict(*arguments, log=True)
    learnt = fit_predict(name, edges[:40], np.log(value[:40]), *arguments[3:])
    assert np.allclose(found, np.exp(learnt)) and (found > 0).all()
    assert not np.allclose(found, fit_predict(*arguments))


# -- what they see ---------------------------------------------------------------------------------


def test_no_baseline_can_be_given_labels_of_test_scans() -> None:
    for function in (fit_predict, *BASELINES.values()):
        parameters = [name for name in inspect.signature(function).parameters if name != "name"]
        assert parameters[:4] == ["edges_train", "truth_train", "subject_train", "edges_test"]
        assert parameters[4:7] == ["kind", "n_classes", "seed"]
        # `sites` and `context` hold what is known of test scans as well, none of which is evaluated
        # (test_an_evaluated_target_is_never_preserved, test_no_baseline_is_told_what_is_asked).
        assert set(parameters[7:]) <= {"connectivity", "sites", "log", "context"}


def test_a_category_that_tells_the_answer_is_used_and_weighed() -> None:
    """Known of training and test scans alike; what is noise costs little."""
    edges, truth = labelled(90)
    rng = np.random.default_rng(0)
    column = (KnownColumn("eyes", ("open", "closed")),)

    def accuracy(codes: np.ndarray) -> float:
        context = Context(column, codes[:, None].astype(float))
        arguments = (edges[:60], truth[:60], np.arange(60), edges[60:], "class", 2, 0)
        scores = fit_predict(TOLD, *arguments, context=context)
        return float((scores.argmax(1) == truth[60:]).mean())

    assert accuracy(truth) == 1.0
    arguments = (edges[:60], truth[:60], np.arange(60), edges[60:], "class", 2, 0)
    plain = (fit_predict("tangent", *arguments).argmax(1) == truth[60:]).mean()
    assert accuracy(rng.integers(0, 2, 90)) > plain - 0.15


@pytest.mark.parametrize("kind", ["class", "scalar"])
@pytest.mark.parametrize("name", BASELINES)
def test_a_test_scans_score_does_not_depend_on_the_other_test_scans(name: str, kind: str) -> None:
    edges, truth = labelled(90)
    other = edges[60:].copy()
    other[1:] = correlations(29, seed=9, effect=np.full(29, 3.0))
    arguments = (edges[:60], truth[:60].astype(float), np.arange(60))
    together = fit_predict(name, *arguments, edges[60:], kind, 2, 0)
    among_others = fit_predict(name, *arguments, other, kind, 2, 0)
    alone = fit_predict(name, *arguments, edges[60:61], kind, 2, 0)
    assert np.allclose(together[0], among_others[0], atol=1e-9) and np.allclose(
        together[0], alone[0], atol=1e-9
    )


@pytest.mark.parametrize("name", FITTED)
def test_what_is_remembered_between_targets_never_answers_for_other_scans(name: str) -> None:
    edges, truth = labelled(90)
    arguments = (edges[:60], truth[:60], np.arange(60))
    fresh = fit_predict(name, *arguments, edges[60:], "class", 2, 0)
    changed = edges[:60].copy()
    changed[0, 0] += 0.5  # one number of one training scan
    assert not np.array_equal(
        fit_predict(name, changed, *arguments[1:], edges[60:], "class", 2, 0), fresh
    )
    assert np.array_equal(fit_predict(name, *arguments, edges[60:], "class", 2, 0), fresh)
    reordered = fit_predict(name, *arguments, edges[60:][::-1], "class", 2, 0)
    assert np.allclose(reordered, fresh[::-1], atol=1e-9)


# -- what they give --------------------------------------------------------------------------------


def test_majority_gives_the_training_frequencies_and_the_training_mean() -> None:
    edges = correlations(10)
    scores = fit_predict(
        "majority", edges[:6], np.array([1, 1, 1, 0, 1, 2]), np.arange(6), edges[6:], "class", 4, 0
    )
    assert np.allclose(scores, [[1 / 6, 4 / 6, 1 / 6, 0]] * 4)
    ages = fit_predict(
        "majority", edges[:3], np.array([20.0, 30.0, 70.0]), np.arange(3), edges[6:], "scalar", 1, 0
    )
    assert np.allclose(ages, [40.0] * 4)


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("n_classes", [2, 3, 9])
def test_a_planted_effect_is_found_and_probabilities_are_probabilities(
    name: str, n_classes: int
) -> None:
    """Two classes and three by SVM, nine by ridge (beyond `MAX_SVM_CLASSES`)."""
    edges, truth = labelled(240, n_classes=n_classes)
    scores = fit_predict(
        name, edges[:180], truth[:180], np.arange(180), edges[180:], "class", n_classes, 0
    )
    assert scores.shape == (60, n_classes) and np.allclose(scores.sum(1), 1) and (scores >= 0).all()
    chance = 1 / n_classes
    assert (scores.argmax(1) == truth[180:]).mean() > chance + 0.15


@pytest.mark.parametrize("name", FITTED)
def test_a_planted_value_is_found(name: str) -> None:
    value = np.random.default_rng(0).uniform(0, 2, 200)
    edges = correlations(200, effect=value)
    ours = fit_predict(name, edges[:150], value[:150], np.arange(150), edges[150:], "scalar", 1, 0)
    assert ours.shape == (50,) and np.corrcoef(ours, value[150:])[0, 1] > 0.7


@pytest.mark.parametrize("name", FITTED)
def test_noise_is_told_from_signal_by_nobody(name: str) -> None:
    """On labels drawn by lot the AUROC's interval holds one half, and the probabilities stay near
    the frequencies."""
    truth = np.random.default_rng(4).integers(0, 2, 200)
    edges = correlations(200, seed=4)
    scores = fit_predict(name, edges[:100], truth[:100], np.arange(100), edges[100:], "class", 2, 0)
    n = np.arange(100)
    p = Predictions(name, "t", "class", ("a", "b"), truth[100:], scores, n, np.zeros(100), n)
    auroc = next(m for m in resampled(p, 500, 0).metrics() if m.name == "auroc")
    assert auroc.low < 0.5 < auroc.high
    assert np.abs(scores[:, 1] - truth[:100].mean()).max() < 0.35


@pytest.mark.parametrize("name", FITTED)
def test_a_class_without_a_training_scan_gets_probability_zero(name: str) -> None:
    edges, truth = labelled(60)
    scores = fit_predict(name, edges[:50], 2 * truth[:50], np.arange(50), edges[50:], "class", 4, 0)
    assert (scores[:, [1, 3]] == 0).all() and np.allclose(scores.sum(1), 1)


@pytest.mark.parametrize("name", FITTED)
def test_a_single_training_class_is_predicted_with_certainty(name: str) -> None:
    scores = fit_predict(
        name, correlations(8), np.full(8, 1), np.arange(8), correlations(2), "class", 3, 0
    )
    assert np.array_equal(scores, [[0, 1, 0]] * 2)


@pytest.mark.parametrize("name", FITTED)
def test_a_class_of_two_people_is_survived(name: str) -> None:
    """The least that a fold is allowed to train on."""
    edges = correlations(42)
    truth = np.r_[np.arange(40) % 2, 2, 2]
    scores = fit_predict(name, edges, truth, np.arange(42), edges[:5], "class", 3, 0)
    assert np.isfinite(scores).all() and np.allclose(scores.sum(1), 1)


def test_probabilities_keep_the_frequency_of_a_rare_class() -> None:
    truth = (np.arange(300) % 6 == 0).astype(int)
    edges = correlations(300, effect=0.4 * truth)
    scores = fit_predict(
        "linear", edges[:240], truth[:240], np.arange(240), edges[240:], "class", 2, 0
    )
    assert scores[:, 1].mean() == pytest.approx(1 / 6, abs=0.06)


def test_the_same_seed_gives_the_same_scores() -> None:
    edges, truth = labelled(60)
    first, repeated = (
        fit_predict("linear", edges[:40], truth[:40], np.arange(40), edges[40:], "class", 2, 7)
        for _ in range(2)
    )
    assert np.array_equal(first, repeated)
