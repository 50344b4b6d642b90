"""How many threads: the recipe's word, then the environment's, then one for narrow models."""

from __future__ import annotations

import os

import pytest

from lcm_scale.hardware import threads


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)


@pytest.mark.parametrize(
    ("width", "processes", "before", "number"),
    [
        (64, 1, None, 1),
        (255, 1, None, 1),
        (256, 1, None, 8),
        (2048, 2, None, 4),
        (2048, 16, None, 1),
        (64, 1, 2, 2),
        (2048, 1, 2, 2),
        (64, 1, 9, 1),
    ],
)
def test_narrow_models_take_one_and_a_run_keeps_what_it_had(
    width: int, processes: int, before: int | None, number: int
) -> None:
    assert threads.usual(width, processes, before).number == number


@pytest.mark.parametrize(
    ("said", "number"),
    [("3", 3), ("4,2", 4), ("", None), ("many", None), ("0", None), ("-2", None)],
)
def test_the_environment_decides_over_the_usual(
    said: str, number: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    found = threads.given(None)
    assert (found.number if found else None) == number
    assert threads.given(5) == threads.Threads(5, "trainer.threads")


def test_of_slurms_promise_no_more_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    assert threads.usual(2048, 1).number == 4
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "16")
    assert threads.usual(2048, 1).number == 8
