"""`lcm-scale sweep <verb>`: argument parsing and printing for sweeps, nothing else."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lcm_scale.cli.show import command_line
from lcm_scale.errors import InputError
from lcm_scale.terminal import one_line, print

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lcm_scale.cost.placement import PublishedCost
    from lcm_scale.sweep.plan import Plan
    from lcm_scale.sweep.run import State

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Plan, run and fit sweeps over sizes, people and rates.",
    epilog="Example: lcm-scale sweep plan recipes/sweep_sizes.yaml",
)

SweepPath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A sweep, for example recipes/sweep_sizes.yaml.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="What to change in it, such as budget.gpu=A100."),
]


@app.command(
    epilog="Example: lcm-scale sweep plan recipes/sweep_sizes.yaml budget.gpu=A100 "
    "budget.gpu_hours=50"
)
def plan(recipe: SweepPath, overrides: Overrides = None) -> None:
    """Show what a sweep would run, cost and find out.

    No shards are needed. Points that do not fit the budget are left out and named.
    """
    from lcm_scale.laws.identify import assumed

    made = _plan(recipe, overrides)
    _print_plan(made)
    print(f"simulating what it can tell ({assumed(made.sweep.recipe)}) ...", flush=True)
    _print_identified(made)
    print(f"next: {command_line('sweep run', recipe, overrides)}")


@app.command(epilog="Example: lcm-scale sweep run recipes/sweep_simulated.yaml --jobs 2")
def run(
    recipe: SweepPath,
    overrides: Overrides = None,
    point: Annotated[
        str,
        typer.Option(
            help="Run this point alone, by its number in the plan (a Slurm array's task)."
        ),
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Points at a time.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the inputs, say what would happen, stop.")
    ] = False,
) -> None:
    """Run the points that are not finished.

    Stopped or killed, the same command goes on. Each point is a run folder of its own.
    """
    made = _plan(recipe, overrides)
    if dry_run:
        from lcm_scale.sweep.run import check

        check(made)
        _print_plan(made)
        print("inputs are in order")
        print(f"next: {command_line('sweep run', recipe, overrides)}")
        return
    from lcm_scale.sweep import run as sweep

    if point == "-":
        sweep.serve(made)
        return
    if point:
        _run_one(made, point)
    else:
        program = [sys.executable, "-m", "lcm_scale.cli", "sweep", "run"]
        command = [*program, str(recipe), *(overrides or []), "--point", "-"]
        outcome = sweep.run(made, jobs, command)
        print(
            f"{made.sweep.folder}: {len(outcome.done)} points run, {len(outcome.before)} were "
            "finished before"
        )
        if outcome.busy:
            print(f"left to another process: {', '.join(outcome.busy)}")
        if outcome.failed:
            name, reason = outcome.failed[0]
            raise InputError(
                f"{len(outcome.failed)} of {len(made.runnable)} points failed, the first {name}: "
                f"{reason}"
            )
    after = "sweep status" if point else "sweep fit"
    print(f"next: {command_line(after, recipe, overrides)}")


@app.command(epilog="Example: lcm-scale sweep status recipes/sweep_simulated.yaml")
def status(
    recipe: SweepPath,
    overrides: Overrides = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and show it anew every few seconds.")
    ] = False,
) -> None:
    """Show where every point stands."""
    from rich.live import Live

    from lcm_scale.sweep import run as sweep

    made = _plan(recipe, overrides)
    states = sweep.status(made)
    if watch and sys.stdout.isatty():
        with Live(_states(states), console=_console(), refresh_per_second=1) as live:
            while any(s.state in ("waiting", "running", "stopped") for s in states):
                time.sleep(3)
                states = sweep.status(made)
                live.update(_states(states))
    else:
        _console().print(_states(states))
    counts = {
        word: sum(s.state == word for s in states)
        for word in dict.fromkeys(s.state for s in states)
    }
    print(", ".join(f"{n} {word}" for word, n in counts.items()))
    done = all(s.state in ("finished", "diverged") for s in states)
    after = "sweep fit" if done else "sweep run"
    print(f"next: {command_line(after, recipe, overrides)}")


@app.command(epilog="Example: lcm-scale sweep fit recipes/sweep_simulated.yaml fit.parameters=body")
def fit(recipe: SweepPath, overrides: Overrides = None) -> None:
    """Fit scaling laws to the finished points, and report.

    The law is chosen by what it foretells of the largest size, which it has not seen.
    """
    from lcm_scale.laws import page
    from lcm_scale.laws.analysis import analyse
    from lcm_scale.laws.collect import collect
    from lcm_scale.laws.tables import tables

    found = analyse(collect(_plan(recipe, overrides)))
    print(page.verdict(found))
    for line in page.warnings(found):
        print(line)
    for table in tables(found):
        print_table(table.heading, table.columns, table.rows)
    print(f"report: {page.write(found)}")
    print(f"next: {command_line('sweep plan', recipe, overrides)}")


@app.command(epilog="Example: lcm-scale sweep cost --scans 10000 --epochs 200")
def cost(
    scans: Annotated[int, typer.Option(min=1, help="Scans of the cohort.")] = 10_000,
    epochs: Annotated[int, typer.Option(min=1)] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Scans a step.")] = 128,
    tokens: Annotated[
        int, typer.Option(min=1, help="BEI tokens: one a category, two of sex, one of age.")
    ] = 25,
    mfu: Annotated[float, typer.Option(min=0.01, max=1.0, help="Share of the card's peak.")] = 0.4,
    price: Annotated[float, typer.Option(min=0.0, help="Of an hour of one card.")] = 3.0,
) -> None:
    """Tabulate what pretraining each published size costs on one A100, H100 or H200.

    The way is the one that `lcm-scale cost` recommends for one such card.
    """
    from lcm_scale.config import BudgetConfig
    from lcm_scale.cost.placement import published_costs

    rows = published_costs(scans, epochs, batch, tokens, BudgetConfig(mfu=mfu, price=price))
    cards = list(dict.fromkeys(r.card for r in rows))
    columns = (
        "size",
        "parameters",
        "GB",
        *(f"{card} hours" for card in cards),
        *(f"{card} money" for card in cards),
        "how",
    )
    table = []
    for size in dict.fromkeys(r.size for r in rows):
        own = [r for r in rows if r.size == size]
        table.append(
            [
                size,
                f"{own[0].parameters:,}",
                "; ".join(dict.fromkeys(f"{r.placement.memory / 1e9:.1f}" for r in own)),
                *(f"{r.placement.card_hours:.2f}" for r in own),
                *(f"{r.placement.card_hours * price:.2f}" for r in own),
                "one card" if all(_plain(r) for r in own) else "see below",
            ]
        )
    title = (
        f"{scans:,} scans x {epochs} epochs, {tokens} tokens, batch {batch}, "
        f"{mfu:.0%} MFU, {price:g} an hour"
    )
    print_table(title, columns, table)
    for size in dict.fromkeys(r.size for r in rows):
        own = [r for r in rows if r.size == size]
        if not all(_plain(r) for r in own):
            print(f"{size}: {_how(own)}")
    print("next: lcm-scale sweep plan recipes/sweep_sizes.yaml")


def _plain(row: PublishedCost) -> bool:
    from lcm_scale.cost.placement import settings

    return row.placement.fits and not settings(row.placement.way)


def _how(rows: Sequence[PublishedCost]) -> str:
    """How one size runs on each card, cards that do it alike together."""
    from lcm_scale.cost.placement import reason, settings

    alike: dict[str, list[str]] = {}
    for row in rows:
        found = row.placement
        words = " ".join(["one card" if found.fits else "more than one card", *settings(found.way)])
        if not found.exact:
            words += f" ({reason(found)})"
        alike.setdefault(words, []).append(row.card)
    return "; ".join(f"{', '.join(cards)} {words}" for words, cards in alike.items())


def _plan(recipe: Path, overrides: list[str] | None) -> Plan:
    from lcm_scale.sweep.plan import plan as make
    from lcm_scale.sweep.points import open_sweep

    return make(open_sweep(recipe, overrides or []))


def _run_one(made: Plan, point: str) -> None:
    from lcm_scale.lock import InUse
    from lcm_scale.sweep import run as sweep

    if not point.isdigit() or not 1 <= int(point) <= len(made.runnable):
        raise InputError(f"--point {point}: the sweep has points 1 to {len(made.runnable)}")
    chosen = made.runnable[int(point) - 1]
    try:
        sweep.run_one(made.sweep, chosen)
    except InUse as busy:
        raise InputError(f"--point {point}: {busy}") from busy
    print(f"{made.sweep.folder_of(chosen)}: done")


def _print_plan(made: Plan) -> None:
    recipe = made.sweep.recipe
    rows = [
        [
            str(number),
            p.point.name,
            f"{p.parameters:,}",
            str(p.people),
            str(p.point.epochs),
            f"{p.flops:.2e}",
            f"{p.hours:.3f}",
        ]
        for number, p in enumerate(made.points, 1)
    ]
    columns = ("", "point", "parameters", "people", "epochs", "FLOPs", f"{recipe.budget.gpu} hours")
    print_table(f"{recipe.name}: {recipe.design}", columns, rows)
    baselines = len(made.runnable) - len(made.points)
    if baselines:
        print(
            f"and {baselines} baselines on the same people (points {len(made.points) + 1} to "
            f"{len(made.runnable)})"
        )
    for name, reason in made.left_out:
        print(f"left out: {name}: {reason}")
    print(
        f"{len(made.points)} runs, {made.flops:.2e} FLOP: {made.hours:.3g} {recipe.budget.gpu} "
        f"hours at {recipe.budget.mfu:.0%} MFU, {made.money:.3g} {recipe.budget.currency} at "
        f"{recipe.budget.price:g} an hour"
    )
    spared = sum(p.spared_hours for p in made.points)
    if spared:
        print(
            f"runs that differ in epochs alone share their stable part: {spared:.3g} hours less "
            "than run one by one"
        )
    for warning in made.warnings:
        print(warning)
    print(f"counted from {made.counted}")


def _print_identified(made: Plan) -> None:
    from lcm_scale.laws.identify import identify

    try:
        found = identify(made)
    except InputError as error:
        print(f"this design cannot be fitted: {error}")
        return
    rows = [
        [
            i.name,
            f"{i.truth:g}",
            f"{i.median:.3g}",
            f"{i.low:.3g} to {i.high:.3g}",
            "yes" if i.known else "no",
        ]
        for i in found
    ]
    print_table(
        "what the design can tell",
        ("", "assumed", "median", "95 % of estimates", "identified"),
        rows,
    )


def _states(states: list[State]) -> Table:
    rows = []
    for s in states:
        epochs = "" if s.point.is_baseline else f"{s.epoch}/{s.point.epochs}"
        loss = "" if s.loss is None else f"{s.loss:.3f}"
        rows.append([s.point.name, s.state, epochs, loss, s.note])
    return _table(None, ("point", "state", "epoch", "loss", ""), rows)


def print_table(title: str, columns: Sequence[str], rows: list[list[str]]) -> None:
    _console().print(_table(title, columns, rows))


def _table(title: str | None, columns: Sequence[str], rows: list[list[str]]) -> Table:
    from rich.table import Table

    table = Table(*map(one_line, columns), title=title and one_line(title), title_justify="left")
    for row in rows:
        table.add_row(*map(one_line, row))
    return table


def _console() -> Console:
    """On a terminal as wide as it is, else 140 columns; words in [brackets] are words."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140, markup=False)
