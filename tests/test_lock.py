"""One process at a folder: who holds it is named, a dead holder's lock is taken over, and nobody
else's is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from lcm_scale import lock
from lcm_scale.config import Recipe, dump
from lcm_scale.errors import InputError
from lcm_scale.lock import DEAD, Holder, InUse, check_free, holding, living_holder
from lcm_scale.training import fit as run
from lcm_scale.training.run_log import LOCK, read_log

Held = Callable[[Path], AbstractContextManager[subprocess.Popen[str]]]
MakeRecipe = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC"))]:
        monkeypatch.delenv(name)


def left_by(file: Path, holder: Holder, silence: float = 0.0) -> None:
    """A lock as such a holder leaves it, last touched so many seconds ago."""
    file.write_text(json.dumps(asdict(holder)))
    stat = file.stat()
    os.utime(file, (stat.st_atime, stat.st_mtime - silence))


def elsewhere(**facts: Any) -> Holder:
    return replace(Holder.me(), host="n17", boot="another", process="4711.99", **facts)


def test_a_holder_that_lives_is_named(tmp_path: Path, held_elsewhere: Held) -> None:
    file = tmp_path / LOCK
    with held_elsewhere(file) as process:
        with pytest.raises(InUse, match=f"in use by process {process.pid} on "), holding(file):
            pass
        with pytest.raises(InUse):
            check_free(file)
    assert not file.exists()
    with holding(file):
        assert living_holder(file) == Holder.me()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holders_lock_is_taken_over_at_once(tmp_path: Path, held_elsewhere: Held) -> None:
    file = tmp_path / LOCK
    with held_elsewhere(file) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert file.exists()
        with holding(file):
            assert living_holder(file) == Holder.me()


def test_who_was_killed_while_taking_over_is_not_waited_for(
    tmp_path: Path, held_elsewhere: Held
) -> None:
    file, turn = tmp_path / LOCK, tmp_path / f"{LOCK}.turn"
    with held_elsewhere(file) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        turn.write_bytes(file.read_bytes())
        with holding(file):
            assert living_holder(file) == Holder.me()
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_another_process_has_now_is_not_the_holder(tmp_path: Path) -> None:
    file = tmp_path / LOCK
    left_by(file, replace(Holder.me(), process=f"{os.getppid()}.1"))
    with holding(file):
        pass


def test_a_holder_on_another_host_lives_as_long_as_it_is_heard_of(tmp_path: Path) -> None:
    file = tmp_path / LOCK
    left_by(file, elsewhere(job="812"), silence=DEAD - 20)
    with pytest.raises(InUse, match=r"process 4711 on n17, job 812, last heard of 1\d\d s ago"):
        check_free(file)
    left_by(file, elsewhere(job="812"), silence=DEAD + 20)
    with holding(file):
        pass


def test_a_requeued_job_takes_over_from_itself_and_another_step_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / LOCK
    monkeypatch.setenv("SLURM_JOB_ID", "812")
    left_by(file, elsewhere(launch="812.0"))
    with pytest.raises(InUse):
        check_free(file)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with holding(file):
        pass


def test_the_other_ranks_of_a_run_pass_and_those_of_another_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / LOCK
    left_by(file, elsewhere(job="812", launch="812.0"))
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    for job, passes in (("812", True), ("813", False)):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        if passes:
            check_free(file)
        else:
            with pytest.raises(InUse, match="job 812"):
                check_free(file)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1}', "\x00" * 9000])
def test_a_lock_that_says_nothing_counts_by_its_age(tmp_path: Path, content: str) -> None:
    file = tmp_path / LOCK
    file.write_text(content)
    with pytest.raises(InUse, match="an unknown host"):
        check_free(file)
    os.utime(file, (0, file.stat().st_mtime - DEAD - 5))
    with holding(file):
        pass


def test_one_of_many_takes_over(tmp_path: Path) -> None:
    """Twelve processes find a dead holder's lock at the same moment, and hold on to what they got."""
    file, word = tmp_path / LOCK, tmp_path / "go"
    left_by(file, elsewhere(), silence=DEAD + 20)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom lcm_scale.lock import InUse, holding\n"
        "print('ready', flush=True)\n"
        "while not Path(sys.argv[2]).exists(): pass\n"
        "try:\n    with holding(Path(sys.argv[1])):\n        print('took', flush=True)\n"
        "        sys.stdin.read()\nexcept InUse: print('refused', flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(file), str(word)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    several = [subprocess.Popen(command, **pipes) for _ in range(12)]  # type: ignore[call-overload]
    for process in several:
        assert process.stdout.readline() == "ready\n"
    word.touch()
    answers = sorted(process.stdout.readline() for process in several)
    for process in several:
        process.communicate()
    assert answers == ["refused\n"] * 11 + ["took\n"]


def test_who_was_asleep_learns_that_it_lost_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / LOCK
    with holding(file) as mine:
        assert mine is not None
        mine.check()
        left_by(file, elsewhere())
        mine.check()  # heard of a moment ago: no time to look at the file at every step
        later = lock._now() + 10 * DEAD
        monkeypatch.setattr(lock, "_now", lambda: later)
        with pytest.raises(InputError, match="taken over by process 4711 on n17"):
            mine.check()
    assert file.exists()  # it is the other's


def test_a_lock_that_was_removed_by_hand_comes_back(tmp_path: Path) -> None:
    file = tmp_path / LOCK
    with holding(file) as mine:
        assert mine is not None
        file.unlink()
        mine._beat()
        assert living_holder(file) == Holder.me()
        mine.check()


def test_a_second_run_in_a_folder_is_refused_and_the_first_is_whole(
    recipe: MakeRecipe, held_elsewhere: Held, tmp_path: Path
) -> None:
    made = recipe()
    prepared = run.prepare(made)
    folder = prepared.folder
    with held_elsewhere(folder / LOCK):
        for start in (lambda: run.prepare(made), lambda: run.fit(prepared)):
            with pytest.raises(InUse, match="in use by process"):
                start()
        (tmp_path / "again.yaml").write_text(dump(made))
        command = [sys.executable, "-m", "lcm_scale.cli", "pretrain", str(tmp_path / "again.yaml")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert [path.name for path in folder.iterdir()] == [LOCK]
    result = run.fit(prepared)
    steps = [e["step"] for e in read_log(folder / "log.jsonl") if e["event"] == "step"]
    assert steps == list(range(1, result.steps + 1))
    assert not (folder / LOCK).exists()


def test_a_run_that_was_prepared_before_another_went_on_begins_nothing(recipe: MakeRecipe) -> None:
    prepared = run.prepare(recipe())
    run.fit(run.prepare(recipe()))
    before = (prepared.folder / "log.jsonl").read_bytes()
    with pytest.raises(InputError, match="another run went on from here"):
        run.fit(prepared)
    assert (prepared.folder / "log.jsonl").read_bytes() == before


def test_a_lock_that_could_not_be_written_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk: once there is room again, nobody is waited for."""
    with monkeypatch.context() as patch:
        patch.setattr(lock, "asdict", lambda holder: (_ for _ in ()).throw(OSError(28, "No space")))
        with pytest.raises(InputError, match="cannot be written"), holding(tmp_path / "lock"):
            pass
    assert list(tmp_path.iterdir()) == []
    with holding(tmp_path / "lock"):
        pass
