"""Several divisions into folds: each tests everybody once, with models of other seeds, and the
interval covers both."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation.corrected import by_fold, corrected_interval
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.report.write import write_report

Make = Callable[..., Recipe]
ASKED = (
    "name=eval",
    "evaluate.protocol=repeated",
    "evaluate.folds=2",
    "evaluate.fold_seeds=[1, 2, 3]",
    "evaluate.stratify=diagnosis",
    "data.validation=0.2",
    "phases=[{name: one, epochs: 1}]",
)


def test_the_interval_is_that_of_nadeau_and_bengio() -> None:
    values = np.array([0.1, 0.3, 0.2, np.nan, 0.4])
    mean, half = corrected_interval(values, ratio=0.25)
    known = np.array([0.1, 0.3, 0.2, 0.4])
    assert mean == pytest.approx(0.25)
    error = np.sqrt((1 / 4 + 0.25) * known.var(ddof=1))
    assert half == pytest.approx(stats.t.ppf(0.975, 3) * error)
    assert np.isnan(corrected_interval(np.array([0.1]), 0.25)[1])
    assert np.isnan(corrected_interval(np.array([np.nan]), 0.25)[0])


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """The mean error of guessing 0, over 10 divisions of 40 people into 5 folds: a plain t interval
    over the 50 folds would be right in far fewer than 95 of 100 draws of people."""
    rng = np.random.default_rng(0)
    held, plain = 0, 0
    for _ in range(200):
        error = rng.standard_normal(40)
        values = np.array(
            [part.mean() for _ in range(10) for part in np.split(rng.permutation(error), 5)]
        )
        mean, half = corrected_interval(values, ratio=8 / 32)
        held += abs(mean) < half
        plain += abs(mean) < corrected_interval(values, ratio=0.0)[1]
    assert held >= 184 and plain < 150


def test_values_are_of_each_fold_by_itself_and_scans_are_counted_once() -> None:
    def made(scores: list[float]) -> Predictions:
        return Predictions(
            model="m",
            target="age",
            kind="scalar",
            categories=("age",),
            truth=np.array([1.0, 2, 3, 4] * 2),
            scores=np.array(scores),
            subject=np.array([0, 1, 2, 3] * 2),
            fold=np.array([1, 1, 2, 2, 3, 4, 3, 4]),
            scan=np.array([0, 1, 2, 3] * 2),
        )

    ours, theirs = by_fold(made([1, 2, 3, 5, 1, 2, 3, 4]), 1.0), by_fold(made([2] * 8), 1.0)
    assert ours.values["mae"].tolist() == [0, 0.5, 0, 0]
    mae = ours.metrics()[0]
    assert (mae.n_scans, mae.n_subjects, mae.value) == (4, 4, 0.125)
    difference = ours.minus(theirs)[0]
    assert difference.value == pytest.approx(np.mean([-0.5, -1.0, -1.0, -1.0]))


def test_each_division_tests_everybody_once_with_models_of_its_own_seed(recipe: Make) -> None:
    prepared = prepare_evaluation(recipe(*ASKED, "evaluate.targets=[diagnosis, age]"))
    folds, seeds = prepared.folds, [one.recipe.seed for (one,) in prepared.runs]
    assert len(folds) == 6 and seeds == [0, 0, 100_000, 100_000, 200_000, 200_000]
    divisions = [np.sort(np.concatenate([f.test for f in folds[i : i + 2]])) for i in (0, 2, 4)]
    assert all(np.array_equal(one, np.arange(37)) for one in divisions)
    assert not np.array_equal(folds[0].test, folds[2].test)
    page = write_report(crossvalidate.evaluate(prepared), prepared.folder)
    data = json.loads((page.parent / "results.json").read_text())
    (target,) = (t for t in data["targets"] if t["target"] == "diagnosis")
    assert target["n_scans"] == target["results"]["LCM"][0]["n_scans"] == 37
    assert "Nadeau and Bengio 2003) over 6 folds" in page.read_text()
    assert "which they do not cover" not in page.read_text()
    lines = (page.parent / "predictions.csv").read_text().splitlines()
    assert sum(",LCM," in line and line.startswith("diagnosis") for line in lines) == 3 * 37


def test_a_persons_windows_are_averaged_within_a_division(recipe: Make) -> None:
    asked = (*ASKED, "evaluate.targets=[diagnosis]", "evaluate.unit=person")
    report = crossvalidate.evaluate(prepare_evaluation(recipe(*asked)))
    ours = report.targets[0].predictions[0]
    assert len(ours.scan) == 3 * 37 and len(np.unique(ours.fold)) == 6


def test_without_seeds_there_are_five_and_of_the_others_the_report_says_what_is_not_covered(
    recipe: Make,
) -> None:
    prepared = prepare_evaluation(recipe(*ASKED, "evaluate.fold_seeds=[]"))
    assert len(prepared.folds) == 10 and "142857, 142858" in prepared.plan.sentence
    plain = prepare_evaluation(recipe(*ASKED[2:], "name=plain"))
    assert "which they do not cover" in plain.plan.brackets


@pytest.mark.parametrize(("seeds", "why"), [("[1]", "one division"), ("[1, 1]", "1 stands twice")])
def test_one_seed_or_one_twice_is_refused(seeds: str, why: str, recipe: Make) -> None:
    with pytest.raises(InputError, match=f"fold_seeds.*{why}"):
        prepare_evaluation(recipe(*ASKED, f"evaluate.fold_seeds={seeds}"))
