"""Runs as a table on a terminal, once or until it is interrupted."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lcm_scale.progress import clock
from lcm_scale.terminal import one_line
from lcm_scale.watch.runs import Run, Watched

# Column -> how wide a terminal must be for it to be shown.
COLUMNS = {
    "run": 0,
    "state": 0,
    "phase": 110,
    "epoch": 0,
    "step": 0,
    "loss": 0,
    "train / val": 100,
    "scans/s": 0,
    "left": 0,
    "GB": 90,
}
COLOURS = {"running": "green", "stale": "yellow", "diverged": "red", "stopped": "yellow"}
FRAME = 5  # lines of the table that are no runs, and the line below it
WIDTH = 140  # where there is no terminal


def print_once(watched: Watched) -> None:
    """One table of all runs."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False)
    console.print(table_of(watched.look(), console.width))


def watch(watched: Watched, seconds: float) -> None:
    """The table, drawn anew every few seconds, until Ctrl-C. What the terminal has no room for is
    counted."""
    console = Console(markup=False)
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            table = table_of(watched.look(), console.width, console.height - FRAME)
            live.update(table, refresh=True)
            time.sleep(seconds)


def table_of(runs: Sequence[Run], width: int, most: int | None = None) -> Table:
    """Args: width: of the terminal.   most: rows that there is room for; None: any number."""
    shown = runs if most is None else runs[: max(1, most)]
    counts = {run.state: sum(other.state == run.state for other in runs) for run in runs}
    said = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no run yet"
    if len(shown) < len(runs):
        said += f"; {len(runs) - len(shown)} of them not shown"
    table = Table(caption=said, caption_justify="left", box=SIMPLE_HEAD)
    columns = [name for name, least in COLUMNS.items() if width >= least]
    for name in columns:
        text = name in ("run", "state", "phase")
        table.add_column(
            name,
            justify="left" if text else "right",
            no_wrap=name != "run",
            overflow="fold",
            min_width=12 if name == "run" else None,
        )
    for run in shown:
        cells = _cells(run)
        table.add_row(*(cells[name] for name in columns))
    return table


def _cells(run: Run) -> dict[str, Text]:
    left = run.seconds_left
    words = {
        "run": run.name,
        "state": run.state,
        "phase": run.phase,
        "epoch": _of(run.epoch, run.epochs),
        "step": _of(run.step, run.steps),
        "loss": _digits(run.loss),
        "train / val": f"{_digits(run.train)} / {_digits(run.validation)}",
        "scans/s": _digits(run.scans_per_s),
        "left": "" if left is None else clock(left),
        "GB": _digits(run.memory_gb),
    }
    cells = {name: Text(one_line(word) or "-") for name, word in words.items()}
    cells["state"].stylize(COLOURS.get(run.state, ""))
    return cells


def _of(part: int, whole: int) -> str:
    return f"{part}/{whole}" if whole else str(part or "")


def _digits(value: float | None) -> str:
    """Three or four of them."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
