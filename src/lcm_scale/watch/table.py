"""Runs as a table on a terminal, once or until it is interrupted."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lcm_scale.progress import clock
from lcm_scale.terminal import one_line
from lcm_scale.watch.runs import Run, Watched

COLUMNS = ("run", "state", "phase", "epoch", "step", "loss", "train / val", "scans/s", "left", "GB")
COLOURS = {"running": "green", "stale": "yellow", "diverged": "red", "stopped": "yellow"}
FRAME = 5  # lines of the table that are no runs, and the line below it
WIDTH = 140  # where there is no terminal


def print_once(watched: Watched) -> None:
    """One table of all runs."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False)
    console.print(table_of(watched.look()))


def watch(watched: Watched, seconds: float) -> None:
    """The table, drawn anew every few seconds, until Ctrl-C. What the terminal has no room for is
    counted."""
    console = Console(markup=False)
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            live.update(table_of(watched.look(), console.height - FRAME), refresh=True)
            time.sleep(seconds)


def table_of(runs: Sequence[Run], most: int | None = None) -> Table:
    """Args: most: rows that there is room for; None: any number."""
    shown = runs if most is None else runs[: max(1, most)]
    counts = {run.state: sum(other.state == run.state for other in runs) for run in runs}
    said = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no run yet"
    if len(shown) < len(runs):
        said += f"; {len(runs) - len(shown)} of them not shown"
    table = Table(caption=said, caption_justify="left")
    for name in COLUMNS:
        text = name in COLUMNS[:3]
        table.add_column(name, justify="left" if text else "right", no_wrap=name != "run")
    for run in shown:
        table.add_row(*_cells(run))
    return table


def _cells(run: Run) -> list[Text]:
    left = run.seconds_left
    words = (
        run.name,
        run.state,
        run.phase,
        _of(run.epoch, run.epochs),
        _of(run.step, run.steps),
        _digits(run.loss),
        f"{_digits(run.train)} / {_digits(run.validation)}",
        _digits(run.scans_per_s),
        "" if left is None else clock(left),
        _digits(run.memory_gb),
    )
    cells = [Text(one_line(word)) for word in words]
    cells[1].stylize(COLOURS.get(run.state, ""))
    return cells


def _of(part: int, whole: int) -> str:
    return f"{part}/{whole}" if whole else str(part or "")


def _digits(value: float | None) -> str:
    """Three or four of them."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
