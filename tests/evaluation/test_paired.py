"""Seeds averaged on each resample, differences paired by person."""

from __future__ import annotations

import numpy as np
import pytest

from lcm_scale.evaluation.intervals import Draws, resampled
from lcm_scale.evaluation.metrics import METRICS, Metric, Predictions
from lcm_scale.evaluation.paired import compared, over_seeds, standing

PEOPLE = 60


def draws(strength: float, seed: int, people: int = PEOPLE) -> Draws:
    """Two classes told apart with some strength; the noise of a person is the same for all."""
    truth = np.arange(people) % 2
    noise = np.random.default_rng(1).standard_normal(people)
    own = np.random.default_rng(seed).standard_normal(people)
    margin = strength * (2 * truth - 1) + noise + 0.2 * own
    up = 1 / (1 + np.exp(-margin))
    scores = np.stack([1 - up, up], axis=1)
    p = Predictions(
        "LCM",
        "diagnosis",
        "class",
        ("CN", "Autism"),
        truth,
        scores,
        np.arange(people),
        np.ones(people),
        np.arange(people),
    )
    return resampled(p, 400, 0)


def test_the_value_is_the_mean_of_the_seeds_and_the_difference_that_of_their_differences() -> None:
    base, ours = ([draws(s, seed) for seed in (2, 3, 4)] for s in (0.5, 1.0))
    found = compared(ours, base)["auroc"]
    each = [
        float(a.values["auroc"][0] - b.values["auroc"][0]) for a, b in zip(ours, base, strict=True)
    ]
    assert found.by_seed == pytest.approx(each)
    assert found.difference is not None
    assert found.difference.value == pytest.approx(np.mean(each))
    assert found.value.value == pytest.approx(np.mean([d.values["auroc"][0] for d in ours]))
    assert found.difference.low < found.difference.value < found.difference.high


def test_a_pair_shares_its_people_so_that_its_interval_is_narrower_than_of_two_strangers() -> None:
    base, ours = [draws(0.5, 2)], [draws(0.7, 3)]
    difference = compared(ours, base)["auroc"].difference
    assert difference is not None
    alone = compared(ours, ours)["auroc"].value
    assert difference.high - difference.low < alone.high - alone.low


def test_averaging_seeds_hides_no_seed_from_the_interval_of_people() -> None:
    """Resample by resample, not the mean of the intervals."""
    mean = over_seeds([draws(0.5, 2), draws(0.5, 3)])
    each = [draws(0.5, seed).values["accuracy"] for seed in (2, 3)]
    assert np.allclose(mean.values["accuracy"], np.mean(each, axis=0))


def test_a_model_without_seeds_is_held_against_each_seed_of_the_base() -> None:
    base, baseline = [draws(0.5, seed) for seed in (2, 3)], [draws(0.8, 9)]
    found = compared(baseline, base)["auroc"]
    one = baseline[0].values["auroc"][0]
    assert found.by_seed == pytest.approx([one - b.values["auroc"][0] for b in base])


def test_the_base_has_no_difference_from_itself() -> None:
    base = [draws(0.5, 2)]
    assert compared(base, base)["auroc"].difference is None


def test_models_of_other_people_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different scans"):
        compared([draws(1, 2, people=40)], [draws(1, 2)])
    with pytest.raises(ValueError, match="different scans"):
        over_seeds([draws(1, 2, people=40), draws(1, 2)])


@pytest.mark.parametrize(
    ("low", "high", "higher", "expected"),
    [
        (0.01, 0.2, True, "better"),
        (-0.2, -0.01, True, "worse"),
        (-0.01, 0.2, True, "level"),
        (-2.0, -0.1, False, "better"),
        (0.1, 2.0, False, "worse"),
        (0.0, 0.0, True, "level"),
        (float("nan"), float("nan"), True, "level"),
    ],
)
def test_better_and_worse_need_an_interval_that_excludes_zero(
    low: float, high: float, higher: bool, expected: str
) -> None:
    kind = METRICS["class"]["auroc"] if higher else METRICS["scalar"]["mae"]
    assert standing(Metric("x", (low + high) / 2, low, high, 9, 9), kind) == expected
