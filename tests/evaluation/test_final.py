"""`evaluate.final`: a model of everybody after the folds, trained as a fold is, resumable, asked by
`predict`, and carrying the evaluation as what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate, final
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.inference.asked import opened
from lcm_scale.report.write import write_report
from lcm_scale.training import fit as run
from lcm_scale.weights import checkpoints

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
