"""The verb that shows how runs stand: it parses and prints, nothing else."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer


def watch(
    folder: Annotated[Path, typer.Argument(help="Runs lie in it, at any depth.")] = Path("runs"),
    once: Annotated[bool, typer.Option("--once", help="Print one table and end.")] = False,
    seconds: Annotated[float, typer.Option(min=0.2, help="Between two looks.")] = 2.0,
) -> None:
    """A live table of running and finished runs, folds and sweep points among them.

    Elsewhere than on a terminal it is printed once. Ctrl-C ends it; the runs go on.
    """
    from lcm_scale.watch import table
    from lcm_scale.watch.runs import Watched

    watched = Watched(folder)
    if once or not sys.stdout.isatty():
        return table.print_once(watched)
    with contextlib.suppress(KeyboardInterrupt):
        table.watch(watched, seconds)
