"""One progress display for every stage: bars on a terminal, plain lines elsewhere, each with the
time that is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lcm_scale.ranks import is_first
from lcm_scale.terminal import one_line, print

PLAIN_SECONDS = 15.0  # between two plain lines of one stage
# Seconds between two pictures of a bar: ten a second, as rich has it, take 2 % of a core.
BAR_SECONDS = 0.25


def clock(seconds: float) -> str:
    """A duration as people say it, in one or two units: ``2 h 05 min``."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24} h"


@contextmanager
def stage(
    name: str, total: int, done: int = 0, aside: bool = False
) -> Iterator[Callable[..., None]]:
    """Show a stage of `total` steps; yields `advance(steps=1, note="")`.

    A stage may run within another: it is a bar more on the terminal until it ends.

    Args:
        done: steps that are behind already; the pace is that of the others.
        aside: mostly over in a moment, so that it leaves no line where it was.
    """
    if not is_first():
        yield lambda steps=1, note="": None
        return
    told = _Told(name, total, done)
    if sys.stderr.isatty():
        with _bar(told, aside) as advance:
            yield advance
        return
    yield told.advance
    if not aside or told.lines:
        told.end()


class _Told:
    """A stage in plain lines."""

    def __init__(self, name: str, total: int, done: int) -> None:
        self.name, self.total, self.first, self.done = name, total, done, done
        self.start = self.last = time.monotonic()
        self.lines = 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.last < PLAIN_SECONDS:
            return
        self.last, self.lines = now, self.lines + 1
        left = ""
        if self.first < self.done < self.total:
            pace = (now - self.start) / (self.done - self.first)
            left = f", about {clock((self.total - self.done) * pace)} left"
        text = f"{self.name}: {self.done}/{self.total}{left} {note}"
        print(text.rstrip(), file=sys.stderr, flush=True)

    def end(self) -> None:
        text = f"{self.name}: {self.done}/{self.total} in {clock(time.monotonic() - self.start)}"
        print(text, file=sys.stderr, flush=True)


_shown: Progress | None = None  # what is on the terminal: it takes one display at a time


@contextmanager
def _bar(told: _Told, aside: bool) -> Iterator[Callable[..., None]]:
    """A bar of the display, which is made where there is none. A stage within another gives its
    place back when it ends, and leaves a line."""
    global _shown
    outer, bars = _shown, _shown or _display()
    task = bars.add_task(one_line(told.name), total=told.total, completed=told.done, note="")

    def advance(steps: int = 1, note: str = "") -> None:
        told.done += steps
        now = time.monotonic()
        if now - told.last >= BAR_SECONDS or told.done >= told.total:
            told.last = now
            bars.update(task, completed=told.done, note=one_line(note))

    if outer is None:
        bars.start()
        _shown = bars
    try:
        yield advance
        if outer is not None and not aside:
            told.end()
    finally:
        bars.update(task, completed=told.done)
        if outer is not None or aside:
            bars.remove_task(task)
        if outer is None:
            _shown = None
            bars.stop()


def _display() -> Progress:
    columns = (
        TextColumn("{task.description:<34}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    console = Console(stderr=True, markup=False)
    return Progress(*columns, console=console, refresh_per_second=1 / BAR_SECONDS)
