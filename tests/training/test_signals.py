"""Signals at every awkward moment, and ranks that hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lcm_scale.cli import app as cli
from lcm_scale.config import Recipe
from lcm_scale.errors import Stopped
from lcm_scale.training import fit as run
from lcm_scale.training.callbacks.save import Save
from lcm_scale.training.callbacks.validate import Validate
from lcm_scale.training.folder import run_folder
from lcm_scale.training.module import LCMModule
from lcm_scale.training.optimizer import TwoStage
from lcm_scale.training.parallel.checkpoint_io import AtomicCheckpointIO
from lcm_scale.training.run_log import read_log
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]
STEPS = 20


def losses(folder: Path) -> list[float]:
    return [event["loss"] for event in read_log(folder / "log.jsonl") if event["event"] == "step"]


def signal_at(
    monkeypatch: pytest.MonkeyPatch, owner: type, method: str, call: int, number: int
) -> None:
    """Send ourselves a signal inside the `call`-th call of a method."""
    real, calls = getattr(owner, method), []

    def wrapped(self, *arguments, **named):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return real(self, *arguments, **named)

    monkeypatch.setattr(owner, method, wrapped)


@pytest.mark.parametrize(
    ("owner", "method", "call", "stops_at"),
    [
        (LCMModule, "training_step", 1, 1),
        (LCMModule, "training_step", 8, 8),
        (TwoStage, "step", 3, 3),
        (Validate, "validate", 2, 11),  # during the second validation: noticed after the next step
        (Save, "save", 1, 6),
        (AtomicCheckpointIO, "save_checkpoint", 2, 11),
        (LCMModule, "training_step", 10, 10),  # the step before the switch of stage
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_at_a_step_with_a_checkpoint_and_nothing_is_lost(
    owner: type,
    method: str,
    call: int,
    stops_at: int,
    number: int,
    recipe: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = run.pretrain(recipe("name=whole"))
    signal_at(monkeypatch, owner, method, call, number)
    with pytest.raises(Stopped, match=rf"at step {stops_at} of {STEPS} with a good checkpoint"):
        run.pretrain(recipe("name=parts"))
    monkeypatch.undo()
    newest = checkpoints.newest(run_folder(recipe("name=parts")) / "checkpoints")
    assert newest is not None
    assert newest.name == f"step-{stops_at:08d}.ckpt"
    assert losses(run.pretrain(recipe("name=parts"))) == losses(whole)


def test_a_signal_in_the_last_step_lets_the_run_finish(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal_at(monkeypatch, LCMModule, "training_step", STEPS, signal.SIGTERM)
    assert len(losses(run.pretrain(recipe()))) == STEPS


def test_handlers_are_as_before_when_a_run_has_ended(recipe: Make) -> None:
    before = [
        signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    ]
    run.pretrain(recipe("trainer.max_steps=1"))
    assert [
        signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    ] == before


def test_the_command_line_exits_75_and_says_that_the_same_command_goes_on(
    monkeypatch, capsys
) -> None:
    def stopped(recipe: object) -> None:
        raise Stopped("runs/x: stopped by a signal at step 3 of 9 with a good checkpoint")

    monkeypatch.setattr("lcm_scale.cost.count.cost", stopped)
    monkeypatch.setattr(sys, "argv", ["lcm-scale", "cost", "model=tiny"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 75
    assert capsys.readouterr().err.strip().endswith("the same command goes on")


STOPPED = """
import pathlib, sys, time
from lcm_scale.training.signals import Watchdog
with Watchdog(pathlib.Path(sys.argv[1]), 0, floor=2.0, factor=1.0) as watchdog:
    watchdog.beat(); watchdog.beat()
    print("beats", flush=True)
    for _ in range(20):
        time.sleep(0.1)
        watchdog.beat()
"""


def test_a_process_that_was_stopped_from_outside_is_not_taken_for_hung(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "beats\n"
    child.send_signal(signal.SIGSTOP)
    time.sleep(7)  # more than the limit of 2 s, and than ten of the watchdog's looks
    child.send_signal(signal.SIGCONT)
    assert child.wait(60) == 0
    assert not (tmp_path / "stacks").exists()


HANGS = """
import sys, time
from lcm_scale.cli import app as cli
from lcm_scale.ranks import rank
from lcm_scale.training.module import LCMModule
real = LCMModule.training_step
def stuck(self, batch, batch_idx):
    if rank() == 1 and self.global_step == 4:
        time.sleep(1000)
    return real(self, batch, batch_idx)
LCMModule.training_step = stuck
cli.main()
"""


@pytest.mark.slow
def test_a_hung_rank_is_noticed_by_all_and_every_stack_is_kept(world: Path, tmp_path: Path) -> None:
    script = tmp_path / "hangs.py"
    script.write_text(HANGS)
    (tmp_path / "empty.yaml").touch()
    command = [
        sys.executable,
        str(script),
        "pretrain",
        str(tmp_path / "empty.yaml"),
        "name=run",
        f"runs_dir={tmp_path}/runs",
        f"data.shards_dir={world}/shards",
        "data=first",
        "model.width=16",
        "model.heads=2",
        "trainer.global_batch=8",
        "trainer.devices=2",
        "trainer.hang_seconds=4",
        "trainer.hang_factor=2",
        "trainer.threads=1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LCM_SALT_FILE": str(world / "salt")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode not in (0, 75)
    assert "has not moved for" in done.stderr
    stacks = {p.name: p.read_text() for p in (tmp_path / "runs" / "run" / "stacks").iterdir()}
    assert set(stacks) == {"rank-0.txt", "rank-1.txt"}
    assert "in stuck" in stacks["rank-1.txt"]
