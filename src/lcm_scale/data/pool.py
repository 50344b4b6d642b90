"""Work spread over processes whose results come in the order of the items, as from one process.

Few items, or quick ones, are worked on here: a process takes half a second to start. The others
end with this one, however it ends: they wait on a pipe that the system closes when this process is
gone. They start anew (`spawn`), so that nothing is forked while threads run, and have one thread
each, as this one while it works, so that products are the same whoever makes them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from typing import TypeVar

from threadpoolctl import threadpool_limits

from lcm_scale.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

ALONE = 1.0  # seconds of work after which this process looks whether others would help
EACH = 2.0  # seconds of work that each of them should have, to be worth its start
MOST = 16  # processes, where the user does not say how many: this one has to keep up with them
BATCH = 4  # items that are sent at once, where the caller does not say
AHEAD = 4  # batches a process that wait for it, or for this process to take them
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int | None, batch: int = BATCH
) -> Generator[Result, None, None]:
    """What `work` makes of each item, in their order.

    Args:
        work: a function at the top of a module, or a `functools.partial` of one.
        jobs: processes; None: as many as there are processors to use, and as help.
        batch: items that are sent at once.
    Raises: what `work` raises, for the first item in order; InputError where the system ended one
        of the processes. Close the generator (`contextlib.closing`), so that they end with it.
    """
    rest = deque(items)
    spent = 0.0
    with threadpool_limits(1):
        while rest and jobs is None and spent < ALONE:
            start = time.monotonic()
            result = work(rest.popleft())
            spent += time.monotonic() - start
            yield result
        if jobs is None:
            done = len(items) - len(rest)
            expected = len(rest) * spent / max(done, 1)
            jobs = min(len(os.sched_getaffinity(0)), MOST, int(expected / EACH))
        jobs = min(jobs, len(rest))
        yield from _spread(work, rest, jobs, batch) if jobs > 1 else map(work, rest)


def _spread(
    work: Callable[[Item], Result], items: deque[Item], jobs: int, size: int
) -> Generator[Result, None, None]:
    waiting: deque[Future[list[Result | InputError]]] = deque()
    remaining = iter(items)
    with _processes(jobs) as submit:
        try:
            while True:
                while len(waiting) < jobs * AHEAD:
                    batch = list(islice(remaining, size))
                    if not batch:
                        break
                    waiting.append(submit(_worked, work, batch))
                if not waiting:
                    return
                for result in waiting.popleft().result():
                    if isinstance(result, InputError):
                        raise result
                    yield result
        except BrokenProcessPool as error:
            raise InputError(
                f"the system ended one of {jobs} processes at work (was memory short?); the same "
                "command goes on, with --jobs 1 in the least memory"
            ) from error


def _worked(work: Callable[[Item], Result], batch: Sequence[Item]) -> list[Result | InputError]:
    """In another process. A mistake comes after the results before it, as it does in one process,
    and nothing comes after it."""
    done: list[Result | InputError] = []
    for item in batch:
        try:
            done.append(work(item))
        except InputError as error:
            return [*done, error]
    return done


@contextmanager
def _processes(jobs: int) -> Iterator[Callable[..., Future]]:
    """Yields what submits a call to one of so many processes."""
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_end_with, initargs=(theirs,)
    )

    def submit(*call: object) -> Future:
        # Ctrl-C is for this process: a process inherits which signals are held back.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return executor.submit(*call)  # type: ignore[arg-type]  # also starts the processes
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield submit
    except BaseException:
        ours.close()  # ends them now, whatever they are at
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _end_with(parent: Connection) -> None:
    """In another process: end as soon as the other end of a pipe is closed."""

    def wait() -> None:
        parent.poll(None)
        os._exit(1)

    threading.Thread(target=wait, name="end with parent", daemon=True).start()
