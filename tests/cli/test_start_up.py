"""What a verb imports before it answers: no trainer where nothing is trained. Of modules, not of
seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import lcm_scale
from lcm_scale.config import Recipe, dump
from lcm_scale.training.fit import fit
from lcm_scale.training.prepare import prepare
from lcm_scale.training.trained import trained

Make = Callable[..., Recipe]
SOURCE = Path(lcm_scale.__file__).parents[1]
# Half of the seconds that a training run takes to start.
TRAINING = {"lightning", "torch._dynamo", "torchmetrics", "deepspeed", "webdataset"}
OTHERS = {"scipy.stats", "scipy.optimize", "scipy.signal", "sklearn", "matplotlib"}
VERB = """
import json, sys
from lcm_scale.cli import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)))
"""


def loaded(*words: str) -> set[str]:
    """Names of the modules that a verb has loaded when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", VERB, *words], capture_output=True, text=True, cwd=SOURCE
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_repeat_of_a_finished_run_loads_no_trainer_and_leaves_the_run_as_it_is(
    recipe: Make, tmp_path: Path
) -> None:
    made = recipe("model.people_memory=linear", "data.validation=0.2")
    result = fit(prepare(made))
    files = {file: file.stat().st_mtime_ns for file in result.folder.rglob("*") if file.is_file()}
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(made))
    assert not loaded("pretrain", str(path)) & (TRAINING | OTHERS)
    assert {f: f.stat().st_mtime_ns for f in result.folder.rglob("*") if f.is_file()} == files
    assert trained(prepare(made)) == result


def test_a_run_without_its_people_memory_is_not_taken_for_a_finished_one(recipe: Make) -> None:
    """Killed between its last step and its last file."""
    made = recipe(
        "model.people_memory=linear", "data.validation=0.2", "phases=[{name: a, epochs: 1}]"
    )
    result = trained(prepare(made))
    result.checkpoint.unlink()
    again = prepare(made)
    assert not again.is_trained
    assert trained(again) == result and result.checkpoint.is_file()
    # Nor is one that is to answer about its own validation people.
    assert not replace(prepare(made), keep_unseen=True).is_trained


@pytest.mark.parametrize("words", [["cost", "model=1b"], ["recipes", "list"]])
def test_what_trains_nothing_loads_no_trainer(words: list[str]) -> None:
    assert not loaded(*words) & (TRAINING | OTHERS)


def test_preparing_and_reporting_load_no_trainer() -> None:
    """So a process that leaves training to others (`--jobs`) does not wait for it."""
    names = ["training.trained", "evaluation.side_by_side", "report.write", "sweep.run"]
    code = "import importlib, json, sys\n"
    code += f"for name in {names}: importlib.import_module(f'lcm_scale.{{name}}')\n"
    code += "print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SOURCE)
    assert not set(json.loads(done.stdout)) & TRAINING, done.stderr
