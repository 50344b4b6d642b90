"""The cohort that a model carries: own distances against a plain formulation, what is stored, and
what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.atlas import edge_order
from lcm_scale.config import Recipe
from lcm_scale.data.quality import distance_from, without_data
from lcm_scale.errors import InputError
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.training import fit as run
from lcm_scale.training.cohort import cohort_of, own_distances
from lcm_scale.training.prepare import prepare
from lcm_scale.weights import checkpoints
from lcm_scale.weights.cohort import Cohort

Make = Callable[..., Recipe]
R = 9


def test_a_persons_distance_is_from_the_mean_of_the_others() -> None:
    rng = np.random.default_rng(0)
    edges = rng.normal(0.2, 0.3, (14, R * (R - 1) // 2)).astype(np.float16)
    person = np.array([0, 1, 2, 3, 0, 4, 5, 6, 6, 6, 7, 8, 9, 9])
    dead = np.zeros((R, R), dtype=bool)
    dead[4] = dead[:, 4] = True
    edges[2, dead[np.triu_indices(R, 1)]] = 0
    found = own_distances(edges, person)
    for scan, own in enumerate(edges.astype(np.float64)):
        others = edges[person != person[scan]].astype(np.float64)
        mean = others.sum(0) / (others != 0).sum(0)
        there = own != 0
        plain = 1 - np.corrcoef(own[there], mean[there])[0, 1]
        assert found[scan] == pytest.approx(plain, abs=1e-9)
    assert without_data(edges).nonzero() == (np.array([2]), np.array([4]))


def test_every_checkpoint_carries_the_people_that_trained_it(recipe: Make) -> None:
    prepared = prepare(recipe("data.validation=0.2"))
    cohort = cohort_of(prepared)
    found = checkpoints.load(run.fit(prepared).checkpoint).cohort
    assert found == cohort and cohort is not None
    edges = prepared.opened.source.gather(np.arange(prepared.opened.sets.n_scans))
    np.testing.assert_allclose(
        cohort.distance(edges),
        distance_from(edges.astype(float), edges.mean(0, dtype=float)),
        atol=3e-4,
    )
    assert (cohort.people, cohort.volumes, cohort.seconds) == (37, (40, 40), (2, 2))
    assert cohort.studies == ("toy",)
    assert cohort.percent(np.array([-1, cohort.threshold, 2, np.nan]))[:3].tolist() == [0, 99, 100]


def test_held_out_people_are_not_in_it(recipe: Make) -> None:
    prepared = prepare_evaluation(recipe("name=eval", "evaluate.folds=3", "data.validation=0.2"))
    own = prepared.runs[0][0]
    cohort = cohort_of(own)
    assert cohort is not None
    assert cohort.people == len({*own.subjects}) < 37


def cohort() -> Cohort:
    return Cohort(
        scans=3,
        people=2,
        mean=np.linspace(-1, 1, R * (R - 1) // 2).astype("<f2").tobytes(),
        distances=tuple(np.linspace(0, 1, 101).tolist()),
        size=(0.1, 0.4),
        volumes=None,
        seconds=(2.0, 3.0),
        missing=(4,),
        studies=("toy",),
    )


def test_it_is_read_back_as_it_was_written() -> None:
    text = json.dumps(cohort().to_json())
    assert Cohort.from_json(json.loads(text), "cohort", R * (R - 1) // 2) == cohort()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", "AAAA"),
        ("mean", "=" * 96),
        ("mean", 3),
        ("distances", [0.5] * 100),
        ("distances", [1.0, *[0.5] * 100]),
        ("size", [0.1]),
        ("volumes", "long"),
        ("seconds", [1, "2"]),
        ("missing", [1.5]),
        ("studies", [3]),
        ("people", 0),
    ],
)
def test_what_is_not_it_is_refused(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"cohort\.{key}"):
        Cohort.from_json(cohort().to_json() | {key: value}, "cohort", R * (R - 1) // 2)
    broken = cohort().to_json()
    del broken[key]
    with pytest.raises(InputError, match=f"no {key}"):
        Cohort.from_json(broken, "cohort", R * (R - 1) // 2)


def test_moved_edges_have_the_same_distance(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    edges = rng.normal(size=(5, R * (R - 1) // 2))
    place = rng.permutation(R)
    order = edge_order(place)
    there = np.empty_like(edges)
    there[:, order] = edges
    np.testing.assert_allclose(cohort().moved(order).distance(there), cohort().distance(edges))
