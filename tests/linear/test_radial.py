"""The radial form of people memory: exp(-|x - y|^2 / 2) by the linear form's kernel."""

from __future__ import annotations

import numpy as np
import pytest

from lcm_scale.linear.collapse import KeptPeople, collapse
from lcm_scale.linear.context import SHARED, Context, KnownColumn
from lcm_scale.linear.kernels import PLAIN, Bank, Form
from lcm_scale.linear.landmarks import LandmarkBank
from lcm_scale.linear.people import Choice, choose

F, B = 20, 48
COLUMNS = (KnownColumn("site", ("a", "b")), KnownColumn("age", (), 40.0, 9.0))


@pytest.fixture
def vectors() -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(B, F))
    return found - found.mean(0)


@pytest.fixture
def subject() -> np.ndarray:
    return np.random.default_rng(1).permutation(np.arange(B) // 2)


@pytest.fixture
def context() -> Context:
    rng = np.random.default_rng(2)
    return Context(COLUMNS, np.stack([rng.integers(0, 2, B) * 1.0, rng.normal(40, 9, B)], axis=1))


def kept(vectors: np.ndarray, subject: np.ndarray, context: Context) -> KeptPeople:
    gram = np.where(subject[:, None] == subject, 0.0, vectors @ vectors.T)
    return KeptPeople(vectors, gram, context, len(np.unique(subject)))


@pytest.mark.parametrize("shared", [False, True])
def test_its_answers_are_those_of_distances_between_features(
    shared: bool, vectors: np.ndarray, subject: np.ndarray, context: Context
) -> None:
    """x = (phi, sqrt(beta) A) over the scales, by loops; unlabelled people in the bank."""
    labelled = np.arange(0, B, 2)
    truth = np.random.default_rng(3).normal(5, 2, (len(labelled), 2))
    form = Form(shared, False)
    choice = Choice(3.0, 0.3, False, 0.0, 0.0, np.zeros((0, 1)), form)
    bank = Bank(vectors @ vectors.T, subject, context, radial=True)
    people = kept(vectors, subject, context)
    rng = np.random.default_rng(4)
    others, theirs = rng.normal(size=(7, F)), context.of(rng.integers(0, B, 7))
    found = collapse(bank, vectors, labelled, truth, choice, None, people).answers(others, theirs)

    scale1 = np.mean([vectors[i] @ vectors[i] for i in labelled])
    A = np.array(
        [
            [vectors[i] @ vectors[j] / scale1 if subject[i] != subject[j] else 0 for j in range(B)]
            for i in labelled
        ]
    )
    scale2 = (A**2).sum(1).mean()
    own = np.c_[vectors[labelled] / np.sqrt(scale1), np.sqrt(3 / scale2) * A]
    seen = np.c_[others / np.sqrt(scale1), np.sqrt(3 / scale2) * (others @ vectors.T / scale1)]

    def kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.exp(-((left[:, None] - right) ** 2).sum(2) / 2 / (1 + 3))

    train, test = kernel(own, own), kernel(seen, own)
    if shared:
        site, site_of_others = context.values[labelled, 0], theirs.values[:, 0]
        train = train * (1 + SHARED * (site[:, None] == site))
        test = test * (1 + SHARED * (site_of_others[:, None] == site))
    n = len(labelled)
    centring = np.eye(n) - 1 / n
    solved = centring @ np.linalg.solve(
        centring @ train @ centring + 0.3 * np.eye(n), truth - truth.mean(0)
    )
    expected = truth.mean(0) + (test - train.mean(0)) @ solved
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_where_everybody_is_a_landmark_it_is_the_same(
    vectors: np.ndarray, subject: np.ndarray, context: Context
) -> None:
    labelled = np.arange(0, B, 2)
    rng = np.random.default_rng(5)
    truth = (np.sin(2 * vectors[labelled, 0]) + 0.1 * rng.normal(size=24))[:, None]
    whole = Bank(vectors @ vectors.T, subject, context, radial=True)
    squares = (vectors**2).sum(1)
    at = np.arange(B)
    near = LandmarkBank(vectors @ vectors.T, squares, at, subject, context, radial=True)
    expected = choose(whole, labelled, truth, None, 0, context=True)
    found = choose(near, labelled, truth, None, 0, context=True)
    chosen = (expected.alpha, expected.beta, expected.form)
    assert (found.alpha, found.beta, found.form) == chosen
    np.testing.assert_allclose(found.held_out, expected.held_out, atol=1e-6)
    people, others = kept(vectors, subject, context), rng.normal(size=(9, F))
    answers = [
        collapse(bank, vectors, labelled, truth, expected, None, people).answers(
            others, context.of(np.arange(9))
        )
        for bank in (whole, near)
    ]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-6)


def test_it_learns_what_no_linear_memory_can() -> None:
    """A truth by the product of two directions."""
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(240, 4))
    vectors -= vectors.mean(0)
    truth = (vectors[:, 0] * vectors[:, 1])[:, None]
    gram, everybody = vectors @ vectors.T, np.arange(240)
    nothing = Context.nothing(240)
    losses = [
        ((choose(bank, everybody, truth, None, 0).held_out - truth) ** 2).mean()
        for bank in (Bank(gram, everybody, nothing), Bank(gram, everybody, nothing, radial=True))
    ]
    assert losses[1] < losses[0] / 2


def test_a_plain_choice_shares_nothing(
    vectors: np.ndarray, subject: np.ndarray, context: Context
) -> None:
    choice = Choice(1.0, 0.3, False, 0.0, 0.0, np.zeros((0, 1)), PLAIN)
    bank = Bank(vectors @ vectors.T, subject, context, radial=True)
    people = kept(vectors, subject, context)
    weights = collapse(bank, vectors, np.arange(B), vectors[:, :1], choice, None, people)
    other = replace_values(context)
    assert np.array_equal(weights.answers(vectors, context), weights.answers(vectors, other))


def replace_values(context: Context) -> Context:
    return Context(context.columns, np.full_like(context.values, np.nan))
