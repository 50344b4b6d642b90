"""`lcm-scale sweep` from outside: real workers, exit codes, one-line errors."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lcm_scale.cli import app as cli
from lcm_scale.sweep.finished import is_finished
from lcm_scale.sweep.plan import Plan

Make = Callable[..., Plan]
Call = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def lcm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`lcm("sweep plan FILE")` -> (exit code, stdout, stderr), in this process."""

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lcm-scale", *shlex.split(line)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as caught:
            code = caught.code
        out, err = capsys.readouterr()
        return (code if isinstance(code, int) else 0), out, err

    return call


def test_run_starts_workers_and_ends_with_the_next_command(
    make_sweep: Make, lcm: Call, tmp_path: Path
) -> None:
    made = make_sweep()
    few = "axes.size=[8x1] axes.subjects=[12] also=[]"
    code, out, err = lcm(f"sweep run {tmp_path}/sweep_sizes.yaml {few} --jobs 2")
    assert code == 0, err
    assert "2 points run, 0 were finished before" in out
    following = out.splitlines()[-1]
    assert following.startswith("next: lcm-scale sweep fit")
    assert "'axes.size=[8x1]'" in following, "a shell takes brackets for a pattern of files"
    assert is_finished(made.sweep.folder_of(made.runnable[0]))
    code, out, _ = lcm(f"sweep run {tmp_path}/sweep_sizes.yaml {few}")
    assert (code, "0 points run, 2 were finished before" in out) == (0, True)


def test_a_point_by_its_number_runs_in_the_same_folders(
    make_sweep: Make, lcm: Call, tmp_path: Path
) -> None:
    made = make_sweep()
    assert lcm(f"sweep run {tmp_path}/sweep_sizes.yaml --point 2")[0] == 0
    assert [is_finished(made.sweep.folder_of(p)) for p in made.runnable[:3]] == [False, True, False]


def test_points_that_fail_end_in_exit_code_2_and_one_line(
    make_sweep: Make, lcm: Call, tmp_path: Path
) -> None:
    make_sweep()
    code, _, err = lcm(
        f"sweep run {tmp_path}/sweep_sizes.yaml axes.size=[8x1] axes.subjects=[900] also=[] "
        "baselines=[]"
    )
    assert code == 2
    assert (
        "error: 1 of 1 points failed, the first 8x1-u900-e2: 8x1-u900-e2: asks for 900 people"
        in err
    )


def test_plan_shows_cost_and_what_it_can_tell(make_sweep: Make, lcm: Call, tmp_path: Path) -> None:
    make_sweep()
    code, out, _ = lcm(f"sweep plan {tmp_path}/sweep_sizes.yaml assume.draws=5")
    assert code == 0
    assert "13 runs" in out and "H100 hours at 40% MFU" in out and "USD at 3 an hour" in out
    assert "identified" in out
    assert not (tmp_path / "runs").exists()


def test_status_and_fit_read_a_finished_sweep(finished: Path, lcm: Call, tmp_path: Path) -> None:
    shutil.copytree(finished.parent / "runs", tmp_path / "runs")
    code, out, _ = lcm(f"sweep status {finished} runs_dir={tmp_path}/runs")
    assert (code, "16 finished" in out) == (0, True)
    code, out, err = lcm(f"sweep fit {finished} runs_dir={tmp_path}/runs fit.bootstrap=5")
    assert code == 0, err
    assert f"report: {tmp_path}/runs/sizes/report/scaling.html" in out


def test_cost_tabulates_the_published_sizes(lcm: Call) -> None:
    code, out, _ = lcm("sweep cost --scans 10000 --epochs 200")
    assert code == 0
    assert all(
        f"│ {size} " in out
        for size in ("147m", "294m", "441m", "588m", "735m", "882m", "1b", "1.2b")
    )
    assert all(f"{card} hours" in out for card in ("A100", "H100", "H200"))
    assert "one card" in out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sweep plan missing.yaml", "missing.yaml: no such recipe"),
        (
            "sweep plan sweep_sizes.yaml axes.optim.adaptive.lrr=[1]",
            "unknown key 'optim.adaptive.lrr', did you mean 'lr'",
        ),
        ("sweep plan sweep_sizes.yaml budget.gpu_hours=0", "no point fits the budget"),
        ("sweep run sweep_sizes.yaml --point 99", "has points 1 to 16"),
        ("sweep run sweep_sizes.yaml --point x", "has points 1 to 16"),
        ("sweep fit sweep_sizes.yaml", "none of its 16 points is finished"),
        ("sweep fit sweep_sizes.yaml fit.epoch=best", "one of chosen, last"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_2(
    line: str,
    expected: str,
    make_sweep: Make,
    lcm: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_sweep()
    monkeypatch.chdir(tmp_path)
    code, out, err = lcm(line)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert expected in err
