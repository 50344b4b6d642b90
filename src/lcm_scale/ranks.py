"""Which of several processes this is, read from the environment before any process group exists."""

from __future__ import annotations

import os
import time


def rank() -> int:
    """The global rank as torchrun, Slurm or Lightning's launcher tell it; 0 where there is one
    process."""
    # Lightning's own launcher gives its children LOCAL_RANK and NODE_RANK; the first process of a
    # node has none yet.
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name])
    return int(os.environ.get("LOCAL_RANK", 0)) + int(os.environ.get("NODE_RANK", 0))


def is_first() -> bool:
    """Whether this process writes and prints for all."""
    return rank() == 0


def outlive_first(seconds: float = 10.0) -> None:
    """Wait until the first process of this machine has ended, where it is the one that started this
    one: Lightning kills it if it sees a child end before with an exit code that is not 0, and its
    own exit code would be lost."""
    parent, until = os.getppid(), time.monotonic() + seconds
    started_here = int(os.environ.get("LOCAL_RANK", 0)) > 0 and not under_slurm()
    while started_here and os.getppid() == parent and time.monotonic() < until:
        time.sleep(0.05)


def under_slurm() -> bool:
    """Whether srun started this process (not: whether it runs inside some job)."""
    return "SLURM_PROCID" in os.environ and "SLURM_NTASKS" in os.environ
