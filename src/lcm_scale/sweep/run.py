"""Running a sweep: worker processes that take points one after the other, and a table of where
every point stands.

A worker stays up over many points, since importing torch takes longer than training a small one.
The parent hands it a point's number at a time; a worker that dies loses that point alone, which is
tried again by another. A point that is finished is never run again, so the same command goes on
after anything, and a Slurm array (`--point K`) fills the same folders through the same code.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lcm_scale import progress
from lcm_scale.config import dump
from lcm_scale.data.stream import Edges
from lcm_scale.errors import InputError, Stopped
from lcm_scale.files import write_atomic
from lcm_scale.lock import InUse, living_holder
from lcm_scale.sweep.finished import FAILED, is_finished, read_failure, read_result
from lcm_scale.sweep.measure import prepare_point, run_point
from lcm_scale.sweep.plan import Plan
from lcm_scale.sweep.points import Point, Sweep
from lcm_scale.terminal import print
from lcm_scale.training.run_log import LOCK, epochs_of
from lcm_scale.training.signals import StopFlag


@dataclass(frozen=True)
class Outcome:
    """What a call of `run` came to: names of points, and (name, reason) of those that failed."""

    done: tuple[str, ...]
    before: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    busy: tuple[str, ...]


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    point: Point | None = None
    heard: bytes = b""


@dataclass
class _Queue:
    waiting: list[Point]
    tries: dict[str, int] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)


def run(made: Plan, jobs: int, command: Sequence[str]) -> Outcome:
    """Run the points that are not finished, `jobs` at a time.

    Args: command: how a worker is started (`lcm-scale sweep run RECIPE ... --point -`).
    Raises: Stopped where a signal ended it; points in work have good checkpoints then.
    """
    sweep, points = made.sweep, made.runnable
    before = tuple(p.name for p in points if is_finished(sweep.folder_of(p)))
    queue = _Queue([p for p in points if p.name not in before])
    write_atomic(sweep.folder / "sweep.yaml", dump(sweep.recipe).encode())
    numbers = {p.name: number for number, p in enumerate(points, 1)}
    flag = StopFlag()
    with progress.stage(f"sweep {sweep.recipe.name}", len(points), len(before)) as advance, flag:
        _Pool(sweep, queue, jobs, command, numbers, flag, advance).work()
    if flag.raised:
        raise Stopped(
            f"{sweep.folder}: stopped by a signal with {len(before) + len(queue.done)} of "
            f"{len(points)} points done"
        )
    return Outcome(tuple(queue.done), before, tuple(queue.failed), tuple(queue.busy))


def check(made: Plan) -> None:
    """Prepare every point that is not finished, as `run` does, and train none.

    Raises: InputError.
    """
    sources: dict[tuple[str, str | None], Edges] = {}
    points = [p for p in made.runnable if not is_finished(made.sweep.folder_of(p))]
    with progress.stage("check the points", len(points), aside=True) as advance:
        for point in points:
            recipe = made.sweep.recipe_of(point)
            data = (dump(recipe.data), recipe.init_from)
            prepared = prepare_point(made.sweep, point, sources.get(data))
            sources[data] = prepared.opened.source
            if not point.is_baseline:
                with suppress(InUse):  # what runs is in order
                    prepared.run()
            advance()


class _Pool:
    """Keeps `jobs` workers busy until the queue is empty or a signal comes."""

    def __init__(
        self,
        sweep: Sweep,
        queue: _Queue,
        jobs: int,
        command: Sequence[str],
        numbers: dict[str, int],
        flag: StopFlag,
        advance: Any,
    ) -> None:
        self.sweep, self.queue, self.command, self.numbers = sweep, queue, list(command), numbers
        self.flag, self.advance = flag, advance
        self.selector = selectors.DefaultSelector()
        self.log = sweep.folder / "workers.log"
        self.workers = [self._start() for _ in range(min(jobs, len(queue.waiting)))]

    def _start(self) -> Worker:
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "LCM_SWEEP_WORKER": "1"},
            )
        worker = Worker(process)
        assert process.stdout is not None
        self.selector.register(process.stdout, selectors.EVENT_READ, worker)
        self._hand(worker)
        return worker

    def _hand(self, worker: Worker) -> None:
        worker.point = (
            self.queue.waiting.pop(0) if self.queue.waiting and not self.flag.raised else None
        )
        assert worker.process.stdin is not None
        try:
            if worker.point is None:
                worker.process.stdin.close()
            else:
                worker.process.stdin.write(f"{self.numbers[worker.point.name]}\n".encode())
                worker.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died in between; its closed output says so next

    def work(self) -> None:
        signalled = False
        while self.workers:
            if self.flag.raised and not signalled:
                signalled = True
                for worker in self.workers:
                    worker.process.send_signal(signal.SIGTERM)
            for key, _ in self.selector.select(timeout=0.5):
                worker = key.data
                data = os.read(key.fd, 65536)
                if data:
                    worker.heard += data
                    while b"\n" in worker.heard:
                        line, _, worker.heard = worker.heard.partition(b"\n")
                        self._heard(worker, line.decode(errors="replace"))
                else:
                    self._ended(worker)

    def _heard(self, worker: Worker, line: str) -> None:
        """`point: done | busy | wrong REASON`, the worker's whole language."""
        word, _, rest = line.removeprefix("point: ").partition(" ")
        if worker.point is None or not line.startswith("point: "):
            return
        name = worker.point.name
        if word == "done":
            self.queue.done.append(name)
        elif word == "busy":
            self.queue.busy.append(name)
        elif word == "wrong":
            self._give_up(worker.point, rest)
        self.advance(1, note=f"{name} {word}")
        self._hand(worker)

    def _ended(self, worker: Worker) -> None:
        assert worker.process.stdout is not None
        self.selector.unregister(worker.process.stdout)
        code = worker.process.wait()
        self.workers.remove(worker)
        point = worker.point
        if point is None or self.flag.raised:
            return
        tries = self.queue.tries[point.name] = self.queue.tries.get(point.name, 0) + 1
        if tries > self.sweep.recipe.retries:
            self._give_up(
                point,
                f"its process died {tries} times, the last time with exit code {code} (see "
                f"{self.log})",
            )
            self.advance(1, note=f"{point.name} died")
        else:
            self.queue.waiting.insert(0, point)
        if self.queue.waiting:
            self.workers.append(self._start())

    def _give_up(self, point: Point, reason: str) -> None:
        self.queue.failed.append((point.name, reason))
        write_atomic(self.sweep.folder_of(point) / FAILED, json.dumps({"reason": reason}).encode())


