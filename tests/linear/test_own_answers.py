"""What a ridge says of its own scans, held to the plain formulation: its collapsed weights on these
scans' vectors, less intercept and context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lcm_scale.linear.collapse import KeptPeople, collapse
from lcm_scale.linear.context import Context, KnownColumn
from lcm_scale.linear.kernels import Bank, Form
from lcm_scale.linear.landmarks import LandmarkBank
from lcm_scale.linear.people import Choice
from lcm_scale.linear.tangent import TangentSpace

N = 60


@pytest.mark.parametrize("landmarks", [False, True])
@pytest.mark.parametrize("radial", [False, True])
@pytest.mark.parametrize("form", [Form(False, False), Form(True, True)])
def test_own_answers_are_those_of_the_collapsed_weights(
    correlations: Callable[..., np.ndarray], landmarks: bool, radial: bool, form: Form
) -> None:
    edges = correlations(N, 3)
    vectors = TangentSpace.of(edges).vectors(edges)
    vectors -= vectors.mean(0)
    subject = np.arange(N) // 2  # two scans of each person
    site = np.array(np.arange(N) % 3, dtype=float)[:, None]
    known = Context((KnownColumn("site", ("a", "b", "c")),), site).fitted(subject)
    at = np.arange(0, N, 3) if landmarks else np.arange(N)
    bank: Bank | LandmarkBank = Bank(vectors @ vectors.T, subject, known, radial)
    if landmarks:
        squares = (vectors**2).sum(1)
        bank = LandmarkBank(vectors @ vectors[at].T, squares, at, subject, known, radial)
    labelled = np.arange(0, N - 5)
    wanted = np.random.default_rng(0).normal(size=(len(labelled), 2))
    choice = Choice(1.0, 0.3, False, 0.0, 0.0, np.zeros(0), form)
    people = None
    if radial:
        gram = np.where(subject[at, None] == subject[at], 0.0, vectors[at] @ vectors[at].T)
        people = KeptPeople(vectors[at], gram, known.of(at), len(np.unique(subject[at])))
    weights = collapse(bank, vectors[at], labelled, wanted, choice, None, people)
    alone = replace(weights, added=np.zeros_like(weights.added), intercept=np.zeros(2))
    plain = alone.answers(vectors[labelled], known.of(labelled))
    found = bank.own_answers(labelled, wanted, choice.beta, form, choice.alpha)
    assert found == pytest.approx(plain, abs=1e-8)
