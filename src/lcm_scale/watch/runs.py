"""The runs below a folder, and where each stands, read from the ends of their logs.

A look costs the same however long a log is: at most `WINDOW` bytes of each run's `log.jsonl`, and
later those alone that came since. A last line that is just being written is read when it is whole.
Nothing of torch is imported.
"""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lcm_scale.errors import InputError
from lcm_scale.lock import living_holder
from lcm_scale.training.run_log import LOCK, Event, event_of

WINDOW = 1 << 16  # bytes of a log's end: some hundred steps
STEPS = 200  # over whose time the pace is taken
NOT_RUNS = {"checkpoints", "tensorboard", "wandb", "mlflow"}  # folders that hold no run
STATES = ("running", "stale", "diverged", "stopped", "ended", "finished")  # as they are listed


@dataclass
class Run:
    """A run as far as its log says.

    Attributes:
        name: of its folder, below the one that is watched.
        step, steps: taken, and of how many.   epoch, epochs: the same, the first epoch is 1.
        loss: of the last step.   train, validation: of the last epoch, None where there is none.
        scans_per_s: over the last steps, else of the last epoch.
        memory_gb: at the most, of one device; the process's on a CPU.
        held: whether a process is at work there.   abandoned: a dead process's lock is left.
        diverged: the log's last event says that the loss is no number.
    """

    folder: Path
    name: str
    step: int = 0
    steps: int = 0
    epoch: int = 0
    epochs: int = 0
    phase: str = ""
    loss: float | None = None
    train: float | None = None
    validation: float | None = None
    scans_per_s: float | None = None
    memory_gb: float | None = None
    held: bool = False
    abandoned: bool = False
    diverged: bool = False
    _end: int = -1  # of the log as read; -1: not yet
    _paces: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=STEPS))

    @property
    def state(self) -> str:
        """One of `STATES`; stale: killed, its lock is held by nobody who lives; ended: by a version
        whose log does not say whether that was all."""
        if self.held:
            return "running"
        if self.diverged:
            return "diverged"
        if self.steps and self.step >= self.steps:
            return "finished"
        if self.abandoned:
            return "stale"
        return "stopped" if self.steps else "ended"

    @property
    def seconds_left(self) -> float | None:
        """By the pace of the last steps; None where nothing runs, or nothing is known yet."""
        if self.state != "running" or len(self._paces) < 2 or not self.steps:
            return None
        (began, first, _), (ended, last, _) = self._paces[0], self._paces[-1]
        if last <= first or ended <= began:
            return None
        return (self.steps - self.step) * (ended - began) / (last - first)

    def look(self) -> None:
        """Read what came since the last look, and see whether somebody is at work."""
        first = self._end < 0
        events = [event for line in self._new_lines() if (event := event_of(line)) is not None]
        for event in events:
            self._take(event)
        if first and self.train is None:
            self._take_row()
        lock = self.folder / LOCK
        there = lock.exists()
        self.held = there and _is_held(lock)
        self.abandoned = there and not self.held

    def _new_lines(self) -> list[bytes]:
        try:
            with open(self.folder / "log.jsonl", "rb") as log:
                size = log.seek(0, os.SEEK_END)
                if size < self._end:  # begun anew
                    self._end = 0
                start = max(self._end, size - WINDOW, 0)
                log.seek(start)
                text = log.read(size - start)
        except OSError:  # just being moved, or the file server is away: the next look tries again
            return []
        if start > max(self._end, 0):
            text = text.partition(b"\n")[2]  # the first line is cut
        whole = text.rpartition(b"\n")[0]
        self._end = size - len(text) + len(whole) + (b"\n" in text)
        return whole.split(b"\n")

    def _take(self, event: Event) -> None:
        name = event["event"]
        self.diverged = name == "diverged"
        if name == "step":
            self.step, self.loss = event["step"], event["loss"]
            self.steps, self.epochs = _whole(event, "of"), _whole(event, "epochs")
            self.epoch, self.phase = _whole(event, "epoch") + 1, str(event.get("phase", ""))
            self._pace(event)
        elif name == "epoch":
            self._take_numbers(event)
        elif name == "resumed":
            self.step = event["step"]
            self._paces.clear()

    def _pace(self, event: Event) -> None:
        time, consumed = event.get("time"), event.get("consumed")
        if not isinstance(time, float | int) or not isinstance(consumed, list):
            return
        if [type(position) for position in consumed] != [int, int]:
            return  # a damaged line that is still JSON
        self._paces.append((float(time), self.step, consumed[1] - consumed[0]))
        passed = self._paces[-1][0] - self._paces[0][0]
        if passed > 0:
            self.scans_per_s = sum(scans for _, _, scans in list(self._paces)[1:]) / passed

    def _take_row(self) -> None:
        """The last epoch's numbers, where its line lies before the window, from metrics.csv."""
        try:
            with open(self.folder / "metrics.csv", "rb") as table:
                head = table.readline(WINDOW)
                size = table.seek(0, os.SEEK_END)
                table.seek(max(len(head), size - WINDOW))
                last = table.read().rstrip(b"\n").rpartition(b"\n")[2]
        except OSError:
            return
        lines = [line.decode(errors="replace") for line in (head, last)]
        for row in csv.DictReader(lines):
            self._take_numbers(row)

    def _take_numbers(self, row: Event) -> None:
        self.train, self.validation = _number(row, "train_loss"), _number(row, "val_loss")
        self.memory_gb = _number(row, "memory_gb")
        if len(self._paces) < 2:
            self.scans_per_s = _number(row, "scans_per_s")


class Watched:
    """The runs below a folder, over several looks."""

    def __init__(self, folder: Path) -> None:
        """Raises: InputError where it is no folder, or may not be read."""
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "not found"
            raise InputError(f"{folder}: {what}; expected a folder of runs, such as runs/")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise InputError(f"{folder}: may not be read; expected a folder of runs, such as runs/")
        self.folder = folder
        self.runs: dict[Path, Run] = {}

    def look(self) -> list[Run]:
        """Every run as it stands now, those at work first, then by name."""
        for folder in folders_of_runs(self.folder):
            name = folder.relative_to(self.folder).as_posix()
            self.runs.setdefault(folder, Run(folder, self.folder.name if name == "." else name))
        for folder in list(self.runs):
            if not folder.is_dir():
                del self.runs[folder]
        for run in self.runs.values():
            run.look()
        return sorted(self.runs.values(), key=lambda run: (STATES.index(run.state), run.name))


def folders_of_runs(folder: Path) -> Iterable[Path]:
    """At any depth: an evaluation's folds and a sweep's points are runs too."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - NOT_RUNS)
        if "log.jsonl" in files:
            yield Path(place)


def _is_held(lock: Path) -> bool:
    try:
        return living_holder(lock) is not None
    except InputError:  # somebody's who does not let us read it
        return True


def _whole(event: Event, key: str) -> int:
    value = event.get(key)
    return value if isinstance(value, int) else 0


def _number(row: Event, key: str) -> float | None:
    try:
        return float(row[key])
    except (KeyError, TypeError, ValueError):
        return None
