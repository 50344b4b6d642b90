"""Holm's correction is the textbook's; the p of a bootstrap is what its resamples say."""

from __future__ import annotations

import numpy as np
import pytest

from lcm_scale.evaluation.corrected import FoldValues, corrected_interval
from lcm_scale.evaluation.intervals import p_of_zero
from lcm_scale.evaluation.several import clear, holm

NAN = float("nan")


def plain(p_values: list[float]) -> list[float]:
    """Holm (1979) as it is written down: the k-th smallest times what is left, never falling."""
    order = np.argsort(p_values)
    found, before = np.zeros(len(p_values)), 0.0
    for place, i in enumerate(order):
        before = max(before, min(1.0, p_values[i] * (len(p_values) - place)))
        found[i] = before
    return list(found)


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_textbook_s(seed: int) -> None:
    p_values = list(np.random.default_rng(seed).uniform(0, 0.2, 7))
    assert list(holm(dict(enumerate(p_values))).values()) == pytest.approx(plain(p_values))


def test_what_was_not_tested_does_not_count() -> None:
    found = holm({"a": 0.02, "b": NAN, "c": 0.03})
    assert found["a"] == 0.04 and found["c"] == 0.04 and np.isnan(found["b"])
    assert holm({}) == {}


def test_of_many_true_nulls_one_in_twenty_families_has_a_clear_one() -> None:
    rng = np.random.default_rng(0)
    wrong = [
        any(map(clear, holm(dict(enumerate(rng.uniform(size=8)))).values())) for _ in range(600)
    ]
    assert 0.02 < np.mean(wrong) < 0.085


@pytest.mark.parametrize(("p", "expected"), [(0.0499, True), (0.05, False), (NAN, False)])
def test_below_five_in_a_hundred_is_clear(p: float, expected: bool) -> None:
    assert clear(p) is expected


def test_the_p_of_a_bootstrap_is_twice_its_share_beyond_zero() -> None:
    differences = np.r_[1.0, np.full(95, 1.0), np.full(4, -1.0)]
    assert p_of_zero(differences) == pytest.approx(2 * 4 / 100)
    assert p_of_zero(-differences) == pytest.approx(2 * 4 / 100)
    assert p_of_zero(np.full(200, 1.0)) == pytest.approx(2 / 200)  # never 0
    assert p_of_zero(np.zeros(50)) == 1.0
    assert np.isnan(p_of_zero(np.full(9, NAN)))


def test_an_interval_of_folds_excludes_zero_where_its_p_is_below_five_in_a_hundred() -> None:
    rng = np.random.default_rng(1)
    for shift in np.linspace(0, 1.5, 25):
        values = rng.normal(shift, 1, 10)
        mean, half = corrected_interval(values, 0.25)
        p = FoldValues(None, {}, 0.25)._p(values)  # type: ignore[arg-type]
        assert (abs(mean) > half) == (p < 0.05)
