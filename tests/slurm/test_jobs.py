"""The shipped batch scripts on a real Slurm: they come up, survive, go on, and lose no scan."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

Desk = Any  # conftest's

pytestmark = pytest.mark.slurm


def test_two_nodes_pretrain_under_zero_3(desk: Desk) -> None:
    job = desk.submit(
        "pretrain_1b",
        "two",
        "trainer.strategy=zero3",
        "trainer.max_epochs=3",
        options=("--nodes=2",),
    )
    assert desk.cluster.wait(job, {"COMPLETED", "FAILED"}) == "COMPLETED", desk.output(job)
    assert "all-reduce" in desk.output(job)
    assert "2 ranks" in desk.output(job)
    desk.assert_nothing_lost("two", 3)


def test_a_time_limit_warns_requeues_and_the_run_finishes(desk: Desk) -> None:
    """The ranks are paused and the limit is pulled near, so that the warning, for which Slurm looks
    every 30 s, comes in the middle of the run however quick this machine is."""
    options = ("--nodes=2", "--time=10", "--signal=B:USR1@120")
    job = desk.submit("pretrain_147m", "limit", desk.LONG, options=options)
    desk.wait_for_steps("limit", 40, job)
    with desk.paused("limit") as ranks:
        desk.cluster("scontrol", "update", f"jobid={job}", f"timelimit={desk.minutes(job) + 2}")
        desk.wait_for_a_warning(ranks, job)
    desk.cluster.wait(job, {"PENDING", "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"})
    desk.cluster("scontrol", "update", f"jobid={job}", "timelimit=10")
    state = desk.cluster.wait(job, {"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"})
    assert state == "COMPLETED", desk.output(job)
    assert desk.resumes("limit") == 1
    # Two nodes, and no word of a strategy: the pre-flight says the plan, and both starts take it.
    assert desk.output(job).count("ddp on 2 nodes x 1 x CPU") == 4
    desk.assert_nothing_lost("limit", desk.EPOCHS)


def test_a_warning_to_the_batch_shell_requeues_at_once(desk: Desk) -> None:
    job = desk.submit("pretrain_147m", "warned", desk.LONG)
    desk.wait_for_steps("warned", 40, job)
    desk.cluster("scancel", "--signal=USR1", "--batch", job)
    assert desk.cluster.wait(job, {"COMPLETED", "FAILED"}) == "COMPLETED", desk.output(job)
    assert desk.resumes("warned") == 1
    desk.assert_nothing_lost("warned", desk.EPOCHS)


def test_a_job_that_stops_at_once_or_too_often_is_not_requeued(desk: Desk) -> None:
    for site, expected in (
        ({"LCM_MIN_SECONDS": "1000"}, "not requeued"),
        ({"LCM_MAX_REQUEUE": "0"}, "LCM_MAX_REQUEUE"),
    ):
        name = f"capped-{next(iter(site))}"
        with desk.site.open("a") as handle:
            handle.writelines(f"{key}={value}\n" for key, value in site.items())
        job = desk.submit("pretrain_147m", name, desk.LONG)
        desk.wait_for_steps(name, 20, job)
        desk.cluster("scancel", "--signal=USR1", "--batch", job)
        assert desk.cluster.wait(job, {"COMPLETED", "FAILED", "PENDING"}) == "FAILED", desk.output(
            job
        )
        assert expected in desk.output(job)
        shown = desk.cluster("scontrol", "show", "job", job)
        assert shown.partition("ExitCode=")[2].split()[0] == "75:0", desk.output(job)


def test_scancel_then_the_same_command_goes_on(desk: Desk) -> None:
    job = desk.submit("pretrain_147m", "cancelled", desk.LONG, options=("--nodes=2",))
    desk.wait_for_steps("cancelled", 40, job)
    desk.cluster("scancel", job)
    desk.cluster.wait(job, {"CANCELLED"})
    time.sleep(2.0)
    assert desk.cluster.state(job) == "CANCELLED"
    before = desk.steps("cancelled")
    second_job = desk.submit("pretrain_147m", "cancelled", desk.LONG, options=("--nodes=2",))
    assert desk.cluster.wait(second_job, {"COMPLETED", "FAILED"}) == "COMPLETED", desk.output(
        second_job
    )
    assert desk.resumes("cancelled") == 1
    assert desk.steps("cancelled") >= before
    desk.assert_nothing_lost("cancelled", desk.EPOCHS)


def test_a_rank_killed_outright_ends_the_job_and_the_same_command_goes_on(desk: Desk) -> None:
    job = desk.submit(
        "pretrain_147m", "killed", desk.LONG, "trainer.strategy=zero2", options=("--nodes=2",)
    )
    desk.wait_for_steps("killed", 40, job)
    ranks = subprocess.run(
        ["pgrep", "-f", "lcm-scale pretrain .*name=killed"], capture_output=True, text=True
    ).stdout.split()
    subprocess.run(["kill", "-9", ranks[-1]], check=True)
    assert desk.cluster.wait(job, {"COMPLETED", "FAILED", "NODE_FAIL"}) == "FAILED", desk.output(
        job
    )
    second_job = desk.submit(
        "pretrain_147m", "killed", desk.LONG, "trainer.strategy=zero2", options=("--nodes=2",)
    )
    assert desk.cluster.wait(second_job, {"COMPLETED", "FAILED"}) == "COMPLETED", desk.output(
        second_job
    )
    desk.assert_nothing_lost("killed", desk.EPOCHS)


def test_a_node_that_goes_down_sends_the_job_back_to_the_queue_and_it_finishes(desk: Desk) -> None:
    job = desk.submit("pretrain_147m", "down", desk.LONG, options=("--nodes=2",))
    desk.wait_for_steps("down", 40, job)
    desk.cluster("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    desk.cluster.wait(job, {"PENDING"})
    # It may have come back by itself already (ReturnToService), and then refuses to be resumed.
    desk.cluster("scontrol", "update", "nodename=n2", "state=resume", check=False)
    assert desk.cluster.wait(job, {"COMPLETED", "FAILED"}, seconds=240) == "COMPLETED", desk.output(
        job
    )
    assert desk.resumes("down") >= 1
    desk.assert_nothing_lost("down", desk.EPOCHS)


def test_no_edit_reaches_a_job_that_waits_or_comes_back(desk: Desk, checkout: Path) -> None:
    job = desk.submit("pretrain_147m", "queued", desk.LONG, options=("--hold",))
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True
    ).stdout.strip()
    time.sleep(1.1)  # Slurm's clock counts seconds
    cli = checkout / "src" / "lcm_scale" / "cli" / "__init__.py"
    job_script = checkout / "slurm" / "job.sh"
    recipe = checkout / "recipes" / "pretrain_147m.yaml"
    texts = {file: file.read_text() for file in (cli, job_script, recipe)}
    try:
        cli.write_text("raise SystemExit('tomorrow')\n")
        subprocess.run([*git, "commit", "-qam", "tomorrow"], cwd=checkout, check=True)
        job_script.write_text("exit 9\n")  # and not committed
        recipe.unlink()
        desk.cluster("scontrol", "release", job)
        desk.wait_for_steps("queued", 40, job)
        desk.cluster("scontrol", "requeue", job)  # which moves the time of submission
        assert desk.cluster.wait(job, {"COMPLETED", "FAILED"}) == "COMPLETED", desk.output(job)
    finally:
        for file, text in texts.items():
            file.write_text(text)
        subprocess.run([*git, "commit", "-qam", "back"], cwd=checkout, check=True)
    assert desk.resumes("queued") == 1
    assert "submit it again" not in desk.output(job)
    provenance = (desk.runs / "queued" / "provenance.json").read_text()
    assert f'"commit": "{commit}"' in provenance and '"clean_tree": true' in provenance
    desk.assert_nothing_lost("queued", desk.EPOCHS)


def test_a_dirty_tree_is_refused(desk: Desk, checkout: Path) -> None:
    recipe = checkout / "recipes" / "pretrain_147m.yaml"
    text = recipe.read_text()
    try:
        recipe.write_text(text + "# edited\n")
        job = desk.submit("pretrain_147m", "dirty", "trainer.max_epochs=1")
        assert desk.cluster.wait(job, {"COMPLETED", "FAILED"}) == "FAILED"
        assert "edits that are not committed" in desk.output(job)
    finally:
        recipe.write_text(text)


def test_a_pre_flight_that_fails_stops_the_job_before_anything_starts(desk: Desk) -> None:
    job = desk.submit("pretrain_147m", "unready", "data=[nowhere]")
    assert desk.cluster.wait(job, {"COMPLETED", "FAILED"}) == "FAILED"
    assert "not ready: shards nowhere" in desk.output(job)
    assert not (desk.runs / "unready").exists()


def test_finetuning_is_submitted_with_a_recipe_of_ones_own(desk: Desk) -> None:
    first = desk.submit("pretrain_147m", "pre", "trainer.max_epochs=1")
    desk.cluster.wait(first, {"COMPLETED", "FAILED"})
    job = desk.submit(
        "finetune",
        "tuned",
        f"init_from={desk.runs}/pre",
        "data=[second]",
        "trainer.max_epochs=1",
        LCM_RECIPE="recipes/pretrain_147m.yaml",
    )
    assert desk.cluster.wait(job, {"COMPLETED", "FAILED"}) == "COMPLETED", desk.output(job)
    assert (desk.runs / "tuned" / "checkpoints" / "best.ckpt").is_file()


def test_an_array_runs_a_sweep_and_a_killed_point_is_tried_again(desk: Desk) -> None:
    sweep = [
        "recipes/sweep_simulated.yaml",
        "axes={size: [16x1, 24x1], people: [{subjects: 20, epochs: 300}]}",
        "also=[]",
        "baselines=[linear]",
        'overrides=[data=first, trainer.global_batch=8, "evaluate.targets=[diagnosis]"]',
    ]
    array = desk.sbatch("sweep", *sweep, options=("--array=1-3",))
    points = desk.runs / "sweep-simulated" / "points"
    first = points / "16x1-u20-e300-s0"
    desk.wait_for_steps(str(first.relative_to(desk.runs)), 40, f"{array}_1")
    workers = subprocess.run(
        ["pgrep", "-f", "lcm-scale sweep run .*--point 1 "], capture_output=True, text=True
    ).stdout
    assert workers
    subprocess.run(["kill", "-9", *workers.split()], check=True)
    for task in range(1, 4):
        state = desk.cluster.wait(f"{array}_{task}", {"COMPLETED", "FAILED", "CANCELLED"})
        assert state == "COMPLETED", desk.output(f"{array}_{task}")
    assert desk.resumes(first) == 1
    names = sorted(p.parent.name for p in points.glob("*/point.json"))
    assert names == ["16x1-u20-e300-s0", "24x1-u20-e300-s0", "linear-u20-s0-f1"]
    job = desk.sbatch("sweep", *sweep, options=("--array=1-3",)) + "_1"
    assert desk.cluster.wait(job, {"COMPLETED", "FAILED"}) == "COMPLETED", desk.output(job)
    assert desk.resumes(first) == 1, "a finished point ran again"


def test_an_array_evaluates_a_fold_a_task_and_whoever_is_last_reports(desk: Desk) -> None:
    words = [
        "recipes/pretrain_147m.yaml",
        "name=folds",
        *desk.SMALL,
        "trainer.max_epochs=1",
        "evaluate.folds=2",
        "evaluate.bootstrap=20",
        "evaluate.targets=[diagnosis]",
        "evaluate.baselines=[majority]",
    ]
    array = desk.sbatch("evaluate", *words, options=("--array=1-2",))
    for task in (1, 2):
        state = desk.cluster.wait(f"{array}_{task}", {"COMPLETED", "FAILED", "CANCELLED"})
        assert state == "COMPLETED", desk.output(f"{array}_{task}")
    assert (desk.runs / "folds" / "report.html").is_file()
    assert len(list((desk.runs / "folds" / "folds").iterdir())) == 2
