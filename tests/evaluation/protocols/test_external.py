"""Train on some sets, test on another: nobody of the tested set is trained on, by the model or by a
baseline, and only what both sides know is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.config import Recipe
from lcm_scale.data.sets import open_sets
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate, plain
from lcm_scale.evaluation.prepare import PreparedEvaluation, prepare_evaluation
from lcm_scale.report.write import write_report
from lcm_scale.training import fit as run
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]
ASKED = (
    "name=eval",
    "data=[first, second]",
    "evaluate.protocol=external",
    "evaluate.bootstrap=100",
    "data.validation=0.2",
    "phases=[{name: one, epochs: 1}]",
)
FIXED = ("name=eval", "data=second", "evaluate.targets=[sex, age]", "evaluate.bootstrap=100")


def people(prepared: PreparedEvaluation, scans: np.ndarray) -> set[str]:
    return set(prepared.opened.sets.subject_hashes(scans))


def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, np.ndarray]]:
    """Of every baseline that is fitted from now on its name, how many scans it has, whose."""
    calls, real = [], plain.fit_predict

    def watched(name, edges, truth, subject, *rest):
        calls.append((name, len(edges), np.unique(subject)))
        return real(name, edges, truth, subject, *rest)

    monkeypatch.setattr(plain, "fit_predict", watched)
    return calls


def test_model_and_baselines_are_trained_elsewhere_and_the_set_is_read_once(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare_evaluation(recipe(*ASKED, "evaluate.set=first"))
    sets, calls = prepared.opened.sets, trained_on(monkeypatch)
    report = crossvalidate.evaluate(prepared)
    first, second = sets.scans_of(["first"]), sets.scans_of(["second"])
    (fold,), ((one,),) = prepared.folds, prepared.runs
    assert np.array_equal(prepared.scans[fold.test], first)
    assert len(one.validation) and not np.intersect1d(one.train, one.validation).size
    assert np.array_equal(np.union1d(one.train, one.validation), second)
    model = checkpoints.load(prepared.folder / "folds" / "fold-1")
    assert model.subjects == people(prepared, second)
    assert calls and all(set(subject) <= set(sets.subject[second]) for *_, subject in calls)
    # Those who choose the epoch are among them; two labels are missing.
    assert max(n for *_, n, _ in calls) == 25 > len(one.train)
    target = report.targets[0]
    assert target.n_scans <= len(first) and set(target.differences) >= {"linear", "tangent"}
    assert np.unique(target.predictions[0].fold).tolist() == [1]
    assert report.protocol.startswith("External test: trained on 26 people of second")
    assert report.data["scans"] == 37 and report.data["set"] == "first"


def test_a_person_of_the_tested_set_is_not_trained_on_under_another_sets_name(
    recipe: Make, make_set, tmp_path: Path
) -> None:
    """`more` holds everybody of `b`, and others."""
    make_set(tmp_path, "more", ["simulation.subjects=40", "simulation.seed=3"])
    make_set(tmp_path, "b", ["simulation.subjects=15", "simulation.seed=3"])
    here = f"data.shards_dir={tmp_path}/shards"
    prepared = prepare_evaluation(recipe(*ASKED, here, "data=[more, b]"))
    ((one,),) = prepared.runs
    seen = people(prepared, np.concatenate([one.train, one.validation]))
    assert not seen & people(prepared, prepared.plan.tested)
    assert len(seen) == 25
    assert not set(prepared.scans[prepared.folds[0].fitted]) - {*one.train, *one.validation}
    with pytest.raises(InputError, match="hold nobody beside the people of more to train on"):
        prepare_evaluation(recipe(*ASKED, here, "data=[more, b]", "evaluate.set=more"))


def test_only_answers_that_both_sides_know_are_asked_and_the_others_are_named(
    recipe: Make, make_set, tmp_path: Path
) -> None:
    for name, first, words in (("a", 1, "CN, PD, SWEDD, ''"), ("b", 60001, "CN, PD, MSA, SWEDD")):
        sites = ", ".join(f"SIM{i}: {word}" for i, word in enumerate(words.split(", "), 1))
        groups = f"groups=[{{name: diagnosis, column: SITE_ID, map: {{{sites}}}}}]"
        size = ["simulation.subjects=32", f"simulation.first_subject={first}"]
        make_set(tmp_path, name, [*size, groups])
    asked = (*ASKED, f"data.shards_dir={tmp_path}/shards", "data=[a, b]")
    prepared = prepare_evaluation(recipe(*asked, "evaluate.targets=[diagnosis]"))
    (question,) = prepared.questions
    assert question.categories == ("CN", "PD", "SWEDD")
    labels = open_sets(prepared.recipe.data).labels
    msa = question.target.categories.index("MSA")
    assert np.isnan(question.truth(labels[labels[:, question.column] == msa])).all()
    (note,) = (note for note in prepared.plan.notes if "MSA" in note)
    assert f"MSA ({(labels[:, question.column] == msa).sum()} scans)" in note
    turned = prepare_evaluation(recipe(*asked, "evaluate.set=a", "evaluate.targets=[diagnosis]"))
    assert turned.questions[0].categories == ("CN", "PD", "SWEDD")
    assert any("MSA stand on the training side alone" in note for note in turned.plan.notes)


def test_a_target_of_the_tested_set_alone_is_refused_where_it_is_named_and_else_said(
    recipe: Make,
) -> None:
    prepared = prepare_evaluation(recipe(*ASKED))
    assert [q.target.name for q in prepared.questions] == ["sex", "age"]
    assert any(note.startswith("outcome is not evaluated") for note in prepared.plan.notes)
    for change in ("evaluate.target=outcome", "evaluate.targets=[sex, outcome]"):
        with pytest.raises(InputError, match=r"training sets \(first\) do not know outcome"):
            prepare_evaluation(recipe(*ASKED, change))


def test_one_set_alone_is_refused(recipe: Make) -> None:
    with pytest.raises(InputError, match="hold nobody beside the people of first"):
        prepare_evaluation(recipe(*ASKED, "data=[first]"))


def test_of_a_fixed_model_whose_training_sets_are_not_there_no_baseline_is_trained(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = run.pretrain(recipe("name=pre", "data.targets=[sex, age]"))
    calls = trained_on(monkeypatch)
    prepared = prepare_evaluation(recipe(*FIXED, f"evaluate.checkpoint={start}"))
    page = write_report(crossvalidate.evaluate(prepared), prepared.folder)
    assert not calls
    data = json.loads((page.parent / "results.json").read_text())
    assert [set(t["results"]) for t in data["targets"]] == [{"LCM"}, {"LCM"}]
    assert any("No baseline for sex, age" in note for note in data["notes"])
    assert data["verdict"]["standing"] == "alone"
    assert "training sets are not at hand" in data["protocol"]


def test_a_fixed_models_baselines_are_trained_on_the_people_that_it_was_trained_on(
    recipe: Make, make_set, monkeypatch: pytest.MonkeyPatch, world: Path, tmp_path: Path
) -> None:
    """`wide` holds people of `first`, whom the model saw, and others, whom it did not."""
    start = run.pretrain(recipe("name=pre", "data.targets=[sex, age]"))
    make_set(tmp_path, "wide", ["simulation.subjects=45", "simulation.seed=3"])
    sets = f"data.sets=[{tmp_path}/shards/wide, {world}/shards/second]"
    calls = trained_on(monkeypatch)
    prepared = prepare_evaluation(recipe(*FIXED, sets, f"evaluate.checkpoint={start}"))
    report = crossvalidate.evaluate(prepared)
    opened = prepared.opened.sets
    saw = checkpoints.load(start).subjects
    assert len(saw) == 37 and len(calls) == 6
    for name, _, subject in calls:
        assert {opened.subjects[s] for s in subject} <= saw, name
    assert people(prepared, prepared.scans[prepared.folds[0].fitted]) == saw
    assert "trained on 37 of the 37 people" in report.protocol
    assert set(report.targets[0].differences) == {"majority", "linear", "tangent"}
    assert np.array_equal(prepared.plan.tested, opened.scans_of(["second"]))


def test_of_a_model_whose_people_were_hashed_otherwise_nobody_can_say_whom_it_saw(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = run.pretrain(recipe("name=pre", "data.targets=[sex, age]", "trainer.max_steps=1"))
    real = checkpoints.load
    other = "evaluate.checkpoint=" + str(start)
    monkeypatch.setattr(checkpoints, "load", lambda path: replace(real(path), salt_id="other"))
    prepared = prepare_evaluation(recipe(*FIXED, other))
    assert any("hashed with another salt" in note for note in prepared.plan.notes)
