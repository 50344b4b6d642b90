"""MATLAB files, one a subject: a table of (time, regions) or (regions, time), or a ready matrix
(source.kind).

Recipe keys: source.dir, source.pattern (default *.mat), source.key (default: the one variable that
fits the atlas), source.kind, source.subject_pattern (a regular expression on the file's name whose
group is the subject), source.tr, source.site, source.phenotypes (the ABIDE CSV, joined by SUB_ID)
or source.table (any table of people, `people.py`, with source.columns, source.sex_map and
source.age_unit).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, expand
from lcm_scale.data.readers.abide import abide_people
from lcm_scale.data.readers.arrays import read_scan
from lcm_scale.data.readers.files import matching, row_of_file
from lcm_scale.data.readers.people import Entry, read_people
from lcm_scale.data.readers.phenotypes import Person, read_abide
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
    files = matching(folder, pattern)
    if not files:
        raise InputError(f"{folder}: no file fits source.pattern '{pattern}'")
    people = _people(recipe)
    subject_of = {path: _subject(path, source.subject_pattern) for path in files}
    seen = {normalised(subject) for subject in subject_of.values()}
    if people is not None and not seen & set(people):
        raise InputError(
            f"{source.phenotypes or source.table}: no row fits a file of {folder}"
            f"{row_of_file(files[0], people)}"
        )
    for path, subject in subject_of.items():
        entry = Entry(Person(subject)) if people is None else people.get(normalised(subject))
        if entry is None:
            yield Skipped(path.name, "file without a row in the table")
        else:
            yield _scan(recipe, path, entry, atlas)
    for subject in people or {}:
        if subject not in seen:
            yield Skipped(f"row of subject {subject}", "table row without a file")


def _scan(recipe: ShardRecipe, path: Path, entry: Entry, atlas: Atlas) -> Unread:
    source, person = recipe.source, entry.person
    site = person.site or source.site or ""
    return Unread(
        cohort=recipe.cohort or recipe.name,
        subject=person.subject,
        source=str(path),
        load=partial(read_scan, path, source, atlas),
        site=site,
        tr=source.tr,
        age=person.age,
        sex=person.sex,
        mean_fd=person.mean_fd,
        labels={"site": site or None} | dict(person.labels),
        row=entry.row,
        remarks=person.remarks,
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


def _people(recipe: ShardRecipe) -> Mapping[str, Entry] | None:
    """Subject -> what the recipe's table knows; None where the recipe names no table."""
    source = recipe.source
    if source.phenotypes:
        return abide_people(read_abide(expand(source.phenotypes)), recipe)
    if source.table:
        return read_people(expand(source.table), source, recipe.label_columns()).entries
    return None
