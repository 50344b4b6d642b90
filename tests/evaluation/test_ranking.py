"""The quick sums over sorted scans equal the definitions, scan by scan and pair by pair."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lcm_scale.evaluation import ranking
from lcm_scale.evaluation.ranking import Ranking, as_rows

Plain = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], float]


def pairs(score: np.ndarray, positive: np.ndarray, fold: np.ndarray, weight: np.ndarray) -> float:
    """Rightly ordered pairs over all pairs of one fold."""
    right = every = 0.0
    for i in np.flatnonzero(positive):
        for j in np.flatnonzero(~positive & (fold == fold[i])):
            every += weight[i] * weight[j]
            right += weight[i] * weight[j] * ((score[j] < score[i]) + (score[j] == score[i]) / 2)
    return right / every if every else np.nan


def precision(
    score: np.ndarray, positive: np.ndarray, fold: np.ndarray, weight: np.ndarray
) -> float:
    """Precision at each positive scan's score, averaged over them."""
    found = 0.0
    for i in np.flatnonzero(positive & (weight > 0)):
        called = weight * ((fold == fold[i]) & (score >= score[i]))
        found += weight[i] * called[positive].sum() / called.sum()
    return found / weight[positive].sum() if weight[positive].sum() else np.nan


def found(score: np.ndarray, positive: np.ndarray, fold: np.ndarray, weight: np.ndarray) -> float:
    """Positive scans at whose score a tenth of the fold's others is called at most."""
    hits = every = 0.0
    for i in np.flatnonzero(positive):
        others = weight * (~positive & (fold == fold[i]))
        if others.sum():
            every += weight[i]
            hits += weight[i] * (others[score >= score[i]].sum() <= 0.1 * others.sum() + 1e-9)
    return hits / every if every else np.nan


METHODS: dict[str, tuple[Callable[[Ranking], np.ndarray], Plain]] = {
    "auroc": (Ranking.area_under_roc, pairs),
    "auprc": (Ranking.average_precision, precision),
    "sensitivity": (Ranking.sensitivity, found),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("digits", [0, 6], ids=["ties", "no ties"])
@pytest.mark.parametrize("resamples", [3, ranking.NARROW + 1], ids=["few", "many"])
@pytest.mark.parametrize("positives", [0, 1, 20, 60])
def test_equals_the_definition(name: str, digits: int, resamples: int, positives: int) -> None:
    rng = np.random.default_rng(positives)
    positive = np.arange(60) < positives
    score = np.round(rng.normal(size=60) + positive, digits)
    fold = rng.integers(0, 4, 60)
    fold[-1] = 9  # a fold of one scan
    weights = rng.integers(0, 4, (resamples, 60)).astype(np.float64)
    weights[1] = 0  # nobody is drawn
    quick, plain = METHODS[name]
    answer = quick(Ranking(score, positive, fold, as_rows(weights)))
    assert answer.dtype == np.float64 and answer.shape == (resamples,)
    expected = [plain(score, positive, fold, row) for row in weights]
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", METHODS)
def test_single_precision_is_taken_where_it_gives_the_same_numbers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(2000) < 0.4
    score, fold = rng.normal(size=2000) + positive, rng.integers(0, 5, 2000)
    weights = rng.multinomial(2000, np.full(2000, 1 / 2000), 150).astype(np.float64)
    rows = as_rows(weights)
    assert rows.dtype == np.float32
    single = METHODS[name][0](Ranking(score, positive, fold, rows))
    monkeypatch.setattr(ranking, "EXACT", 0.0)
    rows = as_rows(weights)
    assert rows.dtype == np.float64
    double = METHODS[name][0](Ranking(score, positive, fold, rows))
    np.testing.assert_array_equal(single, double)


def test_many_scans_are_summed_in_double_precision() -> None:
    assert as_rows(np.ones((1, 4097))).dtype == np.float64
