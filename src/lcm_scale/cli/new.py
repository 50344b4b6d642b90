"""The verb `new`: from a folder of files to recipes, and the commands to a first report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lcm_scale.cli.show import print_pairs
from lcm_scale.errors import InputError
from lcm_scale.terminal import print

if TYPE_CHECKING:
    from lcm_scale.layouts.found import Found
    from lcm_scale.layouts.survey import Survey

RECIPES = Path("recipes")


def new(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A folder of files, or a table that lists them."),
    ],
    name: Annotated[
        str, typer.Option("--name", help="Of the set and the run; default: after the folder.")
    ] = "",
) -> None:
    """Look at a folder, say what it holds, write its recipes.

    What the folder does not tell stands in the recipes as a question.
    """
    from lcm_scale.config.fields import SET_NAME
    from lcm_scale.layouts import recognised
    from lcm_scale.layouts.recipes import run_recipe, shard_recipe
    from lcm_scale.layouts.survey import survey

    found = recognised(folder)
    name = name or re.sub(r"[^\w]+", "-", found.name).strip("-").lower() or "new"
    if not SET_NAME.fits(name):
        raise InputError(f"--name {name}: {SET_NAME.sentence}")
    data, run = RECIPES / "data" / f"{name}.yaml", RECIPES / f"{name}.yaml"
    regions = RECIPES / "data" / f"{name}_regions.csv"
    for path in (data, run, regions):
        if path.exists():
            raise InputError(f"{path}: exists and is left alone; give another --name")
    seen = survey(found, name)
    print_pairs(_said(found, seen))
    atlas = found.regions.atlas or regions.as_posix()
    two_stage = (RECIPES / "optim" / "two_stage.yaml").is_file()
    written = {
        data: shard_recipe(found, seen, name, atlas),
        run: run_recipe(found, seen, name, two_stage),
    }
    if not found.regions.atlas:
        written[regions] = _table_of(found.regions.names)
    _write(written)
    print(f"written: {', '.join(path.as_posix() for path in written)}")
    for line in (
        f"lcm-scale shard {data} --dry-run",
        f"lcm-scale shard {data}",
        f"lcm-scale evaluate {run} --dry-run",
        f"lcm-scale evaluate {run}",
    ):
        print(f"next: {line}")


def _table_of(names: tuple[str, ...]) -> str:
    from lcm_scale.csv_text import csv_text

    return csv_text({"index": i, "name": region} for i, region in enumerate(names, 1))


def _write(texts: dict[Path, str]) -> None:
    from lcm_scale.files import write_atomic

    for path, text in texts.items():
        write_atomic(path, text.encode())


def _said(found: Found, seen: Survey) -> dict[str, Any]:
    """What was found, a line each."""
    facts: dict[str, Any] = {"layout": found.layout}
    if seen.refused:
        facts["scans"] = f"not listed: {seen.refused}"
    else:
        facts["scans"] = f"{seen.scans} of {seen.people} people"
    facts |= {f"left out, {why}": count for why, count in seen.skipped.items()}
    facts["regions"] = f"{found.regions.atlas or 'a table of their names'}: {found.regions.why}"
    if not seen.refused:
        times = ", ".join(f"{tr:g} s" for tr in sorted(seen.trs)) or "not known"
        facts["repetition time"] = times
        facts |= {f"group {c.name}": _words(c.words) for c in seen.groups}
        facts |= {f"scalar {c.name}": f"{len(c.words)} numbers" for c in seen.scalars}
        facts["age"] = _range(seen.ages, seen.scans)
        facts["sex"] = _words(seen.sexes) or "not known"
        facts["displacement"] = f"of {seen.fds} scans" if seen.fds else "not known"
    asked = [question.text for question in found.questions]
    asked += [found.regions.question] if found.regions.question else []
    return facts | {f"question {i}": text for i, text in enumerate(asked, 1)}


def _words(words: dict[str, int]) -> str:
    return ", ".join(f"{word} {count}" for word, count in words.items())


def _range(ages: tuple[float, ...], scans: int) -> str:
    if not ages:
        return "not known"
    missing = f", missing {scans - len(ages)}" if len(ages) < scans else ""
    return f"{min(ages):g} to {max(ages):g} years{missing}"
