"""The published protocol: its folds, its best epoch on the reported fold, and the word that says so
wherever its numbers stand."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.model_selection import KFold

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.inference.predictor import Predictor
from lcm_scale.report.write import write_report
from lcm_scale.weights import checkpoints
from lcm_scale.weights.card import card, read_results

Make = Callable[..., Recipe]
ASKED = (
    "name=eval",
    "evaluate.protocol=paper",
    "evaluate.bootstrap=50",
    "evaluate.targets=[diagnosis, age]",
    "trainer.keep_checkpoints=9",
)


def test_the_folds_are_the_first_five_of_the_published_ten(recipe: Make) -> None:
    prepared = prepare_evaluation(recipe(*ASKED))
    sets = prepared.opened.sets
    people = np.argsort(sets.subject_ranks)
    published = list(KFold(10, shuffle=True, random_state=142857).split(people))[:5]
    assert len(prepared.folds) == 5
    for fold, (_, held), (one,) in zip(prepared.folds, published, prepared.runs, strict=True):
        assert set(sets.subject[fold.test]) == set(people[held])
        assert np.array_equal(one.validation, fold.test) and np.array_equal(one.train, fold.train)
        assert np.array_equal(fold.fitted, fold.train)  # no baseline learns from the reported ones
        assert not set(sets.subject[one.train]) & set(sets.subject[fold.test])


def test_each_target_takes_its_best_epoch_and_every_place_says_optimistic(recipe: Make) -> None:
    prepared = prepare_evaluation(recipe(*ASKED))
    report = crossvalidate.evaluate(prepared)
    sets, source = prepared.opened.sets, prepared.opened.source
    predictor = Predictor(sets, source, prepared.recipe)
    for number, fold in enumerate(prepared.folds, 1):
        folder = prepared.folder / "folds" / f"fold-{number}"
        epochs = sorted((folder / "checkpoints").glob("step-*.ckpt"))
        assert len(epochs) == 4
        for question, target in zip(prepared.questions, report.targets, strict=True):
            truth = question.truth(sets.labels[fold.test])
            known = np.isfinite(truth)
            if not known.any():
                continue
            ours = target.predictions[0]
            mine = ours.scores[ours.fold == number]
            values = []
            for epoch in epochs:
                model = checkpoints.load(epoch)
                (answer,) = predictor.answers(model, fold.test, [question.asked])
                values.append(answer[known])
            right = [
                (value.argmax(1) == truth[known]).mean()
                if question.kind == "class"
                else -np.abs(value - truth[known]).mean()
                for value in values
            ]
            np.testing.assert_allclose(mine, values[int(np.argmax(right))], rtol=1e-4)
    page = write_report(report, prepared.folder)
    text = page.read_text()
    assert re.search("<title>.*OPTIMISTIC", text) and "no lead can be read" in text
    for section in re.findall(r'<section id="target-\d">.*?</section>', text, re.DOTALL):
        assert section.count('<span class="mark">OPTIMISTIC</span>') >= 2, "heading and table"
        assert all("OPTIMISTIC" in alt for alt in re.findall(r'alt="([^"]*)"', section))
    data = json.loads((page.parent / "results.json").read_text())
    assert data["verdict"]["standing"] == "optimistic"
    assert data["verdict"]["sentence"].startswith("Optimistic, by the published protocol: LCM has")
    assert "beats" not in text
    for name in ("results.csv", "predictions.csv"):
        rows = list(csv.DictReader((page.parent / name).open()))
        assert {row["optimistic"] for row in rows} == {"True"}
    shown = card(about(prepared.folder), read_results(page.parent), "")
    assert "**OPTIMISTIC: these numbers are too good.**" in shown
    assert "| diagnosis (optimistic) | LCM |" in shown


def about(folder) -> dict:
    """What a card is told of a model."""
    model = checkpoints.load(folder / "folds" / "fold-1").to_json()
    return {**model, "dtype": "float32", "subjects": 3, "unknown_subjects": False}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("evaluate.stratify=diagnosis", "the published folds are not"),
        ("evaluate.unit=person", "the published units are windows"),
        ("model.people_memory=linear", "which here are the reported people"),
        ("evaluate.label_counts=[10]", "not under evaluate.protocol=paper"),
    ],
)
def test_what_was_not_published_so_is_refused(change: str, why: str, recipe: Make) -> None:
    with pytest.raises(InputError, match=why):
        prepare_evaluation(recipe(*ASKED, change))


def test_fewer_than_ten_people_are_refused(recipe: Make, make_set, tmp_path) -> None:
    make_set(tmp_path, "nine", ["simulation.subjects=9"])
    with pytest.raises(InputError, match="9 subjects"):
        prepare_evaluation(recipe(*ASKED, f"data.shards_dir={tmp_path}/shards", "data=nine"))
