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
from lcm_scale.evaluation.compare import compare
from lcm_scale.evaluation.evaluated import _scores
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.report.write import write_report

QUICK = (
    "evaluate.folds=3",
    "evaluate.stratify=diagnosis",
    "evaluate.bootstrap=50",
    "evaluate.targets=[diagnosis, age]",
    "trainer.max_epochs=1",
)


@pytest.fixture(scope="module")
def evaluated(recipe_into: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluated run, which no test writes into."""
    folder = tmp_path_factory.mktemp("evaluated")
    asked = recipe_into(folder, "name=first", *QUICK, "evaluate.baselines=[linear]")
    prepared = prepare_evaluation(asked)
    return write_report(crossvalidate.evaluate(prepared), prepared.folder).parent


@pytest.fixture
def runs(evaluated: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The same, and what its linear baseline answers in the model's place."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        for name in ("results.json", "predictions.csv", "evaluation.json"):
            shutil.copy(evaluated / name, folder / name)
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
        (lambda row: row | {"fold": str(1 + int(row["scan"]) % 3)}, "other folds than in"),
        (lambda row: row | {"subject": "x" + row["subject"]}, "nobody is in both"),
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


def test_scans_of_other_numbers_are_matched_by_person_and_order(runs: tuple[Path, Path]) -> None:
    """As where the other run had more sets before this one, and folds of other names."""
    first, second = runs
    expected = compare(first, second, 50)

    def moved(row: dict[str, str]) -> dict[str, str]:
        return row | {"scan": str(1000 + int(row["scan"])), "fold": str(7 + int(row["fold"]))}

    rewrite(second, moved)
    found = compare(first, second, 50)
    assert repr(found.rows) == repr(expected.rows) and found.targets == expected.targets
    assert all(told.people.all_compared for told in found.targets.values())


def test_a_run_with_another_set_before_the_same_one_is_compared(
    evaluated: Path, recipe_into: Callable[..., Recipe], tmp_path: Path
) -> None:
    """Its scans have other numbers, since they are counted through all sets."""
    more = ("data.sets=[second,first]", "evaluate.set=first", "evaluate.baselines=[]")
    prepared = prepare_evaluation(recipe_into(tmp_path, "name=more", *QUICK, *more))
    folder = write_report(crossvalidate.evaluate(prepared), prepared.folder).parent
    assert scans_asked(folder, "age")[0] >= 26 > scans_asked(evaluated, "age")[0]
    found = compare(evaluated, folder, 20)
    assert all(told.people.all_compared for told in found.targets.values())
    assert [set(sets) for sets in found.sets] == [{"first"}, {"first", "second"}]


def two_scans_each(row: dict[str, str]) -> dict[str, str]:
    """Persons 2k and 2k + 1 become one with two scans."""
    return row | {"subject": f"{int(row['scan']) // 2:04d}", "fold": str(int(row["scan"]) // 2 % 3)}


def test_a_persons_scans_keep_their_order_and_other_counts_are_left_out(
    runs: tuple[Path, Path],
) -> None:
    first, second = runs
    for folder in runs:
        rewrite(folder, two_scans_each)
    whole = compare(first, second, 20)
    gone = scans_asked(second, "age")[0]
    rewrite(second, lambda row: row | {"scan": str(500 + 3 * int(row["scan"]))})
    assert repr(compare(first, second, 20).rows) == repr(whole.rows)
    rewrite(second, lambda row: None if row["scan"] == str(500 + 3 * gone) else row)
    people = compare(first, second, 20).targets["age"].people
    before = whole.targets["age"].people
    assert people.other_scans + people.first_alone == 1
    assert people.shared == before.shared - 1


def test_only_people_whom_both_asked_with_the_same_answer_are_compared(
    runs: tuple[Path, Path],
) -> None:
    """The numbers are those of the runs cut to these people beforehand."""
    first, second = runs
    scans = scans_asked(first, "age")
    here, there, changed = (str(scans[i]) for i in (0, 1, 2))
    rewrite(first, lambda row: None if row["scan"] == here else row)
    rewrite(second, lambda row: None if row["scan"] == there else row)

    def older(row: dict[str, str]) -> dict[str, str]:
        both = row["target"] == "age" and row["scan"] == changed
        return row | {"truth": "99"} if both else row

    rewrite(second, older)
    found = compare(first, second, 50)
    people = found.targets["age"].people
    assert (people.first_alone, people.second_alone, people.other_answers) == (1, 1, 1)
    assert people.shared == people.first - 2 == people.second - 2 == len(scans) - 3

    def kept(row: dict[str, str]) -> dict[str, str] | None:
        gone = {here, there} | ({changed} if row["target"] == "age" else set())
        return None if row["scan"] in gone else row

    for folder in runs:
        rewrite(folder, kept)
    cut = compare(first, second, 50)
    assert [(r.first, r.second, r.difference) for r in found.rows] == [
        (r.first, r.second, r.difference) for r in cut.rows
    ]


def test_a_target_that_cannot_be_paired_is_named_and_the_rest_compared(
    runs: tuple[Path, Path],
) -> None:
    first, second = runs
    other = {"age": "x", "diagnosis": ""}
    rewrite(second, lambda row: row | {"subject": other[row["target"]] + row["subject"]})
    found = compare(first, second, 20)
    assert list(found.targets) == ["diagnosis"] and "nobody is in both" in found.left_out["age"]


def scans_asked(folder: Path, target: str) -> list[int]:
    """Numbers of the scans that the model answered, ascending."""
    with (folder / "predictions.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["target"] == target]
    return sorted(int(row["scan"]) for row in rows if row["model"] == "LCM")
