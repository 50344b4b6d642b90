"""Where a run of two ranks ends early, both end: one line, one exit code, no traceback, and what was
saved stays good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lcm_scale.weights import checkpoints

Run = Callable[..., Path]
ONE_PHASE = "phases=[{name: a, epochs: 1}]"  # 3 steps
TWO = ("trainer.devices=2", "data=first", "optim.clip_norm=null", "trainer.checkpoint_steps=1")

# The first rank's disk is full when it writes the checkpoint of the second step.
FULL = """
import os
from lcm_scale.cli import app as cli
from lcm_scale.weights import checkpoints
real = checkpoints.write_file
def write(data, path):
    if path.name == "step-00000002.ckpt":
        path.with_name(f".{path.name}.{os.getpid()}.partial").symlink_to("/dev/full")
    real(data, path)
checkpoints.write_file = write
cli.main()
"""

# The second rank's machine has less memory.
LITTLE = """
import os
from lcm_scale.cli import app as cli
if os.environ.get("LOCAL_RANK") == "1":
    os.environ["SLURM_MEM_PER_NODE"] = "5"
cli.main()
"""

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def the_one_line(folder: Path) -> str:
    """What a run said when it ended; nobody else said anything of it."""
    said = folder.with_suffix(".err").read_text()
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "error: " in line]
    return line


@pytest.mark.parametrize("strategy", ["ddp", "zero3"])
def test_a_run_that_diverges_stops_on_both_ranks(strategy: str, run_cli: Run) -> None:
    folder = run_cli(
        "run",
        *TWO,
        f"trainer.strategy={strategy}",
        "optim.adaptive.lr=1e30",
        phases=ONE_PHASE,
        code=2,
    )
    line = the_one_line(folder)
    assert "run: the loss is nan at step 2 (all targets, phase a, optim.adaptive.lr 1e+30)" in line
    (kept,) = (folder / "checkpoints").iterdir()
    assert kept.name == "step-00000001.ckpt" and not checkpoints.unsound(kept)


def test_a_full_disk_is_told_by_the_rank_that_writes_alone(run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "full.py").write_text(FULL)
    spread = (*TWO, "trainer.strategy=zero2")
    folder = run_cli("run", *spread, phases=ONE_PHASE, script=tmp_path / "full.py", code=2)
    assert "step-00000002.ckpt: cannot be written (No space left on device)" in the_one_line(folder)
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-00000001.ckpt"]


def test_a_log_on_a_full_disk_ends_both_ranks(run_cli: Run, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    (folder / "log.jsonl").symlink_to("/dev/full")
    run_cli("run", *TWO, phases=ONE_PHASE, code=2)
    assert "log.jsonl: cannot be written (No space left on device)" in the_one_line(folder)
    assert not list(folder.glob("checkpoints/*"))


def test_a_gradient_that_deepspeed_would_pass_over_ends_the_run(run_cli: Run) -> None:
    """It leaves the step out and goes on; the scans would count as trained on."""
    overflows = "objective.weights={diagnosis: 1e38}"
    spread = ("data=first", "trainer.strategy=zero2", "trainer.precision=32-true")
    folder = run_cli("run", *spread, overflows, phases=ONE_PHASE, code=2)
    assert "a gradient of a finite loss is not finite at step 1 (phase a" in the_one_line(folder)
    assert not list(folder.glob("checkpoints/*"))


def test_ranks_that_chose_two_strategies_end_before_they_wait_for_each_other(
    run_cli: Run, tmp_path: Path
) -> None:
    (tmp_path / "little.py").write_text(LITTLE)
    spread = (*TWO, "trainer.global_batch=24")
    folder = run_cli("run", *spread, phases=ONE_PHASE, script=tmp_path / "little.py", code=2)
    line = the_one_line(folder)
    assert "the ways that they chose (trainer.strategy=ddp; trainer.strategy=zero1" in line
    assert not list(folder.glob("checkpoints/*"))
