"""What the verbs share: their common arguments, and how they print."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lcm_scale.ranks import is_first
from lcm_scale.terminal import print

if TYPE_CHECKING:
    from lcm_scale.config import Recipe

RecipePath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A YAML file, for example recipes/demo.yaml.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="What to change in it, such as trainer.max_steps=3."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check the inputs, say what would happen, stop.")
]
Jobs = Annotated[
    int, typer.Option(min=1, help="Processes that make models and baselines, a thread each.")
]


def load_recipe(path: Path, overrides: list[str] | None) -> Recipe:
    from lcm_scale import config

    return config.load(config.Recipe, path, overrides or [])


def command_line(verb: str, recipe: Path, overrides: list[str] | None) -> str:
    """A command as a shell takes it; a verb may be two words, `sweep run`."""
    return shlex.join(["lcm-scale", *verb.split(), str(recipe), *(overrides or [])])


def start_makers() -> None:
    """Let what `--jobs` needs be imported while this process imports and reads what it needs."""
    from lcm_scale.data.pool import start
    from lcm_scale.evaluation import MAKERS

    start(*MAKERS)


def print_once(text: str) -> None:
    """Print once, however many processes run."""
    if is_first():
        print(text)


def print_next(command: str) -> None:
    """Every verb ends with the one command that a person would run next."""
    print_once(f"next: {command}")


def print_plan(
    verb: str,
    composed: Recipe,
    folder: Path,
    recipe: Path,
    overrides: list[str] | None,
    notes: Sequence[str] = (),
) -> None:
    """How a dry run ends."""
    from lcm_scale import config

    print(config.dump(composed), end="")
    for note in notes:
        print(note)
    print(f"inputs are in order; would write {folder}")
    print_next(command_line(verb, recipe, overrides))


def print_pairs(pairs: Mapping[str, Any]) -> None:
    width = max(len(key) for key in pairs)
    for key, value in pairs.items():
        print(f"{key:<{width}}  {value}")
