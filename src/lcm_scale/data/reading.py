"""Scans' files opened and correlated, by one process or by several, in the order of the scans.

What comes back holds no series and no facts of people: only matrices, and what must be known of the
file. Products are made by one thread a process, so that the numbers do not depend on how many read.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait

import numpy as np
from threadpoolctl import threadpool_limits

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe
from lcm_scale.data.connectivity import Matrix, connectivity_matrices
from lcm_scale.data.readers.columns import are_names
from lcm_scale.data.recordings import Skipped, Unread
from lcm_scale.errors import InputError

FEWEST = 64  # scans a process, below which its start costs more than it reads meanwhile
MOST_JOBS = 8  # beyond it the disk, or the one that writes, is what is waited for
AHEAD = 8  # scans a process that may wait for their turn


@dataclass(frozen=True)
class Numbers:
    """What is kept of a scan's file.

    Attributes:
        digest: SHA-256 of its numbers.   ready: whether it came as a matrix.
        named: whether it names its regions.   remarks: of the file, for the reports.
        matrices: one a window, and windows that were left out.
    """

    digest: bytes
    ready: bool
    named: bool
    remarks: tuple[str, ...]
    matrices: list[Matrix | Skipped]


def read(scan: Unread, recipe: ShardRecipe, atlas: Atlas) -> Numbers | Skipped:
    """A scan's file opened and correlated.

    Raises: InputError where it cannot be used, but where `source.on_error` is skip. The reasons are
        few and name nothing, since they enter the manifest; what the terminal says is the error.
    """
    why = "file that cannot be read"
    try:
        recording = scan.read()
        why = "file that holds no usable scan"
        matrices = connectivity_matrices(recording, recipe.connectivity, atlas)
    except InputError as error:
        if recipe.source.on_error == "stop":
            raise
        return Skipped(str(error), f"{why} (source.on_error: skip)", reported=True)
    ready = recording.connectivity is not None
    values = recording.connectivity if ready else recording.series
    return Numbers(
        digest=hashlib.sha256(np.ascontiguousarray(values).data).digest(),
        ready=ready,
        named=are_names(recording.columns) or bool(recording.region_indices),
        remarks=recording.file_remarks,
        matrices=matrices,
    )


def usual_jobs(scans: int) -> int:
    """Processes that are worth their start: one a usable core, each with some scans to read."""
    return max(1, min(len(os.sched_getaffinity(0)), MOST_JOBS, scans // FEWEST))


def read_all(
    scans: Sequence[Unread], recipe: ShardRecipe, atlas: Atlas, jobs: int
) -> Iterator[Numbers | Skipped]:
    """What `read` gives of each scan, in their order.

    Args: jobs: processes that read; 1: this one alone.
    Raises: InputError as `read`, of the first scan in order that has one, and where a process is
        killed.
    """
    task = partial(read, recipe=recipe, atlas=atlas)
    if jobs == 1:
        with threadpool_limits(1):
            yield from map(task, scans)
        return
    # Not forked: this process may have threads by now, and a fork copies their locks as they are.
    pool = ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_begin
    )
    waiting: deque[Future[Numbers | Skipped]] = deque()
    try:
        for scan in scans:
            waiting.append(pool.submit(task, scan))
            if len(waiting) >= jobs * AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            "a process that reads scans was killed, by the system where memory is short; "
            "--jobs 1 reads them in one process"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Of a reading process: one thread, deaf to Ctrl-C, which the one that collects hears, and gone
    when that one is."""
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=leave_with, args=(parent.sentinel,), daemon=True).start()
