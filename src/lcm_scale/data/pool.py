"""Work spread over processes: results in the order of the items, as from one process, or each as
soon as it is there.

Few items, or quick ones, are worked on here: a process takes time to start. The others end with
this one, however it ends: they wait on a pipe that the system closes when this process is gone.
They have one thread each, as this one while it works, so that products are the same whoever makes
them. One process (`forkserver`) imports what they need, and they are forked from that: it runs no
thread and has opened nothing, and what takes seconds to import is imported once. `start` begins
that early, while this process reads its own data.
"""

from __future__ import annotations

import multiprocessing.forkserver
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from multiprocessing.connection import Connection
from typing import TypeVar

from threadpoolctl import threadpool_limits

from lcm_scale.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

ALONE = 1.0  # seconds of work after which this process looks whether others would help
EACH = 2.0  # seconds of work that each of them should have, to be worth its start
MOST = 16  # processes, where the user does not say how many: this one has to keep up with them
BATCH = 4  # items that are sent at once, where they are quick
AHEAD = 4  # batches a process that wait for it, or for this process to take them
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int | None
) -> Generator[Result, None, None]:
    """What `work` makes of each item, in their order.

    Args:
        work: a function at the top of a module, or a `functools.partial` of one.
        jobs: processes; None: as many as there are processors to use, and as help.
    Raises: what `work` raises, for the first item in order; InputError where the system ended one
        of the processes. Close the generator (`contextlib.closing`), so that they end with it.
    """
    rest = deque(items)
    spent = 0.0
    with threadpool_limits(1):
        while rest and jobs is None and spent < ALONE:
            begun = time.monotonic()
            result = work(rest.popleft())
            spent += time.monotonic() - begun
            yield result
        if jobs is None:
            done = len(items) - len(rest)
            expected = len(rest) * spent / max(done, 1)
            jobs = min(len(os.sched_getaffinity(0)), MOST, int(expected / EACH))
        jobs = min(jobs, len(rest))
        yield from _spread(work, rest, jobs) if jobs > 1 else map(work, rest)


def as_done(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int,
    then: Callable[[Item, Result], Iterable[Item]] | None = None,
) -> Generator[tuple[Item, Result], None, None]:
    """Each item with what `work` makes of it, as soon as it is made.

    Items are asked for when a process is free to begin them, in their order: with the longest
    first, nobody waits for one that was begun last.

    Args:
        work: as `in_order`.   jobs: processes.
        then: what is to be done once an item is made, before all items that were not begun.
    Raises: as `in_order`, but for the first item that fails.
    """
    rest, after = iter(items), deque[Item]()

    def next_ones(most: int) -> list[Item]:
        return list(islice(chain(_taken(after), rest), most))

    with _processes(work, jobs) as submit, _said(jobs):
        begun: dict[Future[list[Result | InputError]], Item] = {}
        while True:
            for item in next_ones(jobs - len(begun)):
                begun[submit(_worked, work, [item])] = item
            if not begun:
                return
            for future in wait(begun, return_when=FIRST_COMPLETED).done:
                item = begun.pop(future)
                (made,) = future.result()
                if isinstance(made, InputError):
                    raise made
                yield item, made
                after.extend(then(item, made) if then else ())


def _taken(queue: deque[Item]) -> Iterator[Item]:
    while queue:
        yield queue.popleft()


def start(*modules: str) -> None:
    """Begin to import what the processes will need, in another one that they are forked from;
    nothing where it runs already.

    Args: modules: by their names; one that cannot be imported is left to who asks for it.
    """
    with _alone():
        multiprocessing.set_forkserver_preload(list(modules))
        multiprocessing.forkserver.ensure_running()


def _spread(
    work: Callable[[Item], Result], items: deque[Item], jobs: int
) -> Generator[Result, None, None]:
    waiting: deque[Future[list[Result | InputError]]] = deque()
    remaining = iter(items)
    with _processes(work, jobs) as submit, _said(jobs):
        while True:
            while len(waiting) < jobs * AHEAD:
                batch = list(islice(remaining, BATCH))
                if not batch:
                    break
                waiting.append(submit(_worked, work, batch))
            if not waiting:
                return
            for result in waiting.popleft().result():
                if isinstance(result, InputError):
                    raise result
                yield result


@contextmanager
def _said(jobs: int) -> Iterator[None]:
    """Raises: InputError where the system ended a process."""
    try:
        yield
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
def _processes(work: Callable[..., object], jobs: int) -> Iterator[Callable[..., Future]]:
    """Yields what submits a call to one of so many processes.

    Args: work: what they will do, whose module is imported for all of them.
    """
    start((work.func if isinstance(work, partial) else work).__module__)
    context = multiprocessing.get_context("forkserver")
    theirs, ours = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_begin, initargs=(theirs, dict(os.environ))
    )

    def submit(*call: object) -> Future:
        with _alone():  # it also starts the processes
            return executor.submit(*call)  # type: ignore[arg-type]

    try:
        yield submit
    except BaseException:
        ours.close()  # ends them now, whatever they are at
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()


@contextmanager
def _alone() -> Iterator[None]:
    """For starting processes, which inherit that they have one thread each, and which signals are
    held back: Ctrl-C is for this one."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin(parent: Connection, environment: dict[str, str]) -> None:
    """In another process: take over what the first one's environment says by now, and end as soon
    as the other end of a pipe is closed."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update({**environment, **ONE_THREAD})

    def wait() -> None:
        parent.poll(None)
        os._exit(1)

    threading.Thread(target=wait, name="end with parent", daemon=True).start()
