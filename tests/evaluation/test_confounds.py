"""What is told without any matrix is fitted on training people alone, and a score that a covariate
carries goes away among people who are alike in it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation import confounds as room
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation.confounds import (
    TOGETHER,
    Covariate,
    class_answers,
    columns,
    confounds,
    covariates,
    strata,
    values,
)
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.prepare import PreparedEvaluation, prepare_evaluation
from lcm_scale.report.write import write_report

N = 240
NUMBER = np.arange(N)
QUICK = (
    "evaluate.folds=3",
    "evaluate.bootstrap=100",
    "evaluate.stratify=diagnosis",
    "evaluate.baselines=[majority]",
    "evaluate.targets=[diagnosis, age]",
    "phases=[{name: one, epochs: 1}]",
)


def test_columns_know_nothing_of_held_out_scans() -> None:
    age = np.array([10, 20, 30, np.nan, 40, np.nan, 1000.0])
    site = np.array([0, 1, 1, 0, np.nan, 2, 1.0])
    group = [Covariate("age", age, False), Covariate("site", site, True)]
    train, test = np.arange(5), np.array([5, 6])
    x, x_test = columns(group, train, test)
    z = (np.array([10, 20, 30, 25, 40]) - 25) / np.std([10, 20, 30, 40])
    np.testing.assert_allclose(x[:, 0], z)  # the unknown one stands at the training mean
    np.testing.assert_array_equal(x[:, 1], [0, 0, 0, 1, 0])  # age not known
    np.testing.assert_array_equal(x[:, 2:], [[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(x_test[0], [0, 1, 0, 0, 0])  # a site that training lacks
    changed = [replace(group[0], values=np.r_[age[:5], -3, 7]), group[1]]
    np.testing.assert_array_equal(columns(changed, train, test)[0], x)


def test_classes_and_values_are_scikit_learns_at_the_chosen_strength(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    x, x_test = rng.normal(size=(60, 3)), rng.normal(size=(9, 3))
    codes = rng.integers(0, 3, 60) * 2  # of five classes, so that two have no training scan
    monkeypatch.setattr(room, "COSTS", [0.5])
    monkeypatch.setattr(room, "ALPHAS", [2.0])
    found = class_answers(x, codes, np.arange(60), x_test, 5, seed=0)
    plain = LogisticRegression(C=0.5).fit(x, codes).predict_proba(x_test)
    np.testing.assert_allclose(found[:, [0, 2, 4]], plain, atol=1e-6)
    assert (found[:, [1, 3]] == 0).all()
    truth = x @ [1.0, -2, 0.5]
    expected = Ridge(2.0).fit(x, truth).predict(x_test)
    np.testing.assert_allclose(values(x, truth, np.arange(60), x_test, 0), expected)


def test_a_column_of_noise_is_shrunk_and_one_that_tells_is_not() -> None:
    rng = np.random.default_rng(1)
    codes = np.arange(N) % 2
    noise, told = rng.normal(size=(N, 30)), codes[:, None] + rng.normal(0, 0.3, (N, 1))
    flat = class_answers(noise[:80], codes[:80], NUMBER[:80], noise[80:], 2, 0)
    sharp = class_answers(told[:80], codes[:80], NUMBER[:80], told[80:], 2, 0)
    assert flat[:, 1].std() < 0.15 < 0.3 < sharp[:, 1].std()


def test_one_training_person_or_class_is_answered_by_its_frequency() -> None:
    x = np.ones((3, 1))
    one = class_answers(x, np.array([1, 1, 1]), np.zeros(3), x, 2, 0)
    np.testing.assert_array_equal(one, [[0, 1]] * 3)
    np.testing.assert_allclose(values(x, np.array([1.0, 2, 3]), np.zeros(3), x, 0), 2)
    np.testing.assert_allclose(values(x[:, :0], np.array([1.0, 2, 3]), np.zeros(3), x, 0), 2)


def test_tertiles_and_categories() -> None:
    number = Covariate("age", np.array([1, 2, 3, 4, 5, 6, np.nan]), False)
    np.testing.assert_array_equal(strata(number, np.arange(7)), [0, 0, 1, 1, 2, 2, -1])
    same = Covariate("length", np.full(4, 160.0), False)
    assert len(np.unique(strata(same, np.arange(4)))) == 1
    unknown = Covariate("motion", np.full(4, np.nan), False)
    assert (strata(unknown, np.arange(4)) == -1).all()


def prepared(bootstrap: int = 200) -> Any:
    """what `within_strata` asks of a prepared evaluation."""
    config = SimpleNamespace(bootstrap=bootstrap, seed=0)
    sets = SimpleNamespace(groups=None)
    return SimpleNamespace(
        recipe=SimpleNamespace(evaluate=config), opened=SimpleNamespace(sets=sets)
    )


def test_a_score_that_the_site_carries_is_gone_within_sites() -> None:
    rng = np.random.default_rng(2)
    site = rng.integers(0, 4, N)
    truth = (rng.random(N) < np.array([0.1, 0.3, 0.7, 0.9])[site]).astype(int)
    up = 0.2 + 0.2 * site + rng.normal(0, 0.05, N)  # reads the site, and nothing else
    p = Predictions(
        "LCM",
        "diagnosis",
        "class",
        ("CN", "PD"),
        truth,
        np.c_[1 - up, up],
        NUMBER,
        NUMBER % 3,
        NUMBER,
    )
    known = np.where(rng.random(N) < 0.1, np.nan, site)
    found = room.within_strata(prepared(), p, Covariate("site", known, True))
    # The plain formulation: every pair of one fold and one site, by its share of all such pairs.
    wins = pairs = 0.0
    for fold in range(3):
        for number in range(4):
            here = (p.fold == fold) & (known == number)
            ups = truth[here].sum()
            count = ups * (here.sum() - ups)
            if count:
                wins += roc_auc_score(truth[here], up[here]) * count
                pairs += count
    assert found.strata == 4
    assert found.within.value == pytest.approx(wins / pairs, abs=1e-12)
    assert found.within.n_scans == np.isfinite(known).sum()
    assert found.whole.value > 0.75 and 0.4 < found.within.value < 0.6
    assert found.change.high < 0


@pytest.fixture
def ready(recipe: Callable[..., Recipe]) -> PreparedEvaluation:
    return prepare_evaluation(
        recipe("name=eval", *QUICK, "evaluate.confounds=[site, motion, length, age, sex]")
    )


def test_each_target_is_asked_of_what_is_not_itself_and_stands_in_files(
    ready: PreparedEvaluation,
) -> None:
    report = crossvalidate.evaluate(ready)
    diagnosis, age = report.confounds
    assert [t.by for t in diagnosis.told] == ["site", "motion", "length", "age", "sex", TOGETHER]
    assert [t.by for t in age.told] == ["site", "motion", "length", "sex", TOGETHER]
    length = diagnosis.told[2]
    assert length.why == "the same for everybody" and not length.metrics
    sets = ready.opened.sets
    unknown = np.isnan(covariates(sets, ["age"])[0].values).sum()
    assert diagnosis.told[3].unknown == unknown > 0
    assert diagnosis.told[0].metric("auroc").n_subjects == report.targets[0].n_subjects
    page = write_report(report, ready.folder)
    rows = list(csv.DictReader((page.parent / "confounds.csv").open()))
    assert {row["covariate"] for row in rows if row["target"] == "age"} == {t.by for t in age.told}
    assert "Without any matrix" in page.read_text()
    write_report(replace(report, confounds=()), ready.folder)
    assert not (page.parent / "confounds.csv").exists()
    assert "Without any matrix" not in page.read_text()
    plan = replace(ready.plan, without_baselines=frozenset({"diagnosis"}))
    diagnosis, age = confounds(replace(ready, plan=plan), report.targets)
    whys = {told.by: told.why for told in diagnosis.told}
    assert whys["site"] == whys[TOGETHER] == "nobody at hand to train on"
    assert age.told[0].metrics


def test_labels_of_held_out_people_move_no_answer_of_theirs(
    ready: PreparedEvaluation,
) -> None:
    question, group = ready.questions[0], covariates(ready.opened.sets)
    fold = ready.folds[0]
    truth = question.truth(ready.opened.sets.labels[ready.scans])
    train = fold.fitted[np.isfinite(truth[fold.fitted])]

    def answers(sets: ShardSets) -> np.ndarray:
        other = replace(ready, opened=replace(ready.opened, sets=sets))
        return room._answers(other, question, group, train, fold.test)

    labels = ready.opened.sets.labels.copy()
    labels[ready.scans[fold.test]] = 1
    changed = answers(replace(ready.opened.sets, labels=labels))
    np.testing.assert_array_equal(answers(ready.opened.sets), changed)


def test_motion_and_length_come_from_every_set_in_order(recipe: Callable[..., Recipe]) -> None:
    ready = prepare_evaluation(recipe("name=two", "data=[second, first]", *QUICK))
    motion, length = covariates(ready.opened.sets, ["motion", "length"])
    assert len(motion.values) == len(length.values) == ready.opened.sets.n_scans
    assert (length.values == 40).all()
