"""A promise is kept among strangers, and is made from people who are not held out."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation import conformal as room
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation.conformal import widened
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.evaluation.validation_people import least_people, require_validation
from lcm_scale.report.write import write_report
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 1 / 3])
def test_the_promise_is_kept_exactly_as_often_as_it_says(alpha: float) -> None:
    """Of n + 1 people in random order the last one's error is below that of the others in exactly
    ceil((n + 1)(1 - alpha)) of the n + 1 places that it can take."""
    for n in range(1, 60):
        errors = np.random.default_rng(n).random(n + 1)
        kept = [errors[i] <= widened(np.delete(errors, i), alpha) for i in range(n + 1)]
        if n < least_people(alpha):
            assert all(kept) and widened(errors[1:], alpha) == np.inf
        else:
            assert np.isfinite(widened(errors[1:], alpha))
            assert sum(kept) == np.ceil((n + 1) * (1 - alpha) - 1e-9)
            assert sum(kept) / (n + 1) >= 1 - alpha - 1e-9


def test_how_many_people_a_promise_takes() -> None:
    assert [least_people(alpha) for alpha in (0.5, 0.2, 0.1, 0.05, 0.3)] == [1, 4, 9, 19, 3]


QUICK = (
    "evaluate.folds=2",
    "data.validation=0.6",
    "evaluate.bootstrap=50",
    "evaluate.stratify=diagnosis",
    "evaluate.baselines=[majority]",
    "evaluate.targets=[diagnosis, age]",
    "phases=[{name: one, epochs: 1}]",
)


@pytest.mark.parametrize("calibration", ["none", "temperature"])
def test_sets_and_intervals_are_the_plain_ones(calibration: str, recipe: Make) -> None:
    made = recipe(
        "name=eval", *QUICK, "evaluate.conformal=0.3", f"evaluate.calibration={calibration}"
    )
    ready = prepare_evaluation(made)
    page = write_report(crossvalidate.evaluate(ready), ready.folder)
    rows = list(csv.DictReader((page.parent / "conformal.csv").open()))
    sets, (diagnosis, age) = ready.opened.sets, ready.questions
    predictor = crossvalidate.Predictor(sets, ready.opened.source, ready.recipe)
    for number, fold in enumerate(ready.folds):
        model = checkpoints.load(ready.folder / "folds" / f"fold-{number + 1}")
        aside, held = ready.scans[fold.validation], ready.scans[fold.test]
        both = [predictor.answers(model, s, [diagnosis.asked, age.asked]) for s in (aside, held)]
        for place, question in enumerate((diagnosis, age)):
            truth = question.truth(sets.labels[aside])
            known = np.isfinite(truth)
            mine, theirs = both[0][place][known], both[1][place]
            if question is diagnosis:
                wrong = 1 - mine[np.arange(len(mine)), truth[known].astype(int)]
            else:
                wrong = np.abs(mine - truth[known])
            limit = np.sort(wrong)[int(np.ceil((len(wrong) + 1) * 0.7)) - 1]
            own = {int(r["scan"]): r for r in rows if r["target"] == question.target.name}
            for scan, answer in zip(held, theirs, strict=True):
                if scan not in own:
                    assert np.isnan(question.truth(sets.labels[[scan]]))[0]
                elif question is diagnosis:
                    inside = [
                        name
                        for name, p in zip(question.categories, answer, strict=True)
                        if 1 - p <= limit
                    ]
                    assert own[scan]["set"] == ";".join(inside)
                    assert own[scan]["covered"] == str(own[scan]["truth"] in inside)
                else:
                    ends = [float(own[scan]["low"]), float(own[scan]["high"])]
                    assert ends == pytest.approx([answer - limit, answer + limit], rel=1e-5)
    said = json.loads((page.parent / "results.json").read_text())["promises"]
    for promise in said:
        own_rows = [r for r in rows if r["target"] == promise["target"]]
        share = np.mean([r["covered"] == "True" for r in own_rows])
        assert promise["coverage"]["value"] == pytest.approx(share)
        assert promise["promise"] == pytest.approx(0.7)
    for name, found in said[0]["by_class"].items():
        share = np.mean([r["covered"] == "True" for r in rows if r["truth"] == name])
        assert found["value"] == pytest.approx(share)
    assert "Answers with a promise of 70 %" in page.read_text()


def test_people_memory_is_as_wrong_about_them_as_about_strangers(recipe: Make) -> None:
    """The final memory has the people who choose the epoch: a promise made from its errors about
    them would be too small."""
    asked = (*QUICK, "model.people_memory=linear", "evaluate.conformal=0.3")
    ready = prepare_evaluation(recipe("name=memory", *asked))
    report = crossvalidate.evaluate(ready)
    age = next(promise for promise in report.promises if promise.target == "age")
    assert age.low is not None and age.high is not None
    question, fold, sets = ready.questions[1], ready.folds[0], ready.opened.sets
    final = ready.folder / "folds" / "fold-1" / "checkpoints" / checkpoints.FINAL
    predictor = crossvalidate.Predictor(sets, ready.opened.source, ready.recipe)
    aside = ready.scans[fold.validation]
    truth = question.truth(sets.labels[aside])
    known = np.isfinite(truth)

    def limit(name: str) -> float:
        model = checkpoints.load(final.with_name(name))
        (answer,) = predictor.answers(model, aside, [question.asked])
        return widened(np.abs(answer - truth)[known], 0.3)

    rows = age.predictions.fold == 1
    half = (age.high - age.low)[rows] / 2
    np.testing.assert_allclose(half, limit(checkpoints.UNSEEN), rtol=1e-5)
    assert limit(checkpoints.FINAL) != pytest.approx(limit(checkpoints.UNSEEN), rel=1e-3)


def test_who_has_several_scans_counts_once(recipe: Make) -> None:
    """Everybody's scans twice: the promise is made from as many people as before."""
    ready = prepare_evaluation(recipe("name=eval", *QUICK, "evaluate.conformal=0.3"))
    rng = np.random.default_rng(0)
    question = ready.questions[0]

    def answers(of: str) -> list[list[np.ndarray]]:
        sizes = [len(getattr(fold, of)) for fold in ready.folds]
        up = [rng.random(size) for size in sizes]
        return [[np.c_[1 - u, u], u] for u in up]

    own = [dict(zip(("LCM",), each[:1], strict=True)) for each in answers("test")]
    given = [{"LCM": each[0]} for each in answers("validation")]
    once = room._promise(ready, question, own, given, "LCM", 9)
    twice_folds = tuple(
        replace(fold, validation=np.repeat(fold.validation, 2)) for fold in ready.folds
    )
    twice = replace(ready, plan=replace(ready.plan, folds=twice_folds))
    doubled = [{"LCM": np.repeat(each["LCM"], 2, axis=0)} for each in given]
    again = room._promise(twice, question, own, doubled, "LCM", 9)
    np.testing.assert_array_equal(once.held, again.held)


def test_too_few_people_for_the_promise_are_refused_before_anything_is_trained(
    recipe: Make,
) -> None:
    with pytest.raises(
        InputError, match=r"conformal=0.05: target diagnosis, fold 1: \d+ people .* takes 19"
    ):
        prepare_evaluation(recipe("name=eval", *QUICK, "evaluate.conformal=0.05"))
    ready = prepare_evaluation(recipe("name=eval", *QUICK))
    with pytest.raises(InputError, match="nobody is at hand"):
        require_validation(ready.recipe, ready.plan, True, "evaluate.conformal=0.3")


def test_another_target_with_too_few_is_left_out_and_named(recipe: Make) -> None:
    ready = prepare_evaluation(recipe("name=eval", *QUICK, "evaluate.conformal=0.3"))
    labels = ready.opened.sets.labels.copy()
    labels[:, ready.questions[1].column] = np.nan
    few = replace(
        ready, opened=replace(ready.opened, sets=replace(ready.opened.sets, labels=labels))
    )
    (note,) = room.conformal_notes(few)
    assert "age has no sets or intervals with a promise of 70 %" in note and "takes 3" in note
    assert list(room.conformal_notes(ready)) == []
