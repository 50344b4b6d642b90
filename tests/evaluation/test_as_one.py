"""Models that train as one give what each of them gives alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.config import Recipe, dump
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation.as_one import evaluate_as_one
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.evaluation.results import Report
from lcm_scale.training.fit import fit
from lcm_scale.training.prepare import prepare

Make = Callable[..., Recipe]
QUICK = (
    "evaluate.folds=2",
    "evaluate.bootstrap=20",
    "evaluate.baselines=[majority]",
    "evaluate.targets=[diagnosis, age]",
    "data.validation=0.2",
    "model.dropout=0.1",
    "phases=[{name: one, epochs: 2}]",
)


def assert_same_answers(found: Report, expected: Report) -> None:
    for one, other in zip(found.targets, expected.targets, strict=True):
        for mine, theirs in zip(one.predictions, other.predictions, strict=True):
            assert mine.model == theirs.model
            np.testing.assert_allclose(mine.scores, theirs.scores, rtol=1e-3, atol=1e-5)


def test_folds_draws_and_the_model_of_everybody_are_those_alone(recipe: Make) -> None:
    """People memory, which is fitted once a model is trained, with them. What is finished is not
    made again, and what is not is."""
    words = (
        *QUICK,
        "model.people_memory=linear",
        "evaluate.label_counts=[12]",
        "evaluate.label_draws=2",
        "evaluate.final=true",
    )
    alone = prepare_evaluation(recipe("name=alone", *words))
    expected = crossvalidate.evaluate(alone)
    prepared = prepare_evaluation(recipe("name=one", *words))
    fit(prepared.runs[1][0])
    done = prepared.runs[1][0].folder / "checkpoints" / "final.ckpt"
    before = done.stat().st_mtime_ns
    again, report = evaluate_as_one(prepare_evaluation(recipe("name=one", *words)), 5)
    assert_same_answers(report, expected)
    assert again.final is not None and again.final.done == again.final.steps
    assert done.stat().st_mtime_ns == before


def test_a_fold_sees_the_matrices_that_it_harmonised(recipe: Make) -> None:
    words = (*QUICK, "evaluate.harmonise=site-centre")
    made = [recipe(f"name={name}", *words) for name in ("alone", "one")]
    alone = crossvalidate.evaluate(prepare_evaluation(made[0]))
    _, report = evaluate_as_one(prepare_evaluation(made[1]), 4)
    assert_same_answers(report, alone)


def test_a_fixed_model_is_not_trained(recipe: Make) -> None:
    folder = fit(prepare(recipe("name=fixed", "phases=[{epochs: 1}]"))).folder
    words = (f"evaluate.checkpoint={folder}", "data=second", "evaluate.protocol=external")
    prepared = prepare_evaluation(recipe("name=asked", *words, "data.targets=[age, sex]"))
    with pytest.raises(InputError, match=r"--together: evaluate.checkpoint names a fixed model"):
        evaluate_as_one(prepared, 2)


def test_from_the_command_line(
    recipe: Make, tmp_path: Path, lcm: Callable[[str], tuple[int, str, str]]
) -> None:
    """What cannot be is told in a line before anything is written, from the dry run on."""
    file = tmp_path / "asked.yaml"
    file.write_text(dump(recipe("name=asked", *QUICK)))
    folder = tmp_path / "runs" / "asked"
    for words, said in (
        ("--jobs 2", "--together and --jobs exclude each other"),
        ("--fold 1", "--together and --fold exclude each other"),
        ("trainer.accumulate=2 --dry-run", "--together: .* trainer.accumulate=2 excludes"),
    ):
        code, _, err = lcm(f"evaluate {file} --together 4 {words}")
        assert code == 2 and re.search(said, err), err
    assert not folder.exists()
    code, _, err = lcm(f"evaluate {file} --together 4")
    assert code == 0 and (folder / "report.html").is_file(), err
    assert "2 models of asked together" in err
