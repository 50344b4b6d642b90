"""ABIDE in the layout of the Preprocessed Connectomes Project: `{FILE_ID}_rois_aal.1D` files and
one phenotype CSV.

Recipe keys: source.dir, source.phenotypes (default: the CSV in dir or above), source.pattern (where
dir holds the files of several atlases), source.tr, source.all_files. Labels: diagnosis (CN,
Autism), site, eye_status (open, closed), and any column of the CSV that a group or scalar names.
Without source.dir the files are downloaded through nilearn.

The project's own checks decide who belongs to the set: a person whose FILE_ID is `no_filename`
failed them. Copies of the release hold files of such people too (67 beside the 1,035); they are
left out, or with source.all_files taken by the number in the file's name, and both are said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, expand
from lcm_scale.data.readers.arrays import read_text, region_indices
from lcm_scale.data.readers.phenotypes import (
    ABIDE_COLUMNS,
    Row,
    abide_person,
    abide_table,
    read_rows,
)
from lcm_scale.data.recordings import SIMULATED_MARKER, ScanArrays, Skipped, Unread
from lcm_scale.errors import InputError
from lcm_scale.identity import normalised
from lcm_scale.limits import first_line

DOWNLOAD = "raw/abide"
NO_FILE = "no_filename"
FAILED = f"FILE_ID is {NO_FILE}, the project's checks were not passed"


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """The scans of source.dir, in the order of their file names; then the rows that have none.

    Raises: InputError for a missing folder or table, or a file or cell that cannot be read.
    """
    source = recipe.source
    folder = expand(source.dir) if source.dir else _download()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder (source.dir; make: ABIDE_DIR=folder)")
    files = _files(folder, source.pattern, atlas)
    table = expand(source.phenotypes) if source.phenotypes else abide_table(folder)
    rows = read_rows(table, ABIDE_COLUMNS)
    row_of = _match(files, rows)
    columns = recipe.label_columns()
    for path in files:
        row = row_of.get(path)
        if row is None:
            yield Skipped(path.name, "file without a row in the phenotype table")
        elif _failed(row) and not source.all_files:
            yield Skipped(path.name, f"{FAILED} (source.all_files: true takes it)", True)
        else:
            yield _scan(recipe, path, row, columns, atlas)
    used = {row.where for row in row_of.values()}
    for row in rows:
        if row.where not in used:
            yield Skipped(f"row of SUB_ID {row.cells['SUB_ID']}", "phenotype row without a file")


def _scan(
    recipe: ShardRecipe, path: Path, row: Row, columns: Sequence[str], atlas: Atlas
) -> Unread:
    person = abide_person(row, columns)
    return Unread(
        cohort=recipe.cohort or recipe.name,
        subject=person.subject,
        source=str(path),
        load=partial(_load, path, atlas),
        site=person.site or recipe.source.site or "",
        tr=recipe.source.tr,
        age=person.age,
        sex=person.sex,
        mean_fd=person.mean_fd,
        labels=person.labels,
        row=row.where,
        remark=FAILED if _failed(row) else "",
        simulated=(path.parent / SIMULATED_MARKER).is_file(),
    )


def _load(path: Path, atlas: Atlas) -> ScanArrays:
    data = read_text(path)
    return ScanArrays(data.values, None, region_indices(data, atlas, path))


def _files(folder: Path, pattern: str | None, atlas: Atlas) -> list[Path]:
    files = sorted(folder.glob(pattern or "*_rois_*.1D"))
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
    return len(first_line(path).split()) == atlas.n_regions


def _failed(row: Row) -> bool:
    return row.text("FILE_ID") == NO_FILE


def _match(files: Sequence[Path], rows: Sequence[Row]) -> dict[Path, Row]:
    """File -> its row, by FILE_ID, else by the subject number that the file's name ends with.

    Public copies hold files of people whose FILE_ID in the table is `no_filename`.
    """
    by_file = {row.cells["FILE_ID"]: row for row in rows if row.text("FILE_ID")}
    by_subject = {normalised(row.cells["SUB_ID"]): row for row in rows}
    matched: dict[Path, Row] = {}
    for path in files:
        file_id = path.stem.rpartition("_rois_")[0] or path.stem
        number = re.search(r"\d+$", file_id)
        row = by_file.get(file_id) or by_subject.get(
            normalised(number.group()) if number else file_id
        )
        if row is not None:
            matched[path] = row
    return matched


def _download() -> Path:
    """Band-passed CPAC series with global signal regression, as most published ABIDE work uses,
    through nilearn."""
    advice = (
        "source.dir is not set, and ABIDE cannot be downloaded here ({}); fetch its *_rois_aal.1D "
        "files and phenotype CSV elsewhere and name the folder: source.dir=FOLDER (make shard "
        "DATA=abide ABIDE_DIR=FOLDER)"
    )
    try:
        from nilearn.datasets import fetch_abide_pcp
    except ImportError as error:
        raise InputError(
            advice.format("nilearn is not installed: pip install 'lcm-scale[imaging]'")
        ) from error
    try:
        fetch_abide_pcp(
            data_dir=DOWNLOAD,
            pipeline="cpac",
            band_pass_filtering=True,
            global_signal_regression=True,
            derivatives=["rois_aal"],
            quality_checked=False,
            verbose=0,
        )
    except Exception as error:  # nilearn passes on whatever its transport raises
        raise InputError(advice.format(type(error).__name__)) from error
    return next(Path(DOWNLOAD).glob("ABIDE_pcp/cpac/*"))
