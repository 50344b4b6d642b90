"""People memory by landmarks: where everybody is one it is the plain memory, and it meets nobody
twice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lcm_scale.linear import landmarks
from lcm_scale.linear.collapse import collapse
from lcm_scale.linear.context import Context, KnownColumn
from lcm_scale.linear.kernels import FORMS, PLAIN, Bank, Form, kernels
from lcm_scale.linear.landmarks import LandmarkBank, draw_landmarks
from lcm_scale.linear.memory import Asked, PeopleMemory, fit_memory
from lcm_scale.linear.people import Choice, choose
from lcm_scale.linear.prior import Prior, PriorTarget

F, B = 30, 90
COLUMNS = (KnownColumn("site", ("a", "b", "c")), KnownColumn("age", (), 40.0, 9.0))


@pytest.fixture
def vectors() -> np.ndarray:
    """Centred, (B, F)."""
    found = np.random.default_rng(0).normal(size=(B, F))
    return found - found.mean(0)


@pytest.fixture
def subject() -> np.ndarray:
    """Two scans a person, not in a row."""
    return np.random.default_rng(1).permutation(np.arange(B) // 2)


@pytest.fixture
def context() -> Context:
    """Of the scans, some of each column unknown."""
    rng = np.random.default_rng(2)
    values = np.stack([rng.integers(0, 3, B), rng.normal(40, 9, B)], axis=1).astype(float)
    values[rng.random(values.shape) < 0.2] = np.nan
    return Context(COLUMNS, values)


def near(vectors: np.ndarray, at: np.ndarray, subject: np.ndarray, known: Context) -> LandmarkBank:
    return LandmarkBank(vectors @ vectors[at].T, (vectors**2).sum(1), at, subject, known)


@pytest.fixture
def labelled() -> np.ndarray:
    """Of two thirds; the others are in the bank alone."""
    return np.sort(np.random.default_rng(3).choice(B, 60, replace=False))


def test_where_everybody_is_a_landmark_the_tuning_is_that_of_all_with_all(
    vectors: np.ndarray,
    subject: np.ndarray,
    context: Context,
    labelled: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also over several blocks of scans, with context, a prior and unlabelled people in the
    bank."""
    monkeypatch.setattr(landmarks, "BLOCK", 16)
    whole = Bank(vectors @ vectors.T, subject, context)
    ours = near(vectors, np.arange(B), subject, context)
    rng = np.random.default_rng(4)
    site = np.nan_to_num(context.values[labelled, 0])
    shift = np.where(site == 1, 2.0, 0.0)
    truth = 20 + (vectors[labelled, 0] + shift + 0.3 * rng.normal(size=60))[:, None]
    for prior in (None, truth / 2 + rng.normal(size=truth.shape)):
        expected = choose(whole, labelled, truth, None, 0, context=True, prior=prior)
        found = choose(ours, labelled, truth, None, 0, context=True, prior=prior)
        assert (found.alpha, found.beta) == (expected.alpha, expected.beta)
        assert (found.form, found.share, found.log) == (
            expected.form,
            expected.share,
            expected.log,
        )
        np.testing.assert_allclose(found.held_out, expected.held_out, rtol=1e-5)
        assert found.gain == pytest.approx(expected.gain, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("form", [PLAIN, *FORMS])
def test_where_everybody_is_a_landmark_the_weights_are_the_same(
    form: Form, vectors: np.ndarray, subject: np.ndarray, context: Context, labelled: np.ndarray
) -> None:
    truth = np.random.default_rng(4).normal(5, 2, size=(60, 2))
    choice = Choice(1.0, 0.3, False, 0.0, 0.0, np.zeros((0, 1)), form)
    rng = np.random.default_rng(5)
    others = rng.normal(size=(20, F))
    theirs = context.of(rng.integers(0, B, 20))
    whole = Bank(vectors @ vectors.T, subject, context)
    ours = near(vectors, np.arange(B), subject, context)
    expected, found = (
        collapse(bank, vectors, labelled, truth, choice).answers(others, theirs)
        for bank in (whole, ours)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_few_landmarks_are_the_ridge_on_the_features_that_they_say(
    vectors: np.ndarray, subject: np.ndarray
) -> None:
    """By loops, and the plain formula for a ridge with an intercept that is not penalised."""
    everybody = np.arange(B)
    at = draw_landmarks(subject, [everybody], 20, 0)
    bank = near(vectors, at, subject, Context.nothing(B))
    truth = vectors[:, :1] + np.random.default_rng(6).normal(size=(B, 1))
    scale1 = np.mean([v @ v for v in vectors])

    def met(vector: np.ndarray, person: int) -> np.ndarray:
        own = [vector @ vectors[j] / scale1 if subject[j] != person else 0.0 for j in at]
        return np.array(own)

    A = np.array([met(v, s) for v, s in zip(vectors, subject, strict=True)])
    scale2 = (A**2).sum(1).mean()
    kernel = vectors @ vectors[at].T / scale1 + 3.0 * (A @ A[at].T) / scale2
    values, directions = np.linalg.eigh(kernel[at])
    features = kernel @ directions / np.sqrt(values)
    about = features - features.mean(0)
    weights = np.linalg.solve(about.T @ about + 0.3 * np.eye(20), about.T @ (truth - truth.mean()))
    other = np.random.default_rng(7).normal(size=(1, F))
    seen = other @ vectors[at].T / scale1
    row = seen + 3.0 * (seen @ A[at].T) / scale2
    own = row @ directions / np.sqrt(values)
    expected = truth.mean() + (own - features.mean(0)) @ weights
    choice = Choice(3.0, 0.3, False, 0.0, 0.0, np.zeros((0, 1)))
    found = collapse(bank, vectors[at], everybody, truth, choice)
    np.testing.assert_allclose(found.answers(other, Context.nothing(1)), expected, rtol=1e-5)


def test_a_landmark_meets_neither_herself_nor_whom_her_fold_holds_out(
    vectors: np.ndarray, subject: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = np.arange(B)
    at = draw_landmarks(subject, [everybody], 40, 0)
    bank = near(vectors, at, subject, Context.nothing(B))
    fitted = bank.fit(everybody, vectors[:, :1], 1.0, PLAIN, 0.3)
    same = subject[at][:, None] == subject[at]
    assert (fitted.masked[same] == 0).all() and (fitted.masked[~same] != 0).all()

    met: list[set[int]] = []
    original = landmarks._Near.of

    def spy(bank: LandmarkBank, inside: np.ndarray, fit: np.ndarray) -> landmarks._Near:
        met.append(set(bank.subject[bank.at[inside]].tolist()))
        assert not met[-1] - set(subject[fit].tolist())
        return original(bank, inside, fit)

    monkeypatch.setattr(landmarks._Near, "of", spy)
    choose(bank, everybody, vectors[:, :1], None, 0)
    assert len(met) == 5 and set.intersection(*met) == set(), "everybody was held out once, wholly"


def test_held_out_answers_know_nothing_of_a_scan_but_its_own_matrix(
    vectors: np.ndarray, subject: np.ndarray
) -> None:
    """Another truth, or another matrix of a person's other scan, changes none of hers."""
    everybody, truth = np.arange(B), vectors[:, :1] + 3
    at = draw_landmarks(subject, [everybody], 60, 0)
    held = np.flatnonzero(subject == subject[at[0]])
    fit = np.flatnonzero(subject != subject[at[0]])
    asked, alphas = [(1.0, PLAIN)], np.array([0.1, 1.0])
    known = Context.nothing(B)
    (first,) = near(vectors, at, subject, known).paths(fit, held, asked, truth[fit], alphas)
    other = vectors.copy()
    other[held[1]] *= -2
    (second,) = near(other, at, subject, known).paths(fit, held, asked, truth[fit], alphas)
    np.testing.assert_allclose(second[:, 0], first[:, 0], rtol=1e-9)
    assert not np.allclose(second[:, 1], first[:, 1])


def test_a_target_that_few_have_keeps_its_people_as_landmarks() -> None:
    subject = np.repeat(np.arange(500), 2)
    everybody, few = np.arange(1000), np.arange(300, 320)
    at = draw_landmarks(subject, [everybody, few], 60, 0)
    assert np.isin(few, at).all() and len(at) == 60
    assert np.array_equal(np.unique(subject[at], return_counts=True)[1], np.full(30, 2)), "whole"
    assert not np.array_equal(at, draw_landmarks(subject, [everybody, few], 60, 1))
    assert np.array_equal(draw_landmarks(subject, [few], 2000, 0), everybody), "the unlabelled too"


def memory(
    correlations: Callable[..., np.ndarray], most: int | None, prior: Prior | None
) -> tuple[PeopleMemory, dict[str, np.ndarray]]:
    edges = correlations(80)
    rng = np.random.default_rng(0)
    truth = np.arange(80) % 2.0
    truth[60:] = np.nan
    asked = {"sex": Asked(truth, 2), "age": Asked(40 + 5 * edges[:, 0] + rng.normal(size=80), 0)}
    known = Context((KnownColumn("site", ("a", "b")),), (np.arange(80)[:, None] % 2).astype(float))
    found = fit_memory(edges, np.arange(80) // 2, asked, 0, known, prior, most)
    return found, found.scores(correlations(10, seed=9), np.ones((10, 1)))


def test_a_whole_memory_with_a_prior_is_the_same(correlations: Callable[..., np.ndarray]) -> None:
    before, _ = memory(correlations, None, None)
    weights = before.targets["age"].weights
    start = PriorTarget((), weights.common[None], weights.intercept, False)
    prior = Prior(before.whitening[None], before.centre[None], {"age": start})
    for given in (None, prior):
        plain, expected = memory(correlations, None, given)
        ours, found = memory(correlations, 80, given)
        np.testing.assert_allclose(ours.centre, plain.centre, atol=1e-12)
        for name, answers in expected.items():
            np.testing.assert_allclose(found[name], answers, rtol=1e-5, err_msg=name)
        fewer, _ = memory(correlations, 40, given)
        assert set(fewer.targets) == {"sex", "age"}


def test_kernels_with_all_landmarks_are_the_kernels(
    vectors: np.ndarray, subject: np.ndarray, labelled: np.ndarray
) -> None:
    own = kernels(vectors @ vectors.T, subject, labelled)
    bank = near(vectors, np.arange(B), subject, Context.nothing(B))
    found = landmarks._Near.of(bank, np.ones(B, dtype=bool), labelled)
    assert (found.scale1, found.scale2) == (pytest.approx(own.scale1), pytest.approx(own.scale2))
    np.testing.assert_allclose(found.plain(labelled)[:, labelled], own.k1)
    of_all = found.kernels(labelled, [(1.0, PLAIN)], found.masked(np.arange(B)))[0]
    np.testing.assert_allclose(of_all[:, labelled], own.k1 + own.k2)
