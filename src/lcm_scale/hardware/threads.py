"""With how many threads a process computes on a CPU."""

from __future__ import annotations

import os
from dataclasses import dataclass

# Narrower models take one. Two threads gave a model of width 64 a ninth more speed on two idle
# cores and took a third of it at 128; beside a second such job they ran at a sixteenth and at a
# third of it, since they wait for each other at every product (benchmarks/threads.py).
ONE_BELOW = 256
VARIABLE = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Threads:
    """How many, and in words who says so."""

    number: int
    why: str


def given(asked: int | None) -> Threads | None:
    """What the recipe says, else the environment; None where neither does.

    Args: asked: ``trainer.threads``.
    """
    if asked is not None:
        return Threads(asked, "trainer.threads")
    first = os.environ.get(VARIABLE, "").split(",")[0].strip()  # a list is one a level of nesting
    return Threads(int(first), VARIABLE) if first.isdecimal() and int(first) else None


def usual(width: int, processes: int, before: int | None = None) -> Threads:
    """What a process takes that nobody told.

    Args:
        width: of the model.   processes: that share what the scheduler granted.   before: what the
            run took before it was stopped, which it keeps, so that its numbers stay the same.
    """
    cores = max(1, granted() // processes)
    if before is not None and before <= cores:
        return Threads(before, "as before it was stopped")
    if width < ONE_BELOW:
        return Threads(1, f"usual below width {ONE_BELOW}; trainer.threads sets another number")
    return Threads(cores, f"usual from width {ONE_BELOW} on; trainer.threads sets another number")


def granted() -> int:
    """Cores that this process may use: what the scheduler bound it to, and what it was promised,
    since not every Slurm binds."""
    cores = len(os.sched_getaffinity(0))
    promised = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(cores, int(promised)) if promised.isdecimal() and int(promised) else cores
