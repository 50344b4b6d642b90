"""Jobs that meet: two of one name, one that makes room for another, one that comes back while its
successor runs."""

from __future__ import annotations

from typing import Any

import pytest

Desk = Any  # conftest's

pytestmark = pytest.mark.slurm
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"}


def test_the_second_of_two_jobs_of_one_name_is_told_of_the_first(desk: Desk) -> None:
    first = desk.submit("pretrain_147m", "twin", desk.LONG)
    desk.wait_for_steps("twin", 10, first)
    second = desk.submit("pretrain_147m", "twin", desk.LONG)
    assert desk.cluster.wait(second, ENDED) == "FAILED"
    output = desk.output(second)
    assert "in use by process" in output and f"job {first}" in output, output
    shown = desk.cluster("scontrol", "show", "job", second)
    assert shown.partition("ExitCode=")[2].split()[0] == "2:0", output
    assert desk.cluster.wait(first, ENDED) == "COMPLETED", desk.output(first)
    desk.assert_nothing_lost("twin", desk.EPOCHS)


def test_a_preempted_job_goes_on_by_itself(desk: Desk) -> None:
    job = desk.submit("pretrain_147m", "preempted", desk.LONG)
    desk.wait_for_steps("preempted", 40, job)
    everything = ("--partition=high", "--nodes=2", "--exclusive", "--mem=0", "--parsable")
    desk.cluster("sbatch", *everything, "--output=/dev/null", "--wrap", "sleep 1")
    assert desk.cluster.wait(job, ENDED, seconds=240) == "COMPLETED", desk.output(job)
    assert "Slurm has requeued the job" in desk.output(job)
    assert "submit it again" not in desk.output(job)
    assert desk.resumes("preempted") == 1
    desk.assert_nothing_lost("preempted", desk.EPOCHS)


def test_a_job_submitted_again_while_it_is_requeued_loses_nothing(desk: Desk) -> None:
    job = desk.submit("pretrain_147m", "again", desk.LONG)
    desk.wait_for_steps("again", 40, job)
    desk.cluster("scontrol", "requeue", job)
    second = desk.submit("pretrain_147m", "again", desk.LONG)
    for number in (second, job):
        state = desk.cluster.wait(number, ENDED, seconds=240)
        refused = "in use by process" in desk.output(number)
        assert state == ("FAILED" if refused else "COMPLETED"), desk.output(number)
    assert "submit it again" not in desk.output(job)
    assert desk.resumes("again") >= 1
    desk.assert_nothing_lost("again", desk.EPOCHS)
