"""Probabilities are calibrated by people who are not held out, and people stay ranked as they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation import calibrate as room
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation.calibrate import UNCALIBRATED, calibrated, isotonic, temperature
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.report.write import write_report
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]
N = 4000


def boasting(factor: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose logits are so many times too large, and classes."""
    rng = np.random.default_rng(0)
    logit = rng.normal(size=N)
    truth = (rng.random(N) < expit(logit)).astype(np.int64)
    up = expit(factor * logit)
    return np.c_[1 - up, up], truth


def test_the_temperature_is_the_likeliest_of_a_grid() -> None:
    scores, truth = boasting()
    found = temperature(scores, truth)(scores)
    grid = np.linspace(0.5, 8, 751)
    logits = np.log(scores)
    losses = [-log_softmax(logits / t, 1)[np.arange(N), truth].mean() for t in grid]
    best = grid[int(np.argmin(losses))]
    assert best == pytest.approx(3, abs=0.3)
    np.testing.assert_allclose(found, softmax(logits / best, axis=1), atol=2e-3)


def test_isotonic_is_a_plain_pooling_of_neighbours() -> None:
    """Pool adjacent violators, written out."""
    rng = np.random.default_rng(1)
    up = rng.permutation(np.linspace(0.01, 0.99, 80))
    truth = (rng.random(80) < up**2).astype(np.int64)
    order = np.argsort(up)
    blocks: list[list[float]] = []
    for value in truth[order]:
        blocks.append([float(value), 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    steps = np.concatenate([[mean] * int(count) for mean, count in blocks])
    found = isotonic(np.c_[1 - up, up], truth)(np.c_[1 - up, up])[:, 1]
    np.testing.assert_allclose(found[order], np.clip(steps, 1 / 82, 81 / 82), atol=1e-12)
    assert (np.diff(found[order]) >= -1e-15).all()


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_a_boast_is_taken_back_on_others(kind: str) -> None:
    scores, truth = boasting()
    half = N // 2
    found = room.MAPS[kind](scores[:half], truth[:half])(scores[half:])

    def loss(p: np.ndarray) -> float:
        return -float(np.log(p[np.arange(half), truth[half:]]).mean())

    assert loss(found) < loss(scores[half:]) - 0.1
    ends = room.MAPS[kind](scores[:half], truth[:half])(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert np.isfinite(np.log(ends[[0, 1], [0, 1]])).all() and (ends[[0, 1], [1, 0]] >= 0).all()


QUICK = (
    "evaluate.folds=2",
    "data.validation=0.6",
    "evaluate.bootstrap=50",
    "evaluate.stratify=diagnosis",
    "evaluate.baselines=[majority]",
    "evaluate.targets=[diagnosis, age]",
    "phases=[{name: one, epochs: 2}]",
)


def test_the_report_has_both_and_the_ranks_stay(recipe: Make) -> None:
    ready = prepare_evaluation(recipe("name=eval", *QUICK, "evaluate.calibration=temperature"))
    report = crossvalidate.evaluate(ready)
    diagnosis, age = report.targets
    assert UNCALIBRATED in diagnosis.results and UNCALIBRATED not in age.results
    assert diagnosis.best_baseline == "majority"
    by_model = {p.model: p for p in diagnosis.predictions}
    ours, plain = by_model["LCM"].scores, by_model[UNCALIBRATED].scores
    assert np.abs(ours - plain).max() > 1e-3
    for name in ("auroc", "accuracy"):
        change = diagnosis.difference(UNCALIBRATED, name)
        assert (change.value, change.low, change.high) == (0, 0, 0)
    page = write_report(report, ready.folder)
    text = page.read_text()
    assert "diagnosis temperature in 2 of 2 folds" in text
    assert "LCM, not calibrated alone" not in text  # it is no part in the verdict
    names = [t["target"] for t in json.loads((page.parent / "results.json").read_text())["targets"]]
    assert names == ["diagnosis", "age"]
    # Everything of the held-out people changed, the fold's model as it is: the map is the same.
    model = checkpoints.load(ready.folder / "folds" / "fold-1")
    fold = ready.folds[0]
    held, sets = ready.scans[fold.test], ready.opened.sets
    labels = sets.labels.copy()
    labels[held] = labels[held][::-1]
    other = replace(ready, opened=replace(ready.opened, sets=replace(sets, labels=labels)))
    predictor = crossvalidate.Predictor(sets, ready.opened.source, ready.recipe)
    asked = [question.asked for question in ready.questions]
    watched = predictor.answers(model, ready.scans[fold.validation], asked)
    probe = np.linspace(0.01, 0.99, 99)
    given = [{"LCM": np.c_[1 - probe, probe]}, {"LCM": probe}]
    maps = [calibrated(each, 0, given, watched, "LCM")[0]["LCM"] for each in (ready, other)]
    np.testing.assert_array_equal(*maps)
    assert np.abs(maps[0] - given[0]["LCM"]).max() > 1e-3
    # and it is the one that the report's answers went through
    rows = by_model[UNCALIBRATED].fold == 1
    again = calibrated(ready, 0, [{"LCM": plain[rows]}, {"LCM": probe}], watched, "LCM")
    np.testing.assert_array_equal(again[0]["LCM"], ours[rows])


def test_people_memory_answers_about_them_as_about_strangers(recipe: Make) -> None:
    """The final memory has the people who choose the epoch, and so is sure of them."""
    asked = (*QUICK, "model.people_memory=linear", "evaluate.calibration=temperature")
    ready = prepare_evaluation(recipe("name=memory", *asked))
    report = crossvalidate.evaluate(ready)
    final = ready.folder / "folds" / "fold-1" / "checkpoints" / checkpoints.FINAL
    unseen = checkpoints.load(final.with_name(checkpoints.UNSEEN))
    sets = ready.opened.sets
    predictor = crossvalidate.Predictor(sets, ready.opened.source, ready.recipe)
    names = [question.asked for question in ready.questions]
    watched = predictor.answers(unseen, ready.scans[ready.folds[0].validation], names)
    by_model = {p.model: p for p in report.targets[0].predictions}
    rows = by_model[UNCALIBRATED].fold == 1
    given = [{"LCM": by_model[UNCALIBRATED].scores[rows]}, {"LCM": np.zeros(1)}]
    again = calibrated(ready, 0, given, watched, "LCM")
    np.testing.assert_array_equal(again[0]["LCM"], by_model["LCM"].scores[rows])


def test_few_people_have_the_simpler_map_or_none(recipe: Make) -> None:
    ready = prepare_evaluation(recipe("name=eval", *QUICK, "evaluate.calibration=isotonic"))
    (note,) = room.calibration_notes(ready)
    assert "asked: isotonic" in note and "diagnosis temperature in 2 of 2 folds" in note
    fewer = (*QUICK, "data.validation=0.2", "evaluate.calibration=temperature")
    (note,) = room.calibration_notes(prepare_evaluation(recipe("name=few", *fewer)))
    assert "diagnosis none in 2 of 2 folds" in note
    assert room.calibration_notes(prepare_evaluation(recipe("name=not", *QUICK))) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["data.validation=0"], "in fold 1 there are none"),
        (["evaluate.protocol=paper", "evaluate.stratify=''"], "nothing more may be fitted"),
    ],
)
def test_nobody_to_fit_it_on_is_refused_before_anything_is_trained(
    change: list[str], expected: str, recipe: Make
) -> None:
    with pytest.raises(InputError, match=expected):
        prepare_evaluation(recipe("name=eval", *QUICK, "evaluate.calibration=temperature", *change))
