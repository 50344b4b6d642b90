"""A table that lists scans: the door for any lab's data.

A CSV or TSV (source.table) with the columns file and subject, and where known session, run, site,
tr, age, sex, mean_fd, confounds, under their usual names (`people.USUAL`); every further column is
a label. Files are relative to the table: .npy .npz .mat .csv .tsv .txt .1D, region series or ready
matrices (source.kind). An empty cell or n/a is missing. `confounds` names a scan's CSV or TSV with
a row a volume, as fMRIPrep writes one; the columns that connectivity.clean asks for are read.
Further keys: source.key,
source.drop_columns, source.tr, source.site, source.columns, source.sex_map, source.age_unit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, SourceConfig, expand
from lcm_scale.data.cleaning import confound_columns
from lcm_scale.data.readers.arrays import read_scan
from lcm_scale.data.readers.files import instead_of
from lcm_scale.data.readers.people import columns_of, person_of, require, subject_of
from lcm_scale.data.readers.phenotypes import Person, Row, read_rows
from lcm_scale.data.recordings import SIMULATED_MARKER, ScanArrays, Skipped, Unread
from lcm_scale.errors import InputError


@dataclass(frozen=True)
class ScanRow:
    """One row of the table; the file is '' where it names none."""

    person: Person
    file: str
    session: str
    run: str
    tr: float | None
    confounds: str
    where: str


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """The scans in the table's order; a row whose file is missing is skipped.

    Raises: InputError naming table, row and column, or the first file where none is there.
    """
    if not recipe.source.table:
        raise InputError("source.table is not set: name the CSV that lists the scans")
    path = expand(recipe.source.table)
    rows = read_rows(path, ())
    if not rows:
        raise InputError(f"{path}: no rows below the header")
    column_of = columns_of(rows, path, recipe.source)
    for fact in ("file", "subject"):
        require(fact, column_of, rows, path)
    scans = [scan_row(row, column_of, recipe.source, recipe.label_columns()) for row in rows]
    there = [
        bool(scan.file) and _is_there(path.parent / scan.file, row)
        for scan, row in zip(scans, rows, strict=True)
    ]
    if not any(there):
        first = next((scan for scan in scans if scan.file), scans[0])
        looked_for = path.parent / first.file
        raise InputError(
            f"{path}: none of its {len(rows)} files is there; the first, of {first.where}: "
            f"{looked_for}{instead_of(looked_for) if first.file else ''}"
        )
    for scan, found in zip(scans, there, strict=True):
        file = path.parent / scan.file
        if found:
            yield _scan(recipe, file, scan, atlas, path.parent)
        else:
            yield Skipped(
                f"row of subject {scan.person.subject} ({scan.file or 'no file'})",
                "table row without a file",
            )


def _is_there(file: Path, row: Row) -> bool:
    try:
        return file.is_file()
    except OSError as error:  # longer than any name, or behind a closed folder
        raise InputError(
            f"{row.where}: file '{file.name[:64]}' cannot be looked at ({error.strerror})"
        ) from error


def scan_row(
    row: Row, column_of: Mapping[str, str], source: SourceConfig, wanted: Collection[str]
) -> ScanRow:
    """Args: as of `people.person_of`.  Raises: InputError as it does."""

    def text(fact: str) -> str:
        return row.text(column_of.get(fact, "")) or ""

    person = person_of(subject_of(row, column_of), row, column_of, source, wanted)
    return ScanRow(
        person=replace(person, labels={"site": person.site or None} | dict(person.labels)),
        file=text("file"),
        session=text("session"),
        run=text("run"),
        tr=row.number(column_of.get("tr", "")),
        confounds=text("confounds"),
        where=row.where,
    )


def _load(
    path: Path, source: SourceConfig, atlas: Atlas, confounds: Path | None, columns: Sequence[str]
) -> ScanArrays:
    """Args: confounds: the scan's table of them.   columns: those that the cleaning asks for."""
    arrays = read_scan(path, source, atlas)
    if confounds is None or not columns:
        return arrays
    return replace(arrays, confounds=_confounds(confounds, columns))


def _confounds(path: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """NaN where a cell is missing."""
    rows = read_rows(path, columns)
    cells = {column: [row.number(column) for row in rows] for column in columns}
    return {column: np.array(values, dtype=np.float64) for column, values in cells.items()}


def _scan(recipe: ShardRecipe, path: Path, scan: ScanRow, atlas: Atlas, folder: Path) -> Unread:
    """Args: folder: the table's."""
    source, person = recipe.source, scan.person
    confounds = folder / scan.confounds if scan.confounds else None
    columns = confound_columns(recipe.connectivity.clean)
    return Unread(
        cohort=recipe.cohort or recipe.name,
        subject=person.subject,
        source=str(path),
        load=partial(_load, path, source, atlas, confounds, columns),
        session=scan.session,
        run=scan.run,
        site=person.site or source.site or "",
        tr=scan.tr if scan.tr is not None else source.tr,
        age=person.age,
        sex=person.sex,
        mean_fd=person.mean_fd,
        labels=person.labels,
        row=scan.where,
        remarks=person.remarks,
        simulated=(path.parent / SIMULATED_MARKER).is_file(),
    )
