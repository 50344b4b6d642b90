"""Two evaluated runs beside each other: pairs of the same people on the same folds, or one line that
says what differs."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lcm_scale.cli.app import app
from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation.compare import _scores, compare
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.report.write import write_report

QUICK = (
    "evaluate.folds=3",
    "evaluate.stratify=diagnosis",
    "evaluate.bootstrap=50",
    "evaluate.targets=[diagnosis, age]",
    "trainer.max_epochs=1",
)


@pytest.fixture
def runs(recipe: Callable[..., Recipe], tmp_path: Path) -> tuple[Path, Path]:
    """The same, and what its linear baseline answers in the model's place."""
    prepared = prepare_evaluation(recipe("name=first", *QUICK, "evaluate.baselines=[linear]"))
    first = write_report(crossvalidate.evaluate(prepared), prepared.folder).parent
    second = tmp_path / "second"
    shutil.copytree(first, second)
    rewrite(second, lambda row: row | {"model": {"LCM": "x", "linear": "LCM"}[row["model"]]})
    return first, second


def rewrite(folder: Path, change: Callable[[dict[str, str]], dict[str, str] | None]) -> None:
    file = folder / "predictions.csv"
    with file.open(newline="") as lines:
        rows = [new for row in csv.DictReader(lines) if (new := change(row)) is not None]
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_differences_are_those_of_the_report(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """What the report calls LCM minus linear is here the first less the second."""
    first, second = runs
    found = {(r.target, r.metric): r for r in compare(second, first, 50).rows}
    report = json.loads((first / "results.json").read_text())
    for target in report["targets"]:
        for metric in target["differences"]["linear"]:
            row = found[target["target"], metric["name"]]
            assert row.difference.value == pytest.approx(metric["value"], abs=2e-4)
            assert row.difference.n_subjects == metric["n_subjects"]
            assert row.difference.low <= row.difference.value <= row.difference.high
            assert row.deciding == (metric["name"] == target["deciding"])
    same = compare(first, first, 50)
    assert {r.standing for r in same.rows} == {"level"} and same.simulated
    out = tmp_path / "out"
    said = CliRunner().invoke(app, ["compare", str(first), str(second), "-o", str(out)])
    assert said.exit_code == 0 and "SIMULATED" in said.output
    assert "11 differences were looked at" in said.output
    written = json.loads((out / "compare.json").read_text())["rows"]
    assert len(written) == len(list(csv.DictReader((out / "compare.csv").open()))) == 11


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row | {"fold": str(4 - int(row["fold"]))}, "other folds than in"),
        (lambda row: None if row["scan"] == "3" else row, r"other scans .* 0 are here alone, 1"),
        (lambda row: row | {"subject": "f" + row["subject"][1:]}, "other scans than in"),
        (lambda row: row | {"target": "mood"}, "no target is in both"),
        (lambda row: row | {"scan": "one"}, "not the predictions of an evaluation"),
        (lambda row: row | {"scores": "CN=0.5"}, "not the predictions of an evaluation"),
        (lambda row: {"nothing": "1"}, "not the predictions of an evaluation"),
    ],
)
def test_runs_that_cannot_be_paired_are_refused_in_one_line(
    change: Callable[[dict[str, str]], dict[str, str] | None], said: str, runs: tuple[Path, Path]
) -> None:
    first, second = runs
    rewrite(second, change)
    with pytest.raises(InputError, match=said) as error:
        compare(first, second, 20)
    assert "\n" not in str(error.value)


def test_a_folder_without_an_evaluation_is_named(runs: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = runs
    with pytest.raises(InputError, match=r"nowhere.results\.json"):
        compare(first, tmp_path / "nowhere")
    (second / "results.json").write_text("[]")
    with pytest.raises(InputError, match="not the results of an evaluation"):
        compare(first, second)


def test_names_may_hold_the_marks_between_scores() -> None:
    assert _scores("a;b=1=0.25;c=0.75", ("a;b=1", "c")) == [0.25, 0.75]
    assert _scores("'=a=0.5;b=0.5", ("=a", "b")) == [0.5, 0.5]
