"""giga_connectome up to 0.4: HDF5 files `[sub-ID_]atlas-NAME_desc-STRATEGY.h5`, of one participant
or of all. (Later versions write tables in BIDS names: reader `bids`.)

A file has a group a participant, and in it a group a session where there are sessions. In those lie
`sub-ID_[ses-S_]task-T[_run-R]_atlas-NAME_desc-PARCELS_timeseries` (volumes, regions) and the same
with `_connectome` (regions, regions; Pearson). The repetition time, an attribute, is not read.

Recipe keys: source.dir, source.pattern (default **/*.h5), source.kind, source.names (a regular
expression that a data set's name must fit: its task or number of parcels), source.tr, source.site,
and source.table: a table of people (`people.py`), joined by participant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, expand
from lcm_scale.data.readers.files import files_of
from lcm_scale.data.readers.matlab import MATLAB
from lcm_scale.data.readers.names import refuse_strangers, scan_of
from lcm_scale.data.readers.numpy_files import refuse_no_table
from lcm_scale.data.readers.people import People, read_people
from lcm_scale.data.recordings import ScanArrays, Skipped, Unread
from lcm_scale.errors import InputError

NAME = re.compile(
    r"sub-(?P<subject>[^_]+)_(?:ses-(?P<session>[^_]+)_)?task-(?P<task>[^_]+)"
    r"(?:_run-(?P<run>[^_]+))?_atlas-[^_]+_desc-(?P<desc>[^_]+)_(?P<what>timeseries|connectome)"
)


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """The scans of source.dir that have as many regions as the atlas, file by file; the task is the
    label `task`.

    Raises: InputError for a missing folder or table, or where no data set fits.
    """
    source = recipe.source
    files = files_of(source, "**/*.h5")
    what = "connectome" if source.kind == "connectivity" else "timeseries"
    found: list[tuple[Path, str, re.Match[str]]] = []
    sizes: dict[str, None] = {}
    for path in files:
        for group in MATLAB.variables(path):
            for part in MATLAB.inside(path, group.name):
                match = NAME.fullmatch(part.name.rpartition(".")[2])
                if match is None or match["what"] != what:
                    continue
                if source.names is not None and not re.search(source.names, match.string):
                    continue
                # Sides stand as in MATLAB, which turns what Python wrote.
                turned = replace(part, shape=part.shape[::-1])
                sizes[f"{match['desc']} {' x '.join(map(str, turned.shape))}"] = None
                if turned.numbers and len(turned.shape) == 2 and turned.shape[1] == atlas.n_regions:
                    refuse_no_table(turned, path)
                    found.append((path, part.name, match))
    if not found:
        held = f"; there are {', '.join(list(sizes)[:8])}" if sizes else ""
        raise InputError(f"{source.dir}: no {what} of {atlas.n_regions} regions{held}")
    wanted = recipe.label_columns()
    people = read_people(expand(source.table), source, wanted) if source.table else People()
    refuse_strangers(people, files, [m["subject"] for _, _, m in found], source.table or "")
    seen: dict[tuple[str | None, ...], str] = {}
    for path, name, match in found:
        said = {key: match[key] for key in ("subject", "session", "run", "task")}
        first = seen.setdefault(tuple(said.values()), f"{path.name}: {match.string}")
        if first != f"{path.name}: {match.string}":
            raise InputError(
                f"{path}: {match.string} and {first} are of one scan; choose with source.names or "
                "source.pattern"
            )
        scan = scan_of(recipe, path, said, people.of(match["subject"]), atlas)
        load = partial(_load, path, name, source.kind == "connectivity")
        # Two tasks of a person are two scans, which session and run alone do not tell.
        yield replace(scan, load=load, run="_".join(filter(None, (match["task"], match["run"]))))


def _load(path: Path, name: str, ready: bool) -> ScanArrays:
    values = MATLAB.read(path, name).T
    return ScanArrays(None, values, None) if ready else ScanArrays(values, None, None)
