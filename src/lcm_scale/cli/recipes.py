"""The verbs of shipped recipes: list them, copy some; they parse and print, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lcm_scale.cli.show import print_next
from lcm_scale.terminal import print

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List the recipes that come with the package, or copy some.",
    epilog="Example: lcm-scale recipes copy demo data/demo_pretrain",
)


@app.command("list", epilog="Example: lcm-scale recipes list")
def list_recipes() -> None:
    """Every recipe and what it is for."""
    from lcm_scale import shipped

    found = shipped.names()
    width = max(map(len, found))
    for name in found:
        print(f"{name:<{width}}  {shipped.purpose(name)}")
    print(f"{shipped.SLURM:<{width}}  Job scripts for sbatch, and an example of site.env")
    print_next("lcm-scale recipes copy NAME")


@app.command("copy", epilog="Example: lcm-scale recipes copy abide_small data/abide slurm")
def copy(
    names: Annotated[list[str], typer.Argument(help="As listed, or slurm for the job scripts.")],
    to: Annotated[Path, typer.Option(help="The folder that gets recipes/ and slurm/.")] = Path(),
) -> None:
    """Write recipes, with what they lie on, into recipes/ of this folder."""
    from lcm_scale import shipped

    written = shipped.copy(names, to)
    for path in written:
        print(f"written: {path}")
    if "data" in written[0].parts:
        print_next(f"lcm-scale shard {written[0]} --dry-run")
    elif shipped.SLURM in written[0].parts:
        print_next(f"sbatch {next(p for p in written if p.name == 'pretrain_1b.sh')} data=SET")
    else:
        print_next("the command in the recipe's first lines")
