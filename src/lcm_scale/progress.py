"""One progress display for every stage: a bar on a terminal, plain lines elsewhere."""

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
def stage(name: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a stage of `total` steps; yields `advance(steps=1, note="")`."""
    if not is_first():
        yield lambda steps=1, note="": None
        return
    if sys.stderr.isatty():
        name = one_line(name)
        columns = (
            TextColumn("{task.description:<34}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=Console(stderr=True, markup=False)) as bar:
            task = bar.add_task(name, total=total, note="")
            yield lambda steps=1, note="": bar.update(task, advance=steps, note=one_line(note))
        return
    start = last = time.monotonic()
    done = 0

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        if now - last >= PLAIN_SECONDS:
            print(f"{name}: {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)
            last = now

    yield advance
    print(
        f"{name}: {done}/{total} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True
    )
