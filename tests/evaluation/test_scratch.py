"""Beside a pretrained model: the same without pretraining, and what the simulator knows."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation.metrics import METRICS
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.evaluation.results import CEILING, Report, TargetResult
from lcm_scale.report.verdict import verdict
from lcm_scale.report.wording import better
from lcm_scale.report.write import write_report
from lcm_scale.training import fit

Make = Callable[..., Recipe]
COLUMNS = (
    "context=[{name: ceiling diagnosis Autism, column: CEILING_DIAGNOSIS}, "
    "{name: ceiling age, column: CEILING_AGE}]"
)
PEOPLE = ("simulation.subjects=36", "simulation.first_subject=80001", "simulation.separation=3")
ASKED = (
    "evaluate.folds=2",
    "evaluate.bootstrap=100",
    "evaluate.stratify=diagnosis",
    "evaluate.targets=[diagnosis, age, sex]",
    "data.validation=0.2",
    "phases=[{name: one, epochs: 2, pseudo_labels: true}]",
    "model.people_memory=linear",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("separated")


@pytest.fixture
def asked(recipe: Make, make_set, folder: Path) -> Callable[..., Recipe]:
    """An evaluation of simulated people whose ceilings their set has (`told`) or not (`bare`)."""
    if not (folder / "shards").exists():
        make_set(folder, "told", [*PEOPLE, COLUMNS])
        make_set(folder, "bare", [*PEOPLE])
    here = f"data.shards_dir={folder}/shards"
    return lambda *keys: recipe("name=eval", here, "data=told", *ASKED, *keys)


@pytest.fixture
def start(recipe: Make) -> str:
    return f"init_from={fit.pretrain(recipe('name=pre', 'model.people_memory=linear'))}"


def evaluated(recipe: Recipe) -> Report:
    return crossvalidate.evaluate(prepare_evaluation(recipe))


def target_of(report: Report, name: str = "diagnosis") -> TargetResult:
    return next(t for t in report.targets if t.target == name)


def scores(t: TargetResult, model: str) -> np.ndarray:
    return next(p.scores for p in t.predictions if p.model == model)


def test_scratch_is_what_the_recipe_without_init_from_gives(
    asked, start: str, tmp_path: Path
) -> None:
    both = "evaluate.baselines=[majority, linear, scratch]"
    pretrained = evaluated(asked(start, both, "evaluate.repeats=2"))
    alone = evaluated(
        asked(
            f"runs_dir={tmp_path}/other",
            "evaluate.baselines=[majority]",
            "evaluate.repeats=2",
            "phases=[{name: one, epochs: 2}]",
        )
    )
    for t in pretrained.targets:
        other = target_of(alone, t.target)
        assert np.array_equal(scores(t, "scratch"), scores(other, "LCM"))
        assert not np.array_equal(scores(t, "scratch"), scores(t, "LCM"))
        assert "scratch" in t.differences and t.best_baseline in ("majority", "linear")
    assert "pretrained minus not" in verdict(target_of(pretrained)).detail


def test_a_ceiling_stands_beside_and_counts_as_nothing(asked, start: str, tmp_path: Path) -> None:
    report = evaluated(asked(start, "evaluate.baselines=[majority, linear]"))
    for name in ("diagnosis", "age"):
        t = target_of(report, name)
        assert CEILING in t.results and CEILING not in t.differences and t.model == "LCM"
        assert t.best_baseline != CEILING
    assert CEILING not in target_of(report, "sex").results  # the set has no such column
    t = target_of(report)
    accuracy = t.metric(CEILING, "accuracy").value
    assert accuracy > max(t.metric(m, "accuracy").value for m in ("LCM", "linear", "majority"))
    assert "simulator's own posterior" in verdict(t).detail
    for metric, kind in METRICS["class"].items():
        assert better(t.results, kind, metric) != CEILING
    page = write_report(report, tmp_path / "page").read_text()
    assert "Ceiling (no baseline)" in page and "takes no ●" in page
    rows = list(csv.DictReader((tmp_path / "page" / "results.csv").open()))
    assert CEILING in {row["model"] for row in rows}
    assert CEILING not in {row["minus"] for row in rows}


def test_no_model_and_no_baseline_sees_a_ceiling(asked, start: str, tmp_path: Path) -> None:
    known = "evaluate.baselines=[tangent, scratch]"
    told = evaluated(asked(start, known))
    bare = evaluated(asked(start, known, "data=bare", f"runs_dir={tmp_path}/other"))
    for t in told.targets:
        other = target_of(bare, t.target)
        assert set(t.results) - {CEILING} == set(other.results)
        for model in other.results:
            assert np.array_equal(scores(t, model), scores(other, model)), model
    with pytest.raises(InputError, match="nothing is known as 'ceiling age'"):
        prepare_evaluation(
            asked("name=peek", "model.context=[ceiling age]", "phases=[{epochs: 1}]")
        )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ((), "nothing is pretrained here"),
        (("init_from=runs/any", "evaluate.protocol=paper"), "not under evaluate.protocol=paper"),
        (("init_from=runs/any", "evaluate.calibration=isotonic"), "not with evaluate.calibration"),
    ],
)
def test_where_scratch_means_nothing_it_is_refused(asked, keys: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare_evaluation(asked("evaluate.baselines=[linear, scratch]", *keys))
