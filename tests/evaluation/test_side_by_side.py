"""Several processes give what one gives, go on where they were ended, and leave nobody behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.cli.train import _evaluate_fold
from lcm_scale.config import Recipe, dump
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate, side_by_side
from lcm_scale.evaluation.prepare import LOCK, prepare_evaluation
from lcm_scale.evaluation.results import Report
from lcm_scale.evaluation.side_by_side import evaluate_side_by_side
from lcm_scale.lock import Holder, living_holder
from lcm_scale.training.run_log import read_log

Make = Callable[..., Recipe]
QUICK = (
    "evaluate.folds=2",
    "evaluate.repeats=2",
    "evaluate.confounds=[site, age]",
    "evaluate.bootstrap=20",
    "evaluate.baselines=[majority, linear]",
    "evaluate.targets=[diagnosis, age]",
    "evaluate.label_counts=[12]",
    "evaluate.label_draws=2",
    "evaluate.final=true",
    "data.validation=0.2",
    "model.people_memory=linear",
    "model.dropout=0.1",
    "phases=[{name: one, epochs: 2}]",
    "trainer.threads=1",
)


def numbers(report: Report) -> dict[tuple[str, str], np.ndarray]:
    return {(t.target, p.model): p.scores for t in report.targets for p in t.predictions}


def test_results_are_those_of_one_process_bit_for_bit(recipe: Make) -> None:
    """Folds, seeds, draws of few labels, the model of everybody, and baselines."""
    one = prepare_evaluation(recipe("name=one", *QUICK))
    alone = crossvalidate.evaluate(one)
    two = prepare_evaluation(recipe("name=two", *QUICK))
    again, report = evaluate_side_by_side(two, 2)
    assert numbers(alone).keys() == numbers(report).keys()
    for key, scores in numbers(alone).items():
        np.testing.assert_array_equal(numbers(report)[key], scores, err_msg=str(key))
    assert [p.results for p in report.labels] == [p.results for p in alone.labels]
    assert report.confounds == alone.confounds and report.confounds
    assert again.final is not None and again.final.resume is not None, "made beside the folds"
    assert len(list((two.folder / "folds").iterdir())) == 4
    # What is finished is not made again.
    files = sorted(two.folder.rglob("*.ckpt"))
    before = [file.stat().st_mtime_ns for file in files]
    _, third = evaluate_side_by_side(prepare_evaluation(recipe("name=two", *QUICK)), 2)
    assert [file.stat().st_mtime_ns for file in files] == before
    for key, scores in numbers(alone).items():
        np.testing.assert_array_equal(numbers(third)[key], scores)


def test_a_model_that_diverges_is_told_of_as_in_one_process(recipe: Make) -> None:
    wrong = recipe("name=wrong", *QUICK, "optim.adaptive.lr=1e30", "evaluate.label_counts=[]")
    with pytest.raises(InputError, match=r"fold-1-seed-[12]: the loss is .* at step"):
        evaluate_side_by_side(prepare_evaluation(wrong), 2)
    assert living_holder(prepare_evaluation(wrong).folder / LOCK) is None


@pytest.mark.parametrize("spread", [{"devices": 2}, {"nodes": 2}])
def test_models_that_several_ranks_train_are_refused(recipe: Make, spread: dict[str, int]) -> None:
    prepared = prepare_evaluation(recipe("name=one", *QUICK))
    wide = replace(prepared.recipe, trainer=replace(prepared.recipe.trainer, **spread))
    other = replace(prepared, opened=replace(prepared.opened, recipe=wide))
    with pytest.raises(InputError, match="--jobs: each job trains a model of its own"):
        evaluate_side_by_side(other, 2)


def test_tasks_of_an_array_train_a_fold_each_and_the_last_one_reports(
    recipe: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [word for word in QUICK if not word.startswith("evaluate.label")]
    alone = crossvalidate.evaluate(prepare_evaluation(recipe("name=one", *kept)))
    made = recipe("name=array", *kept, "evaluate.final=false")
    folder = Path(made.runs_dir) / "array"
    _evaluate_fold(made, 2)
    assert "fold 2 is trained" in capsys.readouterr().out
    assert not (folder / "report.html").exists() and len(list((folder / "folds").iterdir())) == 2
    _evaluate_fold(made, 1)
    assert (folder / "report.html").is_file()
    with (folder / "predictions.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["model"] == "LCM"]
    expected = next(p for p in alone.targets[0].predictions if p.model == "LCM")
    assert len(rows) >= len(expected.truth)
    # Whoever comes while the report is written leaves it to the other.
    other = replace(Holder.me(), host="elsewhere")
    (folder / LOCK).write_text(json.dumps(asdict(other)))
    _evaluate_fold(made, 1)
    assert "fold 1 is trained" in capsys.readouterr().out
    with pytest.raises(InputError, match="1 to 2"):
        side_by_side.train_fold(made, 3)


def test_threads_are_one_each_unless_the_recipe_says_more(recipe: Make) -> None:
    for given, expected in (("null", 1), ("3", 3)):
        made = side_by_side.alone(recipe("name=one", f"trainer.threads={given}"))
        assert made.trainer.threads == expected


def test_a_signal_ends_all_processes_and_the_same_command_goes_on(
    recipe: Make, world: Path, tmp_path: Path
) -> None:
    longer = [
        word for word in QUICK if not word.startswith(("phases", "evaluate.label", "ev.final"))
    ]
    made = recipe("name=ended", *longer, "phases=[{name: one, epochs: 40}]", "evaluate.final=false")
    file = tmp_path / "ended.yaml"
    file.write_text(dump(made))
    command = [sys.executable, "-m", "lcm_scale.cli", "evaluate", str(file), "--jobs", "2"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "LCM_SALT_FILE": str(world / "salt"), "OMP_NUM_THREADS": "1"},
    )
    folder = Path(made.runs_dir) / "ended" / "folds"
    end = time.monotonic() + 120
    while not list(folder.glob("*/checkpoints/step-*.ckpt")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.2)
    workers = _children(process.pid)
    assert len(workers) >= 4  # with that one, and the one that watches over shared memory
    process.send_signal(signal.SIGUSR1)  # Slurm's warning
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 75, said
    assert "the same command goes on" in said and "Traceback" not in said
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < end
        time.sleep(0.1)
    _, report = evaluate_side_by_side(prepare_evaluation(made), 2)
    assert report.targets
    logs = [read_log(log) for log in folder.glob("*/log.jsonl")]
    steps: list[list[Any]] = [[e["step"] for e in log if e["event"] == "step"] for log in logs]
    assert len(steps) == 4 and all(s == list(range(1, len(s) + 1)) for s in steps)


def _children(pid: int) -> list[int]:
    """With theirs: those at work are children of one that imported what they need."""
    own = [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*own, *(n for child in own for n in _children(child))]