def serve(made: Plan) -> None:
    """A worker: points by number from stdin, one word about each to stdout, until stdin ends."""
    points = made.runnable
    for line in sys.stdin:
        try:
            run_one(made.sweep, points[int(line) - 1])
            answer = "done"
        except InUse:
            answer = "busy"
        except InputError as error:
            answer = f"wrong {error}"
        print(f"point: {answer}", flush=True)


def run_one(sweep: Sweep, point: Point) -> None:
    """One point in this process.  Raises: InputError, InUse, Stopped."""
    run_point(sweep, point)
    (sweep.folder_of(point) / FAILED).unlink(missing_ok=True)


# -- status ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """Where a point stands: finished, diverged, running, failed, stopped or waiting; with what is
    known of it."""

    point: Point
    state: str
    epoch: int
    loss: float | None
    note: str = ""


def status(made: Plan) -> list[State]:
    """Every point's state, read from its folder."""
    return [state_of(made.sweep, point) for point in made.runnable]


def state_of(sweep: Sweep, point: Point) -> State:
    folder = sweep.folder_of(point)
    if is_finished(folder):
        facts = read_result(folder)
        name = "diverged" if diverged(facts) else "finished"
        note = f"at step {facts['steps']}" if facts.get("diverged") else _headline(facts)
        return State(point, name, facts.get("epochs", 0), facts["loss"], note)
    if (folder / FAILED).is_file():
        return State(point, "failed", 0, None, read_failure(folder))
    held = living_holder(folder / LOCK) is not None
    log = folder / "log.jsonl"
    if log.is_file():
        epochs, loss = _epochs(log)
        return State(point, "running" if held else "stopped", epochs, loss)
    return State(point, "running" if held else "waiting", 0, None)


def diverged(facts: dict[str, Any]) -> bool:
    """A loss that is no number, or twice what the class frequencies alone would cost."""
    loss = facts["loss"]
    return loss is None or not loss < 2 * facts["chance"]


def _epochs(log: Path) -> tuple[int, float | None]:
    rows = epochs_of(log)
    if not rows:
        return 0, None
    return rows[-1]["epoch"] + 1, rows[-1].get("val_loss", rows[-1]["train_loss"])


def _headline(facts: dict[str, Any]) -> str:
    words = [
        f"{m['target']} {m['metric'].upper()} {m['value']:.3f}"
        for m in facts["metrics"]
        if m["metric"] in ("auroc", "r2")
    ]
    return ", ".join(words[:2])
