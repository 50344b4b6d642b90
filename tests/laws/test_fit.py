"""Fits return what the points were made of, and intervals hold it as often as they promise."""

from __future__ import annotations

import numpy as np
import pytest

from lcm_scale.errors import InputError
from lcm_scale.laws.fit import (
    _non_negative,
    bootstrap,
    check,
    drop,
    fit,
    needed,
    objective_at,
    percentile_interval,
    profile_interval,
    threshold,
)
from lcm_scale.laws.laws import LAWS, Runs, Scale, raw_coefficients

LAW = LAWS["chinchilla"]
TRUTH = {"E": 0.55, "A": 0.10, "B": 0.20, "a": 0.35, "b": 0.35}


def design(
    sizes: int = 6, people: int = 4, seeds: int = 2, epochs: tuple[float, ...] = (10.0,)
) -> Runs:
    grid = np.meshgrid(
        np.geomspace(5e4, 2e7, sizes), np.geomspace(100, 1340, people), range(seeds), epochs
    )
    n, u, _, e = (x.ravel() for x in grid)
    return Runs(np.ones(n.size), n, u * e, u, e, np.arange(n.size))


def sample(
    runs: Runs, noise: float, seed: int = 0, law: str = "chinchilla", **more: float
) -> tuple[Runs, Scale]:
    scale, values = Scale.of(runs), {**TRUTH, **more}
    clean = LAWS[law].predict(runs, scale, np.array([values[n] for n in LAWS[law].names]))
    return runs.with_loss(
        clean * np.exp(noise * np.random.default_rng(seed).standard_normal(len(runs)))
    ), scale


def test_points_rebuilt_from_the_published_coefficients_give_them_back() -> None:
    # Besiroglu et al. 2024, arXiv 2404.10102: E 1.82, A 482, B 2085, alpha .348, beta .366.
    n, ratio = (
        x.ravel() for x in np.meshgrid(np.geomspace(4.4e7, 1.6e10, 12), np.geomspace(3, 300, 6))
    )
    d = n * ratio
    loss = 1.82 + 482 / n**0.348 + 2085 / d**0.366
    found = fit(LAW, Runs(loss, n, d, d, np.ones_like(n), np.arange(n.size)))
    raw = raw_coefficients(LAW, found.scale, found.named)
    assert [raw["E"], raw["A"], raw["B"]] == pytest.approx([1.82, 482, 2085], rel=1e-6)
    assert [found.named["a"], found.named["b"]] == pytest.approx([0.348, 0.366], rel=1e-6)


@pytest.mark.parametrize(
    ("law", "more"), [("repeated", {"R": 12.0}), ("overfit", {"P": 0.05, "c": 0.5}), ("data", {})]
)
def test_every_law_finds_its_own_coefficients_again(law: str, more: dict[str, float]) -> None:
    runs, scale = sample(design(seeds=1, epochs=(2.0, 10.0, 50.0)), 0.0, law=law, **more)
    found = fit(LAWS[law], runs, scale)
    expected = {**TRUTH, **more}
    assert found.named == pytest.approx({n: expected[n] for n in LAWS[law].names}, rel=0.02)


def test_one_wild_run_moves_a_coefficient_little() -> None:
    runs, scale = sample(design(), 0.01)
    wild = runs.loss.copy()
    wild[7] *= 3
    honest, shaken = fit(LAW, runs, scale), fit(LAW, runs.with_loss(wild), scale)
    assert abs(shaken.named["E"] - honest.named["E"]) < profile_interval(honest, "E").width / 2


def test_the_loss_is_a_sum_not_a_mean() -> None:
    runs, scale = sample(design(), 0.02)
    once = fit(LAW, runs, scale)
    twice = fit(LAW, runs.take(np.tile(np.arange(len(runs)), 2)), scale, once.values, once.delta)
    assert twice.objective == pytest.approx(2 * once.objective, rel=1e-4)


def test_the_grid_solves_non_negative_least_squares_exactly() -> None:
    from scipy.optimize import nnls

    rng = np.random.default_rng(1)
    terms, target = rng.standard_normal((20, 9, 3)), rng.standard_normal(9)
    values, errors = _non_negative(terms, target)
    for one, found, error in zip(terms, values, errors, strict=True):
        expected, norm = nnls(one, target)
        assert found == pytest.approx(expected, abs=1e-6)
        assert error == pytest.approx(norm**2)


@pytest.mark.parametrize("shape", [(6, 4, 2), (5, 3, 1)], ids=["48 runs", "15 runs"])
def test_profile_intervals_hold_the_truth_as_often_as_promised(shape: tuple[int, int, int]) -> None:
    # 60 repetitions: within three binomial standard deviations of 95 %; benchmarks/fit_coverage.py
    # does 200.
    blank, inside = design(*shape), 0
    for repetition in range(60):
        runs, scale = sample(blank, 0.02, repetition)
        found = fit(LAW, runs, scale)
        inside += drop(found, objective_at(found, "E", TRUTH["E"])[0]) <= threshold(found)
    assert 52 <= inside <= 60


def test_an_interval_ends_where_the_loss_has_risen_to_the_quantile() -> None:
    runs, scale = sample(design(), 0.02, 1)
    found = fit(LAW, runs, scale)
    interval = profile_interval(found, "E")
    for end in (interval.low, interval.high):
        assert drop(found, objective_at(found, "E", end)[0]) == pytest.approx(
            threshold(found), rel=0.1
        )


def test_fewer_runs_widen_the_interval() -> None:
    def width(*shape: int) -> float:
        return sum(
            profile_interval(fit(LAW, *sample(design(*shape), 0.02, seed)), "E").width
            for seed in range(3)
        )

    assert width(5, 3, 1) > 1.3 * width(6, 4, 3)


def test_a_term_that_is_not_there_has_an_interval_down_to_its_bound() -> None:
    runs, scale = sample(design(), 0.02, A=0.0)
    interval = profile_interval(fit(LAW, runs, scale), "A")
    assert not interval.bounded_below
    assert interval.low == 0


def test_the_bootstrap_draws_whole_clusters() -> None:
    runs, scale = sample(design(seeds=3), 0.02)
    pairs = np.arange(len(runs)) % (len(runs) // 3)
    apart = fit(LAW, runs, scale)
    copies = Runs(**{**runs.__dict__, "cluster": pairs})
    together = fit(LAW, copies, scale)
    assert bootstrap(together, 5, 0).shape == (5, 5)
    assert not np.allclose(bootstrap(apart, 5, 0), bootstrap(together, 5, 0))
    interval = percentile_interval(bootstrap(apart, 40, 0), LAW, "E")
    assert interval.low < apart.named["E"] < interval.high


def test_too_few_runs_say_how_many_more() -> None:
    with pytest.raises(
        InputError, match=r"4 usable runs, it has 5 parameters and needs at least 7: 3 more"
    ):
        check(LAW, design(2, 2, 1))
    assert needed(LAW) == 7


def test_too_few_sizes_say_which_are_missing() -> None:
    with pytest.raises(
        InputError, match=r"2 different values of parameters, it needs at least 3: 1 more"
    ):
        check(LAW, design(2, 4, 2))
