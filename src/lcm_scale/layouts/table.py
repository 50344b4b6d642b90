"""A table that lists scans, in the folder or named itself."""

from __future__ import annotations

from pathlib import Path

from lcm_scale.config import SourceConfig
from lcm_scale.data.readers.arrays import TEXT, Table, read_array
from lcm_scale.data.readers.people import USUAL, columns_of
from lcm_scale.data.readers.phenotypes import read_rows
from lcm_scale.errors import InputError
from lcm_scale.layouts.found import Found, Question, Regions, shown
from lcm_scale.layouts.regions import numbered, regions_of
from lcm_scale.layouts.tables import header_of, tables_in


def looks_like(folder: Path) -> Found | None:
    candidates = [folder] if folder.is_file() else tables_in(folder)
    lists = [
        path
        for path in candidates
        if all(set(header_of(path)) & set(USUAL[fact]) for fact in ("file", "subject"))
    ]
    if not lists:
        return None
    if len(lists) > 1:
        names = ", ".join(path.name for path in lists)
        raise InputError(f"{folder}: several tables list scans ({names}); name one of them")
    path = lists[0]
    rows = read_rows(path, ())
    column = columns_of(rows, path, SourceConfig(), ["file"]).get("file", "")
    files = [path.parent / name for row in rows if (name := row.text(column))]
    there = [file for file in files if file.is_file()]
    if not there and path.name == "participants.tsv":
        return None  # of a BIDS data set, whatever a column of it is called
    if not there:
        raise InputError(f"{path}: none of the {len(files)} files that it lists is there")
    regions, kind = regions_and_kind(there[0], there[1:])
    return Found(
        layout="a table that lists scans",
        name=path.parent.absolute().name,
        reader="table",
        source={"table": shown(path)} | ({"kind": kind} if kind != "series" else {}),
        regions=regions,
        questions=kind_of_matrices(kind),
    )


def kind_of_matrices(kind: str) -> tuple[Question, ...]:
    if kind == "series":
        return ()
    return (
        Question(
            "of which kind are the ready matrices? connectivity.kind below says pearson; "
            "ledoit-wolf, partial and covariance are others, and kinds must not be mixed"
        ),
    )


def regions_and_kind(example: Path, others: list[Path]) -> tuple[Regions, str]:
    """Of files that hold a scan each: their regions, and whether they are series or connectivity.

    A square table that is symmetric is a matrix. Of an array without names one side is time: the
    one in which another file differs, or else the longer one.
    """
    data = read_array(example)
    rows, columns = data.values.shape
    if rows == columns and _is_symmetric(data):
        return regions_of(data), "connectivity"
    if data.columns or example.suffix.lower() in TEXT:
        return regions_of(data), "series"
    for other in others:
        shape = read_array(other).values.shape
        if shape[1] != columns and shape[0] == rows:
            return numbered(rows), "series"
        if shape[0] != rows:
            break
    else:
        return numbered(min(rows, columns)), "series"
    return numbered(columns), "series"


def _is_symmetric(data: Table) -> bool:
    difference = abs(data.values - data.values.T)
    return bool((difference[difference == difference] < 1e-3).all())  # NaN is unlike itself
