"""MATLAB files, one a subject: a table of (time, regions) or (regions, time), or a ready matrix
(source.kind).

Recipe keys: source.dir, source.pattern (default *.mat), source.key (default: the one variable that
fits the atlas), source.kind, source.subject_pattern (a regular expression on the file's name whose
group is the subject), source.tr, source.site, source.phenotypes (the ABIDE CSV, joined by SUB_ID)
or source.table (any table with a column `subject`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, expand
from lcm_scale.data.readers.arrays import read_scan
from lcm_scale.data.readers.phenotypes import ABIDE_COLUMNS, Person, abide_person, read_rows
from lcm_scale.data.readers.table import scan_row
from lcm_scale.data.recordings import SIMULATED_MARKER, Skipped, Unread
from lcm_scale.errors import InputError
from lcm_scale.identity import normalised


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """The scans of source.dir, in the order of their file names; then the table's rows that have
    none.

    Raises: InputError for a missing folder, a file of another atlas, or a variable that cannot be
        told.
    """
    source = recipe.source
    folder = expand(source.dir or "")
    if not source.dir or not folder.is_dir():
        raise InputError(
            f"source.dir: {source.dir or 'not set'}: no such folder; name the folder of .mat files"
        )
    pattern = source.pattern or "*.mat"
    files = sorted(folder.glob(pattern))
    if not files:
        raise InputError(f"{folder}: no file fits source.pattern '{pattern}'")
    people = _people(recipe)
    seen = set()
    for path in files:
        subject = _subject(path, source.subject_pattern)
        seen.add(normalised(subject))
        person = Person(subject) if people is None else people.get(normalised(subject))
        if person is None:
            yield Skipped(path.name, "file without a row in the table")
        else:
            yield _scan(recipe, path, person, atlas)
    for subject in people or {}:
        if subject not in seen:
            yield Skipped(f"row of subject {subject}", "table row without a file")


def _scan(recipe: ShardRecipe, path: Path, person: Person, atlas: Atlas) -> Unread:
    source = recipe.source
    return Unread(
        cohort=recipe.cohort or recipe.name,
        subject=person.subject,
        source=str(path),
        load=partial(read_scan, path, source, atlas),
        site=person.site or source.site or "",
        tr=source.tr,
        age=person.age,
        sex=person.sex,
        mean_fd=person.mean_fd,
        labels=person.labels,
        simulated=(path.parent / SIMULATED_MARKER).is_file(),
    )


def _subject(path: Path, pattern: str | None) -> str:
    if path.name != path.name.encode(errors="replace").decode():
        raise InputError(f"{path.parent}: the file name {path.name!a} is no UTF-8; rename it")
    if pattern is None:
        return path.stem
    try:
        match = re.search(pattern, path.name)
    except re.error as error:
        raise InputError(
            f"source.subject_pattern '{pattern}': no regular expression ({error})"
        ) from error
    if match is None or not match.groups() or not match.group(1):
        raise InputError(
            f"{path}: source.subject_pattern '{pattern}' finds no group in the file's name"
        )
    return match.group(1)


def _people(recipe: ShardRecipe) -> dict[str, Person] | None:
    """Subject -> what the recipe's table knows; None where the recipe names no table."""
    if recipe.source.phenotypes:
        rows = read_rows(expand(recipe.source.phenotypes), ABIDE_COLUMNS)
        people = [abide_person(row, recipe.label_columns()) for row in rows]
    elif recipe.source.table:
        people = [
            scan_row(row).person for row in read_rows(expand(recipe.source.table), ("subject",))
        ]
    else:
        return None
    return {
        normalised(person.subject): replace(person, subject=normalised(person.subject))
        for person in people
    }
