"""A p of exchanged labels is what a plain loop counts, and is small where there is nothing no more
often than it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product
from math import comb
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.permutation import _units, check_permutations, exchanged, permuted
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.report.write import write_report

Make = Callable[..., Recipe]


def scored(
    truth: np.ndarray, up: np.ndarray, subject: np.ndarray | None = None, folds: int = 2
) -> Predictions:
    number = np.arange(len(truth))
    subject = number if subject is None else subject
    scores = np.c_[1 - up, up]
    return Predictions(
        "LCM", "diagnosis", "class", ("CN", "PD"), truth, scores, subject, subject % folds, number
    )


def noise(n: int, skill: float, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % 2)
    return scored(truth, 1 / (1 + np.exp(-skill * truth - rng.normal(size=n))))


def test_it_is_a_plain_loop_over_shuffles_within_folds() -> None:
    p = noise(40, 0.7)
    found = permuted(p, "auroc", 100, seed=5)

    def plain(truth: np.ndarray) -> float:
        wins = pairs = 0.0
        for fold in (0, 1):
            here = p.fold == fold
            count = truth[here].sum() * (1 - truth[here]).sum()
            wins += count * roc_auc_score(truth[here], p.scores[here, 1])
            pairs += count
        return wins / pairs

    shuffled = list(exchanged(p.truth, p.fold, 100, 5))
    as_good = sum(plain(truth) >= plain(p.truth) - 1e-12 for truth in shuffled)
    assert found.p == (1 + as_good) / 101
    assert found.value == pytest.approx(plain(p.truth), abs=1e-12)
    ends = np.percentile([plain(truth) for truth in shuffled], [2.5, 97.5])
    np.testing.assert_allclose([found.low, found.high], ends, atol=1e-12)
    for truth in shuffled[:20]:
        for fold in (0, 1):
            assert truth[p.fold == fold].sum() == p.truth[p.fold == fold].sum()


def test_many_shuffles_come_to_all_of_them() -> None:
    """Eight people in two folds: every one of the 36 ways to deal the labels."""
    truth = np.array([1, 1, 0, 0, 0, 1, 1, 0])
    up = np.array([0.9, 0.8, 0.7, 0.1, 0.4, 0.6, 0.2, 0.3])
    p = scored(truth, up)
    deals = [np.array(sorted(set(permutations(truth[p.fold == fold])))) for fold in (0, 1)]
    assert [len(of_fold) for of_fold in deals] == [comb(4, 2)] * 2
    values = []
    for first, second in product(*deals):
        dealt = np.empty(8, int)
        dealt[p.fold == 0], dealt[p.fold == 1] = first, second
        ranked = [roc_auc_score(dealt[p.fold == f], up[p.fold == f]) for f in (0, 1)]
        values.append(np.mean(ranked))  # as many pairs in each fold
    mine = np.mean([roc_auc_score(truth[p.fold == f], up[p.fold == f]) for f in (0, 1)])
    exact = np.mean(np.array(values) >= mine - 1e-12)
    assert permuted(p, "auroc", 4000, 0).p == pytest.approx(exact, abs=0.02)


def test_where_there_is_nothing_p_is_small_as_seldom_as_it_says() -> None:
    found = np.array([permuted(noise(30, 0, seed), "auroc", 39, seed).p for seed in range(150)])
    assert (found <= 0.05).mean() < 0.1
    assert 0.4 < found.mean() < 0.6
    assert permuted(noise(60, 3), "auroc", 99, 0).p == 0.01  # and the smallest where there is much


def test_errors_are_as_good_where_they_are_as_small() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(8, 60, 50)
    near = Predictions(
        "LCM", "age", "scalar", ("age",), truth, truth + rng.normal(0, 3, 50), *[np.arange(50)] * 3
    )
    near = replace(near, fold=np.zeros(50, int))
    assert permuted(near, "mae", 99, 0).p == 0.01
    assert permuted(near, "pearson_r", 99, 0).p == 0.01
    far = replace(near, scores=rng.permutation(near.scores))
    assert permuted(far, "mae", 99, 0).p > 0.05


def test_scans_of_a_person_move_together_and_differing_ones_within_the_person() -> None:
    subject = np.repeat(np.arange(6), [1, 3, 2, 1, 2, 4])
    sick = np.array([0, 1, 0, 1, 1, 0])[subject]
    same = scored(sick, np.linspace(0.1, 0.9, len(subject)), subject)
    unit, stratum, within = _units(same, None)
    assert within == "fold"
    np.testing.assert_array_equal(unit, subject)
    np.testing.assert_array_equal(stratum, subject % 2)
    state = np.arange(len(subject)) % 2
    differs = scored(state, np.linspace(0.1, 0.9, len(subject)), subject)
    unit, stratum, within = _units(differs, None)
    assert within == ""
    np.testing.assert_array_equal(unit, np.arange(len(subject)))
    np.testing.assert_array_equal(stratum, subject)
    found = permuted(differs, "auroc", 9, 0)
    assert (found.people, found.movable) == (6, 4)  # who has one scan has one label


def test_a_score_that_reads_the_site_is_nothing_within_sites() -> None:
    rng = np.random.default_rng(1)
    site = rng.integers(0, 3, 200)
    truth = (rng.random(200) < np.array([0.1, 0.5, 0.9])[site]).astype(int)
    p = scored(truth, np.clip(0.3 + 0.2 * site + rng.normal(0, 0.1, 200), 0, 1))
    assert permuted(p, "auroc", 199, 0).p == 0.005
    within = permuted(p, "auroc", 199, 0, site)
    assert within.within == "fold and site"
    assert within.p > 0.05
    alone = permuted(p, "auroc", 9, 0, np.arange(200))  # nobody has anybody to exchange with
    assert (alone.p, alone.movable) == (1.0, 0)


QUICK = (
    "evaluate.folds=3",
    "evaluate.bootstrap=100",
    "evaluate.stratify=diagnosis",
    "evaluate.baselines=[majority]",
    "evaluate.targets=[diagnosis]",
    "phases=[{name: one, epochs: 1}]",
    "evaluate.permutations=50",
)


def test_the_report_says_what_wasexchanged(recipe: Make) -> None:
    ready = prepare_evaluation(recipe("name=eval", *QUICK, "evaluate.permute_within=site"))
    page = write_report(crossvalidate.evaluate(ready), ready.folder)
    data = json.loads((page.parent / "results.json").read_text())
    found = data["permuted"]
    assert (found["target"], found["metric"], found["permutations"]) == ("diagnosis", "auroc", 50)
    ours = next(m for m in data["targets"][0]["results"]["LCM"] if m["name"] == "auroc")
    assert found["value"] == pytest.approx(ours["value"])
    text = page.read_text()
    assert "exchanged 50 times between people of one fold and site" in text
    assert "Nothing was trained anew" in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("evaluate.protocol=paper", "chooses the epoch by the labels"),
        ("evaluate.group=family", "relatives share more than chance"),
        ("evaluate.permute_within=site", "no evaluated scan names its site"),
    ],
)
def test_labels_that_cannot_beexchanged_are_refused(
    change: str, expected: str, recipe: Make
) -> None:
    sets: Any = SimpleNamespace(site=np.full(4, -1))
    with pytest.raises(InputError, match=expected):
        check_permutations(recipe("evaluate.permutations=50", change), sets, np.arange(4))
    check_permutations(recipe(change), sets, np.arange(4))  # where nobody asks


def test_a_refusal_comes_before_anything_is_trained(recipe: Make) -> None:
    with pytest.raises(InputError, match="chooses the epoch by the labels"):
        prepare_evaluation(
            recipe("name=eval", *QUICK, "evaluate.protocol=paper", "evaluate.stratify=''")
        )
