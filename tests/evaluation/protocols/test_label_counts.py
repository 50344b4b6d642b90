"""The headline with few labelled people: who keeps the label, whose is hidden, and what the curve
says."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable

import numpy as np
import pytest

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate, plain
from lcm_scale.evaluation.few_labels import Drawn, joined, point_of
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.prepare import PreparedEvaluation, prepare_evaluation
from lcm_scale.report.write import write_report

Make = Callable[..., Recipe]
ASKED = (
    "name=eval",
    "evaluate.folds=2",
    "evaluate.bootstrap=100",
    "evaluate.stratify=diagnosis",
    "evaluate.targets=[diagnosis]",
    "evaluate.label_draws=2",
    "data.validation=0.2",
    "phases=[{name: one, epochs: 1}]",
)
COUNTS = "evaluate.label_counts=[10, 14, all]"


def kept_people(prepared: PreparedEvaluation, number: int) -> set[int]:
    """Numbers of the people who keep the label in one of the draws."""
    sets = prepared.opened.sets
    return set(sets.subject[prepared.draws[number][0].kept].tolist())


def test_the_labels_of_all_but_the_drawn_people_are_hidden_of_training_and_validation(
    recipe: Make,
) -> None:
    prepared = prepare_evaluation(recipe(*ASKED, COUNTS))
    sets, question = prepared.opened.sets, prepared.questions[0]
    assert [(d.count, d.draw, d.fold) for d, _ in prepared.draws] == [
        (count, draw, fold) for count in (10, 14) for draw in (0, 1) for fold in (0, 1)
    ]
    for number, (drawn, run) in enumerate(prepared.draws):
        labels = run.opened.sets.labels
        known = np.isfinite(question.truth(labels))
        assert set(sets.subject[known].tolist()) == kept_people(prepared, number)
        assert len(kept_people(prepared, number)) == drawn.count
        fold, (whole,) = prepared.folds[drawn.fold], prepared.runs[drawn.fold]
        assert not known[prepared.scans[fold.test]].any()
        assert np.array_equal(run.train, whole.train)
        assert np.array_equal(run.validation, whole.validation)
        assert 0 < known[run.validation].sum() < known.sum()
        others = [c for c in range(labels.shape[1]) if c != question.column]
        np.testing.assert_array_equal(labels[:, others], sets.labels[:, others])
        counts = np.bincount(question.truth(labels)[known].astype(int))
        assert counts.min() >= 4 and np.ptp(counts) <= 4  # of 37: by class, in proportion
    assert len({run.recipe.seed for _, run in prepared.draws}) == 2
    assert kept_people(prepared, 0) <= kept_people(prepared, 4)  # fewer within more
    assert kept_people(prepared, 0) != kept_people(prepared, 2)  # another draw


def test_the_curve_stands_in_the_report_with_baselines_on_the_same_people(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare_evaluation(recipe(*ASKED, COUNTS))
    calls, real = [], plain.fit_predict

    def watched(name, edges, truth, subject, *rest):
        calls.append((name, set(subject.tolist())))
        return real(name, edges, truth, subject, *rest)

    monkeypatch.setattr(plain, "fit_predict", watched)
    report = crossvalidate.evaluate(prepared)
    few = [people for name, people in calls if name == "tangent"][2:]
    assert few == [kept_people(prepared, number) for number in range(8)]
    assert [(p.label, p.draws) for p in report.labels] == [("10", 2), ("14", 2), ("all", 1)]
    page = write_report(report, prepared.folder)
    text = page.read_text()
    assert "Diagnosis with few labels" in text and "14, LCM minus it" in text
    assert (page.parent / "figures" / "label-curve.png").is_file()
    data = json.loads((page.parent / "results.json").read_text())
    assert data["labels"][0]["count"] == 10
    rows = list(csv.DictReader((page.parent / "labels.csv").open()))
    assert {row["labels"] for row in rows} == {"10", "14", "all"}
    assert {row["minus"] for row in rows} == {"", "majority", "linear", "tangent"}
    (whole,) = report.targets
    assert report.labels[-1].results == whole.results
    # More counts may be asked later; those that are there are not trained again.
    prepare_evaluation(recipe(*ASKED, "evaluate.label_counts=[10, 12]"))


def test_seven_labels_are_enough_for_people_memory_and_baselines(recipe: Make) -> None:
    """Of five training people three are of one class: fewer than the inner folds of more people."""
    asked = (*ASKED, "evaluate.label_counts=[7]", "model.people_memory=linear")
    report = crossvalidate.evaluate(prepare_evaluation(recipe(*asked)))
    (point,) = report.labels
    assert set(point.results) >= {"LCM", "people memory", "decoder", "linear", "tangent"}
    assert np.isfinite(point.metric("people memory", "auroc").value)


def drawn(values: list[list[float]]) -> Drawn:
    """Predictions of a number by draw, of people whose truth is 0."""
    parts = [
        Predictions(
            model="m",
            target="age",
            kind="scalar",
            categories=("age",),
            truth=np.zeros(len(scores)),
            scores=np.array(scores),
            subject=np.arange(len(scores)),
            fold=np.ones(len(scores), np.int64),
            scan=np.arange(len(scores)),
        )
        for scores in values
    ]
    return joined(parts, folds=1)


def test_the_interval_covers_the_draws_and_differences_are_paired() -> None:
    """Everybody is alike, so that the draws alone make it wide: means of three of 1, 2, 3."""
    ours, theirs = drawn([[1.0] * 30, [2.0] * 30, [3.0] * 30]), drawn([[2.0] * 30] * 3)
    point = point_of({"m": ours, "b": theirs}, "m", 10, 400, 0)
    error = point.metric("m", "mae")
    assert error.value == 2 and (error.low, error.high) == (1, 3)
    assert (error.n_scans, point.draws) == (30, 3)
    assert point.metric("b", "mae").low == point.metric("b", "mae").high == 2
    assert point.difference("b", "mae").value == 0 and point.difference("b", "mae").high == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["evaluate.label_counts=[40]"], r"label_counts=40: fold 1 has 1\d training people"),
        (["evaluate.label_counts=[2]"], "label_counts=2: fold 1, draw 1"),
        ([COUNTS, "evaluate.harmonise=combat"], "label_counts and evaluate.harmonise exclude"),
        ([COUNTS, "evaluate.protocol=repeated"], "not under evaluate.protocol=repeated"),
    ],
)
def test_what_cannot_be_drawn_is_told_before_anything_is_trained(
    changes: list[str], expected: str, recipe: Make
) -> None:
    with pytest.raises(InputError, match=expected):
        prepare_evaluation(recipe(*ASKED, *changes))
