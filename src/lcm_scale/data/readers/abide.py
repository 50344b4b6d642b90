"""ABIDE in the layout of the Preprocessed Connectomes Project: `{FILE_ID}_rois_aal.1D` files and
one phenotype CSV.

Recipe keys: source.dir, source.phenotypes (default: the CSV in dir or above), source.pattern (where
dir holds the files of several atlases), source.tr, source.all_files. Labels: diagnosis (CN,
Autism), site, eye_status (open, closed), and any column of the CSV that a group or scalar names.
Without source.dir the folder is raw/abide, where `lcm-scale fetch abide` puts the files.

The project's own checks decide who belongs to the set: a person whose FILE_ID is `no_filename`
failed them. Copies of the release hold files of such people too (67 beside the 1,035); they are
left out, or with source.all_files taken by the number in the file's name, and both are said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, expand
from lcm_scale.data.readers.arrays import read_scan
from lcm_scale.data.readers.files import matching
from lcm_scale.data.readers.people import SEX_WORDS, Entry, both, united
from lcm_scale.data.readers.phenotypes import (
    SEXES,
    Row,
    abide_person,
    abide_table,
    read_abide,
)
from lcm_scale.data.recordings import SIMULATED_MARKER, Skipped, Unread
from lcm_scale.delimited import header_of
from lcm_scale.errors import InputError
from lcm_scale.identity import normalised

FETCHED = "raw/abide"
NO_FILE = "no_filename"
FAILED = f"FILE_ID is {NO_FILE}, the project's checks were not passed"


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """The scans of source.dir, in the order of their file names; then the rows that have none.

    Raises: InputError for a missing folder or table, or a file or cell that cannot be read.
    """
    source = recipe.source
    folder = expand(source.dir or FETCHED)
    if not source.dir and not folder.is_dir():
        raise InputError(
            f"source.dir is not set, and there is no {FETCHED}: `lcm-scale fetch abide` downloads "
            "it; or name the folder of its *_rois_aal.1D files and phenotype CSV (make shard "
            "DATA=abide ABIDE_DIR=FOLDER)"
        )
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder (source.dir; make: ABIDE_DIR=folder)")
    files = _files(folder, source.pattern, atlas)
    table = expand(source.phenotypes) if source.phenotypes else abide_table(folder)
    rows = read_abide(table)
    row_of = _match(files, rows)
    if not row_of:
        raise InputError(f"{table}: no row fits a file of {folder}; the first is {files[0].name}")
    people = abide_people(rows, recipe)
    for path in files:
        row = row_of.get(path)
        if row is None:
            yield Skipped(path.name, "file without a row in the phenotype table")
        elif _failed(row) and not source.all_files:
            yield Skipped(path.name, f"{FAILED} (source.all_files: true takes it)", True)
        else:
            yield _scan(recipe, path, row, people, atlas)
    used = {normalised(row.cells["SUB_ID"]) for row in row_of.values()}
    for subject, entry in people.items():
        if subject not in used:
            yield Skipped(f"row of SUB_ID {entry.person.subject}", "phenotype row without a file")


def abide_people(rows: Sequence[Row], recipe: ShardRecipe) -> dict[str, Entry]:
    """`identity.normalised` SUB_ID -> what its rows say.  Raises: InputError where two rows of a
    person contradict each other, or a cell cannot be read."""
    own = {key.casefold(): sex for key, sex in recipe.source.sex_map.items()}
    sexes = SEXES | SEX_WORDS | own
    unit, columns = recipe.source.age_unit, recipe.label_columns()
    entries = [Entry(abide_person(row, columns, unit, sexes), row.where) for row in rows]
    return united(entries, {label for entry in entries for label in entry.person.labels})


def _scan(
    recipe: ShardRecipe, path: Path, row: Row, people: Mapping[str, Entry], atlas: Atlas
) -> Unread:
    person = people[normalised(row.cells["SUB_ID"])].person
    return Unread(
        cohort=recipe.cohort or recipe.name,
        subject=person.subject,
        source=str(path),
        load=partial(read_scan, path, recipe.source, atlas),
        site=person.site or recipe.source.site or "",
        tr=recipe.source.tr,
        age=person.age,
        sex=person.sex,
        mean_fd=person.mean_fd,
        labels=person.labels,
        row=row.where,
        remarks=(*person.remarks, *([FAILED] if _failed(row) else [])),
        simulated=(path.parent / SIMULATED_MARKER).is_file(),
    )


def _files(folder: Path, pattern: str | None, atlas: Atlas) -> list[Path]:
    files = matching(folder, pattern or "*_rois_*.1D")
    if not files:
        raise InputError(
            f"{folder}: no {pattern or '*_rois_aal.1D'} files; is source.dir (make: ABIDE_DIR) "
            "right?"
        )
    kinds = sorted({_kind(path) for path in files})
    if len(kinds) == 1:
        return files
    fitting = [k for k in kinds if _fits(next(path for path in files if _kind(path) == k), atlas)]
    if len(fitting) != 1:
        raise InputError(
            f"{folder}: files of several atlases ({', '.join(kinds)}), {len(fitting)} of them with "
            f"{atlas.n_regions} columns; name one with source.pattern, for example '*_rois_aal.1D'"
        )
    return [path for path in files if _kind(path) == fitting[0]]


def _kind(path: Path) -> str:
    return path.stem.rpartition("_rois_")[2]


def _fits(path: Path, atlas: Atlas) -> bool:
    return len(header_of(path)) == atlas.n_regions


def _failed(row: Row) -> bool:
    return row.text("FILE_ID") == NO_FILE


def _match(files: Sequence[Path], rows: Sequence[Row]) -> dict[Path, Row]:
    """File -> its row, by FILE_ID, else by the subject number that the file's name ends with.

    Public copies hold files of people whose FILE_ID in the table is `no_filename`.
    """
    by_file: dict[str, Row] = {}
    for row in rows:
        file_id = row.text("FILE_ID")
        if file_id is None or _failed(row):
            continue
        known = by_file.setdefault(file_id, row)
        if normalised(known.cells["SUB_ID"]) != normalised(row.cells["SUB_ID"]):
            raise InputError(
                f"{both(known.where, row.where)} name one file, FILE_ID {file_id}, for two people"
            )
    by_subject = {normalised(row.cells["SUB_ID"]): row for row in rows}
    matched: dict[Path, Row] = {}
    for path in files:
        file_id = path.stem.rpartition("_rois_")[0] or path.stem
        number = re.search(r"\d+$", file_id)
        found = by_file.get(file_id) or by_subject.get(
            normalised(number.group()) if number else file_id
        )
        if found is not None:
            matched[path] = found
    return matched
