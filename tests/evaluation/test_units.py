"""Predictions of windows, averaged back to their scan or person."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.evaluation.summary import summarise
from lcm_scale.evaluation.units import UNITS, averaged, check_unit
from lcm_scale.report.write import write_report


class Sets:
    """Seven windows of four scans of three people."""

    scan: Any = np.array([0, 0, 1, 2, 2, 2, 3])
    subject: Any = np.array([0, 0, 0, 1, 1, 1, 2])


def predictions(truth: list[float], scores: np.ndarray, kind: str = "class") -> Predictions:
    rows = np.arange(7)
    categories = ("a", "b") if kind == "class" else ("age",)
    hashed = np.array(["x", "y", "z"])[Sets.subject]
    return Predictions(
        "LCM", "t", kind, categories, np.array(truth), scores, hashed, Sets.subject % 2 + 1, rows
    )


def test_the_probabilities_of_a_scans_windows_are_averaged() -> None:
    first = np.array([0.9, 0.7, 0.1, 0.2, 0.3, 0.1, 0.6])
    given = predictions([0, 0, 0, 1, 1, 1, 1], np.stack([first, 1 - first], 1))
    assert averaged(given, "window", Sets()) is given  # type: ignore[arg-type]
    scans = averaged(given, "scan", Sets())  # type: ignore[arg-type]
    assert np.allclose(scans.scores[:, 0], [0.8, 0.1, 0.2, 0.6])
    assert (scans.truth.tolist(), scans.scan.tolist()) == ([0, 0, 1, 1], [0, 2, 3, 6])
    people = averaged(given, "person", Sets())  # type: ignore[arg-type]
    assert np.allclose(people.scores[:, 0], [17 / 30, 0.2, 0.6])
    assert people.subject.tolist() == ["x", "y", "z"]


def test_the_values_of_a_scalar_are_averaged_and_so_is_their_truth() -> None:
    given = predictions([20, 20, 23, 30, 30, 30, 40], np.arange(7.0), "scalar")
    people = averaged(given, "person", Sets())  # type: ignore[arg-type]
    assert (people.truth.tolist(), people.scores.tolist()) == ([21, 30, 40], [1, 4, 6])


def test_a_person_of_two_classes_has_no_one_answer() -> None:
    given = predictions([0, 0, 1, 1, 1, 1, 1], np.full((7, 2), 0.5))
    averaged(given, "scan", Sets())  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"evaluate\.unit=person: a person has scans of different t"
    ):
        averaged(given, "person", Sets())  # type: ignore[arg-type]


def test_windows_that_do_not_say_whose_they_are_cannot_be_averaged_to_scans() -> None:
    class Old(Sets):
        scan = np.full(7, -1)

    given = predictions([0, 0, 0, 1, 1, 1, 1], np.full((7, 2), 0.5))
    with pytest.raises(InputError, match=r"evaluate\.unit=scan: .*evaluate\.unit=person"):
        averaged(given, "scan", Old())  # type: ignore[arg-type]


@pytest.fixture
def windowed(recipe: Callable[..., Recipe], make_set, tmp_path: Path) -> Callable[..., Recipe]:
    """`windowed("evaluate.unit=scan")`: an evaluation of 24 people's scans in two windows each."""
    cut = "connectivity={window: 20, min_volumes: 20, kind: partial}"
    make_set(tmp_path, "cut", ["simulation.subjects=24", "simulation.seed=3", cut])

    def make(*overrides: str) -> Recipe:
        return recipe(
            f"data.shards_dir={tmp_path}/shards",
            "data=cut",
            "data.targets=[diagnosis, age]",
            "data.validation=0.2",
            "phases=[{name: one, epochs: 1}]",
            *("evaluate.folds=2", "evaluate.bootstrap=20", "evaluate.stratify=diagnosis"),
            "evaluate.baselines=[majority, linear]",
            *overrides,
        )

    return make


def test_the_report_of_an_evaluation_counts_scans_and_says_so(windowed) -> None:
    prepared = prepare_evaluation(windowed("evaluate.unit=scan"))
    page = write_report(crossvalidate.evaluate(prepared), prepared.folder)
    data = json.loads((page.parent / "results.json").read_text())
    target = next(t for t in data["targets"] if t["target"] == "diagnosis")
    assert {m["n_scans"] for rows in target["results"].values() for m in rows} == {24}
    rows = list(csv.DictReader((page.parent / "predictions.csv").open()))
    assert len([r for r in rows if r["model"] == "LCM" and r["target"] == "diagnosis"]) == 24
    text = page.read_text()
    assert "averaged over a scan" in text and "partial" in text


def test_a_unit_that_cannot_be_averaged_is_refused_before_anything_is_trained(
    windowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare_evaluation(windowed("evaluate.unit=person"))
    sets, scans, questions = prepared.opened.sets, prepared.scans, prepared.questions
    asked = next(question for question in questions if question.target.name == "diagnosis")
    column = sets.labels[:, asked.column]
    one = np.flatnonzero(np.isfinite(column))[0]
    column[one] = sum(asked.codes) - column[one]  # the other of two
    with pytest.raises(InputError, match="a person has scans of different diagnosis"):
        check_unit("person", sets, scans, questions)
    monkeypatch.setitem(UNITS, "scan", lambda sets: np.full(sets.n_scans, -1))  # as of 0.1.0
    with pytest.raises(InputError, match=r"shard it again, or set evaluate\.unit=person"):
        prepare_evaluation(windowed("evaluate.unit=scan"))


def test_the_report_says_which_kinds_were_mixed_and_which_zeros_are_no_data(
    windowed, make_set, tmp_path: Path
) -> None:
    make_set(tmp_path, "other", ["simulation.subjects=4", "simulation.first_subject=70001"])
    mixed = ("data=[other, cut]", "evaluate.set=cut")
    with pytest.raises(InputError, match="other holds pearson matrices, cut partial ones"):
        prepare_evaluation(windowed(*mixed))
    prepared = prepare_evaluation(windowed(*mixed, "data.mix_kinds=true"))
    notes = summarise(prepared, (), ()).notes
    assert any("set other pearson; set cut partial" in note for note in notes)
    assert not any("mask_constant" in note for note in notes)
    for manifest in prepared.opened.sets.manifests:
        manifest.quality["constant regions, in scans"]["region 3 (3)"] = 2  # type: ignore[index]
    notes = summarise(prepared, (), ()).notes
    assert any("Set cut: regions without data in some scans: 1." in note for note in notes)


def test_a_tangent_space_of_what_is_not_positive_definite_is_refused(windowed) -> None:
    with pytest.raises(InputError, match=r"evaluate\.baselines: tangent: .*these are partial"):
        prepare_evaluation(windowed("evaluate.baselines=[tangent]"))
