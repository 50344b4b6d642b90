"""Files whose names say who and what: a folder of region series or ready matrices, one file a scan.

Recipe keys: source.dir, source.pattern (default: every file of a known kind below dir),
source.names (a regular expression that is searched in a file's path below dir; its group `subject`
is the subject, `session`, `run` and `site` are theirs, every other group by name is a label),
source.kind, source.key, source.tr, source.site, source.drop_columns, and source.table with
source.age_unit, source.sex_map and source.columns: a table of people (`people.py`) whose sex, age
and further columns are joined by subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, expand
from lcm_scale.data.readers.arrays import SUFFIXES, read_scan
from lcm_scale.data.readers.files import matching
from lcm_scale.data.readers.people import Entry, People, read_people
from lcm_scale.data.recordings import SIMULATED_MARKER, Skipped, Unread
from lcm_scale.errors import InputError
from lcm_scale.identity import normalised

FACTS = ("subject", "session", "run", "site")


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """The scans of source.dir, in the order of their paths.

    A file whose name does not fit source.names is skipped and listed; a person whom the table does
    not know has no sex, age or label from it.
    Raises: InputError for a missing folder, table or pattern, a label that both name and table
        have, or a file that cannot be read.
    """
    source = recipe.source
    if not source.names:
        raise InputError("source.names is not set: say how a file's name tells the subject")
    folder = expand(source.dir or "")
    if not source.dir or not folder.is_dir():
        raise InputError(f"source.dir: {source.dir or 'not set'}: no such folder")
    pattern = source.pattern or "**/*"
    table = expand(source.table) if source.table else None
    found = [p for p in matching(folder, pattern) if p.suffix.lower() in SUFFIXES]
    files = [p for p in found if table is None or p.absolute() != table.absolute()]
    if not files:
        raise InputError(f"{folder}: no file of series or matrices fits '{pattern}'")
    wanted = recipe.label_columns()
    people = read_people(table, source, wanted) if table else People()
    twice = set(re.compile(source.names).groupindex) & set(people.columns)
    if twice:
        raise InputError(f"source.names: '{min(twice)}' is a column of {source.table} too")
    refuse_strangers(people, files, _subjects(files, folder, source.names), source.table or "")
    for path in files:
        match = re.search(source.names, path.relative_to(folder).as_posix())
        if match is None or not match["subject"]:
            yield Skipped(path.name, "file name that source.names does not fit")
        else:
            entry = people.of(match["subject"])
            yield scan_of(recipe, path, match.groupdict(), entry, atlas)


def _subjects(files: Sequence[Path], folder: Path, names: str) -> list[str]:
    found = [re.search(names, path.relative_to(folder).as_posix()) for path in files]
    return [match["subject"] for match in found if match is not None and match["subject"]]


def refuse_strangers(
    people: People, files: Sequence[Path], subjects: Sequence[str], table: str
) -> None:
    """Raises: InputError where a table knows none of the files' people: then ids are spelled in two
    ways."""
    if subjects and people.entries and not {normalised(s) for s in subjects} & set(people.entries):
        raise InputError(
            f"{table}: knows nobody of the {len(files)} files; the first file's subject is "
            f"'{subjects[0]}', the table's first is '{next(iter(people.entries))}'"
        )


def scan_of(
    recipe: ShardRecipe,
    path: Path,
    said: Mapping[str, str | None],
    entry: Entry,
    atlas: Atlas,
) -> Unread:
    """One file with what its name says and what the table knows of the person.

    Args: said: `FACTS` by name, and labels.
    """
    person = entry.person
    site = said.get("site") or person.site or recipe.source.site or ""
    labels: dict[str, str | None] = dict(person.labels) | {"site": site or None}
    labels |= {key: value for key, value in said.items() if key not in FACTS}
    return Unread(
        cohort=recipe.cohort or recipe.name,
        subject=said["subject"] or "",
        source=str(path),
        load=partial(read_scan, path, recipe.source, atlas),
        session=said.get("session") or "",
        run=said.get("run") or "",
        site=site,
        tr=recipe.source.tr,
        age=person.age,
        sex=person.sex,
        mean_fd=person.mean_fd,
        labels=labels,
        row=entry.row,
        remarks=person.remarks,
        simulated=(path.parent / SIMULATED_MARKER).is_file(),
    )
