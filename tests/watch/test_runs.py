"""What a watcher sees of runs: the ends of their logs, however long those are and however they
end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lcm_scale.config import Recipe
from lcm_scale.training import fit as run
from lcm_scale.training.run_log import LOCK, append_line
from lcm_scale.watch import runs
from lcm_scale.watch.runs import Run, Watched

Lcm = Callable[[str], tuple[int, str, str]]


def step(number: int, of: int = 100, **more: object) -> str:
    line = {"event": "step", "step": number, "of": of, "epoch": 0, "epochs": 4, "phase": "adaptive"}
    line |= {"consumed": [8 * number - 8, 8 * number], "loss": 1 / number, "time": 10.0 + number}
    return json.dumps(line | more)


def log_of(folder: Path, *lines: str, end: str = "\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("\n".join(lines) + end, encoding="utf-8")
    return folder / "log.jsonl"


def seen(folder: Path) -> Run:
    (found,) = Watched(folder).look()
    return found


def test_a_run_that_is_done_is_finished_with_its_last_numbers(
    recipe: Callable[..., Recipe],
) -> None:
    folder = run.pretrain(recipe("data.validation=0.2"))
    found = seen(folder.parent)
    assert (found.name, found.state, found.phase) == ("run", "finished", "adaptive")
    assert (found.epoch, found.epochs, found.step, found.steps) == (4, 4, 16, 16)
    assert found.train and found.validation and found.memory_gb and found.seconds_left is None


def test_states_follow_from_the_lock_and_the_logs_end(
    tmp_path: Path, held_elsewhere: Callable[[Path], object]
) -> None:
    for name in ("running", "stopped", "killed/folds/fold-1"):
        log_of(tmp_path / name, step(1), step(2), step(3))
    log_of(tmp_path / "done", step(99), step(100))
    log_of(tmp_path / "gone", step(1), json.dumps({"event": "diverged", "step": 2, "reason": "x"}))
    log_of(tmp_path / "old", json.dumps({"event": "step", "step": 3, "loss": 1.0}))
    with held_elsewhere(tmp_path / "killed/folds/fold-1" / LOCK) as process:  # type: ignore[attr-defined]
        process.kill()
        process.wait()
        with held_elsewhere(tmp_path / "running" / LOCK):  # type: ignore[attr-defined]
            found = {each.name: each for each in Watched(tmp_path).look()}
    assert {name: each.state for name, each in found.items()} == {
        "running": "running",
        "killed/folds/fold-1": "stale",
        "gone": "diverged",
        "stopped": "stopped",
        "old": "ended",
        "done": "finished",
    }
    assert next(iter(found)) == "running"
    assert found["running"].seconds_left == pytest.approx(97)  # 97 steps of a second
    assert found["running"].scans_per_s == pytest.approx(8)
    assert found["stopped"].seconds_left is None


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    whole = step(2)
    log = log_of(tmp_path / "a", step(1), whole[:20], end="")
    watched = Watched(tmp_path)
    assert watched.look()[0].step == 1
    with open(log, "a", encoding="utf-8") as file:
        file.write(whole[20:] + "\n")
    assert watched.look()[0].step == 2
    append_line(log, '{"torn')
    append_line(log, step(2, consumed=["a"]))
    append_line(log, step(3))
    assert watched.look()[0].step == 3


def test_a_resume_takes_steps_back_and_a_log_begun_anew_is_read_anew(tmp_path: Path) -> None:
    log = log_of(tmp_path / "a", *(step(n) for n in range(1, 9)))
    watched = Watched(tmp_path)
    assert watched.look()[0].step == 8
    append_line(log, json.dumps({"event": "resumed", "step": 5, "epoch": 0, "world": 1}))
    assert watched.look()[0].step == 5
    log_of(tmp_path / "a", step(1))
    assert watched.look()[0].step == 1


def test_a_look_reads_a_bounded_end_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at first, with the epoch's numbers far behind: they come from the table's end."""
    parsed: list[bytes] = []
    honest = runs.event_of
    monkeypatch.setattr(runs, "event_of", lambda line: (parsed.append(line), honest(line))[1])
    epoch = json.dumps({"event": "epoch", "step": 1, "epoch": 0, "train_loss": 2.0})
    log = log_of(tmp_path / "a", epoch, *(step(n, 20000) for n in range(1, 5001)))
    (tmp_path / "a" / "metrics.csv").write_text("epoch,step,train_loss,val_loss\n0,1,2.0,3.0\n")
    watched = Watched(tmp_path)
    found = watched.look()[0]
    assert (found.step, found.train, found.validation) == (5000, 2.0, 3.0)
    assert sum(map(len, parsed)) <= runs.WINDOW < log.stat().st_size
    parsed.clear()
    append_line(log, step(5001, 20000))
    assert watched.look()[0].step == 5001
    assert len(parsed) == 1


def test_the_table_is_printed_once_for_scripts(lcm: Lcm, tmp_path: Path) -> None:
    log_of(tmp_path / "sweep/points/a", step(1), step(2))
    log_of(
        tmp_path / "b",
        step(100),
        json.dumps({"event": "epoch", "step": 100, "epoch": 0, "train_loss": 0.5}),
    )
    code, out, _ = lcm(f"watch {tmp_path} --once")
    assert code == 0
    rows = [re.split(r" {2,}", line.strip()) for line in out.splitlines() if "/100" in line]
    assert rows == [
        ["sweep/points/a", "stopped", "adaptive", "1/4", "2/100", "0.5", "- / -", "8", "-", "-"],
        ["b", "finished", "adaptive", "1/4", "100/100", "0.01", "0.5 / -", "-", "-", "-"],
    ]
    assert "1 stopped, 1 finished" in out


@pytest.mark.parametrize("name", ["absent", "file"])
def test_what_is_no_folder_is_told_in_one_line(lcm: Lcm, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    code, _, error = lcm(f"watch {tmp_path}/{name} --once")
    assert code == 2 and error.count("\n") == 1
    assert "expected a folder of runs" in error


def test_a_short_terminal_shows_the_first_and_counts_the_rest(tmp_path: Path) -> None:
    from lcm_scale.watch.table import table_of

    for number in range(5):
        log_of(tmp_path / f"run-{number}", step(1))
    table = table_of(Watched(tmp_path).look(), 80, 2)
    assert table.row_count == 2 and [column.header for column in table.columns][:2] == [
        "run",
        "state",
    ]
    assert len(table.columns) < len(table_of([], 140).columns)
    assert table.caption == "5 stopped; 3 of them not shown"
