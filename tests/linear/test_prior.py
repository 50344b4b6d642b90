"""A memory that starts from a pretrained one: it shrinks towards it, and needs few labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lcm_scale.linear.memory import Asked, PeopleMemory, fit_memory
from lcm_scale.linear.prior import USUAL_SHARE, Prior, PriorTarget, prior_answers

F = 6
Make = Callable[..., np.ndarray]


def as_prior(memory: PeopleMemory, name: str) -> Prior:
    target = memory.targets[name]
    own = PriorTarget(
        target.classes, target.weights.common[None], target.weights.intercept, target.weights.log
    )
    return Prior(memory.whitening[None], memory.centre[None], {name: own})


def test_classes_are_each_against_the_mean_of_those_that_are_asked() -> None:
    rng = np.random.default_rng(0)
    whole = PriorTarget((0, 2, 5), rng.normal(size=(2, F, 3)), rng.normal(size=3), False)
    vectors = rng.normal(size=(2, 4, F))
    everything = prior_answers(whole, vectors)
    some = whole.of((2, 5))
    assert some is not None
    expected = everything[:, 1:] - everything[:, 1:].mean(1, keepdims=True)
    assert np.allclose(prior_answers(some, vectors), expected)
    assert np.allclose(prior_answers(some.times(0.25), vectors), expected / 4)
    assert whole.of((1, 2)) is None and whole.of(()) is None


@pytest.fixture
def world(correlations: Make) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges, an age and a class that the first edges tell of everybody."""
    edges = correlations(260)
    signal = (edges[:, :3] - edges[:, :3].mean(0)).sum(1) / edges[:, :3].sum(1).std()
    noise = np.random.default_rng(1).normal(0, 0.3, 260)
    return edges, 40 + 9 * (signal + noise), (signal + noise > 0).astype(float)


def test_few_labels_are_enough_where_the_prior_knows(
    world: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    edges, age, group = world
    far, near, new = slice(0, 180), slice(180, 192), slice(192, 260)
    asked = {"age": Asked(age[far], 0), "group": Asked(group[far], 2)}
    before = fit_memory(edges[far], np.arange(180), asked, 0)
    for name, truth, n_classes in (("age", age + 20, 0), ("group", group, 2)):
        few = {name: Asked(truth[near], n_classes)}
        alone = fit_memory(edges[near], np.arange(12), few, 0)
        prior = as_prior(before, name)
        helped = fit_memory(edges[near], np.arange(12), few, 0, prior=prior)
        found, without = (m.scores(edges[new])[name][:, -1] for m in (helped, alone))
        assert helped.targets[name].choice.share == USUAL_SHARE and helped.prior is prior
        assert np.corrcoef(found, truth[new])[0, 1] > np.corrcoef(without, truth[new])[0, 1] + 0.1
        if not n_classes:  # another mean than the prior's people have
            assert abs((found - truth[new]).mean()) < 6


def test_a_prior_that_is_wrong_is_left_out_where_labels_are_many(
    world: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    edges, age, _ = world
    people = np.arange(200)
    before = fit_memory(edges[:200], people, {"age": Asked(80 - age[:200], 0)}, 0)
    asked = {"age": Asked(age[:200], 0)}
    alone = fit_memory(edges[:200], people, asked, 0)
    misled = fit_memory(edges[:200], people, asked, 0, prior=as_prior(before, "age"))
    errors = [
        np.abs(m.scores(edges[200:])["age"][:, 0] - age[200:]).mean() for m in (alone, misled)
    ]
    assert misled.targets["age"].choice.share == 0.0
    assert errors[1] < 1.05 * errors[0]


def test_another_scale_or_an_unknown_class_is_no_prior(
    world: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    edges, age, group = world
    people = np.arange(60)
    before = fit_memory(edges[:60], people, {"age": Asked(age[:60], 0, log=True)}, 0)
    below = {"age": Asked(age[:60] - 60, 0)}
    found = fit_memory(edges[:60], people, below, 0, prior=as_prior(before, "age"))
    assert found.prior is None and found.targets["age"].choice.share == 0.0
    before = fit_memory(edges[:60], people, {"group": Asked(group[:60], 2)}, 0)
    other = {"group": Asked(group[:60] + 1, 3)}
    assert fit_memory(edges[:60], people, other, 0, prior=as_prior(before, "group")).prior is None
