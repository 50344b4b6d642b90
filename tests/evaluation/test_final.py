"""`evaluate.final`: a model of everybody after the folds, trained as a fold is, resumable, asked by
`predict`, and carrying the evaluation as what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate, final
from lcm_scale.evaluation.calibrate import temperature
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.inference.asked import ask, opened
from lcm_scale.inference.pretrained import load_model
from lcm_scale.report.write import write_report
from lcm_scale.training import fit as run
from lcm_scale.weights import checkpoints
from lcm_scale.weights.hub import export_hub

Make = Callable[..., Recipe]
QUICK = (
    "name=eval",
    "evaluate.folds=2",
    "evaluate.bootstrap=20",
    "evaluate.baselines=[majority]",
    "data.validation=0.2",
    "phases=[{name: one, epochs: 1}]",
)


def evaluate(recipe: Recipe) -> Path | None:
    """As the verb does."""
    prepared = prepare_evaluation(recipe)
    write_report(crossvalidate.evaluate(prepared), prepared.folder)
    return final.train_final(prepared)


def test_a_run_of_folds_says_how_to_make_a_model_of_everybody_and_then_has_one(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "eval"
    assert evaluate(recipe(*QUICK)) is None
    with pytest.raises(InputError, match=r"folds' models alone.*evaluate\.final=true"):
        opened(str(folder))
    folds = [checkpoints.find(folder / "folds" / f"fold-{n}") for n in (1, 2)]
    before = [(file, file.stat().st_mtime_ns) for file in folds]
    model = evaluate(recipe(*QUICK, "evaluate.final=true"))
    assert before == [(file, file.stat().st_mtime_ns) for file in folds], "folds trained again"
    assert model == folder / "model"
    found = opened(str(folder))
    assert found.run == model
    assert len(found.meaning.subjects) == 37, "everybody"
    assert found.meaning.cohort is not None and found.meaning.cohort.people == 37
    said = json.loads((model / "evaluated_by.json").read_text())
    assert "cross-validation" in said["protocol"] and said["verdict"]
    mark = checkpoints.mark_of(checkpoints.find(model))
    assert evaluate(recipe(*QUICK, "evaluate.final=true")) == model
    assert checkpoints.mark_of(checkpoints.find(model)) == mark, "finished, so not trained again"


def test_it_is_the_model_that_pretrain_makes(recipe: Make) -> None:
    model = evaluate(recipe(*QUICK, "evaluate.final=true"))
    alone = run.pretrain(recipe(*QUICK, "name=alone"))
    assert model is not None
    ours, theirs = checkpoints.load(model), checkpoints.load(alone)
    assert ours.subjects == theirs.subjects
    assert all((ours.state[name] == value).all() for name, value in theirs.state.items())


def test_its_export_has_the_evaluation_on_its_card(
    recipe: Make, tmp_path: Path, lcm: Callable[[str], tuple[int, str, str]]
) -> None:
    model = evaluate(recipe(*QUICK, "evaluate.final=true"))
    code, _, err = lcm(f"export hub {model} {tmp_path}/given")
    assert code == 0, err
    assert "cross-validation" in (tmp_path / "given" / "README.md").read_text()


@pytest.mark.parametrize("key", ["harmonise=site-centre", "checkpoint=START"])
def test_what_has_no_model_of_everybody_is_refused_before_anything_is_trained(
    key: str, recipe: Make, tmp_path: Path
) -> None:
    start = ""
    if "START" in key:
        start = str(run.pretrain(recipe("name=pre", "data=second", "trainer.max_steps=1")))
    words = (*QUICK, "evaluate.final=true", f"evaluate.{key.replace('START', start)}")
    with pytest.raises(InputError, match=r"evaluate\.final and evaluate\."):
        prepare_evaluation(recipe(*words))
    assert not (tmp_path / "runs" / "eval").exists()


def test_its_probabilities_go_through_the_map_of_those_who_chose_its_epoch(recipe: Make) -> None:
    """Stored once, in what `predict`, `load_model` and a later evaluation read."""
    asked = (*QUICK[:-2], "data.validation=0.6", QUICK[-1], "evaluate.targets=[diagnosis]")
    asked = (*asked, "evaluate.final=true", "evaluate.calibration=temperature")
    prepared = prepare_evaluation(recipe(*asked, "model.people_memory=linear"))
    write_report(crossvalidate.evaluate(prepared), prepared.folder)
    assert prepared.final is not None
    folder = final.train_final(prepared)
    assert folder is not None
    found = opened(str(folder))
    change = found.meaning.calibration["diagnosis"]
    assert change.temperature != 1
    again = prepare_evaluation(recipe(*asked, "model.people_memory=linear"))
    assert final.train_final(again) == folder
    assert opened(str(folder)).fingerprint == found.fingerprint, "fitted once"
    # By hand: the memory without them, their labels, the likeliest temperature.
    model = checkpoints.load(folder)
    unseen = checkpoints.load(model.path.with_name(checkpoints.UNSEEN))
    sets, watchers = prepared.opened.sets, prepared.final.validation
    predictor = crossvalidate.Predictor(sets, prepared.opened.source, prepared.recipe)
    (question,) = prepared.questions
    (given,) = predictor.answers(unseen, watchers, [question.asked])
    truth = question.truth(sets.labels[watchers])
    known = np.isfinite(truth)
    assert change == temperature(given[known], truth[known].astype(np.int64))
    plain = replace(model, calibration={})
    scans = np.arange(5)
    (before,), (after,) = (predictor.answers(m, scans, [question.asked]) for m in (plain, model))
    np.testing.assert_allclose(after, change(before), atol=1e-6)
    assert np.abs(after - before).max() > 1e-4
    # The same in an exported folder, through both ways of asking.
    exported = export_hub(folder, folder.parents[1] / "exported")
    edges = predictor.edges(scans)
    by_target = ask(opened(str(exported)), edges, np.empty((5, 0)), "cpu")
    np.testing.assert_allclose(by_target["diagnosis"], after, atol=1e-5)
    R = sets.atlas.n_regions
    fc = torch.eye(R).repeat(5, 1, 1)
    rows, columns = torch.triu_indices(R, R, 1)
    fc[:, rows, columns] = fc[:, columns, rows] = torch.from_numpy(edges)
    answers = load_model(exported).predict(fc)["diagnosis"][:, 1:]  # the first is N/A
    np.testing.assert_allclose((answers / answers.sum(1, keepdim=True)).numpy(), after, atol=1e-5)
    assert opened(str(exported)).evaluated is not None
