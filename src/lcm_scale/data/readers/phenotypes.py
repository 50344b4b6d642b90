"""Tables of people: the cells of a phenotype or scan list as typed values, each error naming row
and column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lcm_scale.data.readers.cells import (
    MISSING as MISSING,  # the one set of words, for every reader of tables
)
from lcm_scale.data.readers.cells import (
    SHOWN,
    age_in_years,
    is_missing,
    is_open_ended,
    number_of,
)
from lcm_scale.delimited import DECIMAL_COMMA, header_of, read_delimited, rows_of
from lcm_scale.errors import InputError, nearest
from lcm_scale.limits import is_file, refuse_too_many

ABIDE_COLUMNS = ("SUB_ID", "DX_GROUP")
ABIDE_OWN = (
    *ABIDE_COLUMNS,
    *("FILE_ID", "SITE_ID", "AGE_AT_SCAN", "SEX", "EYE_STATUS_AT_SCAN", "func_mean_fd"),
)
DIAGNOSIS = {"1": "Autism", "2": "CN"}
SEXES = {"1": "M", "2": "F"}
EYES = {"1": "open", "2": "closed"}


@dataclass(frozen=True)
class Row:
    """One line of a table: its cells by column name, where it stands, and whether a comma in a
    number is its decimal point, as where semicolons stand between cells."""

    cells: Mapping[str, str]
    where: str
    decimal_comma: bool = False

    def text(self, column: str) -> str | None:
        """A cell, None where it is missing."""
        cell = (self.cells.get(column) or "").strip()
        return None if is_missing(cell) else cell

    def number(self, column: str) -> float | None:
        cell = self.text(column)
        if cell is None:
            return None
        if self.decimal_comma and DECIMAL_COMMA.fullmatch(cell):
            cell = cell.replace(",", ".")
        value = number_of(cell)
        if value is None:
            raise InputError(f"{self.where}: {column} is '{cell[:SHOWN]}', expected a number")
        return value if math.isfinite(value) else None

    def coded(self, column: str, codes: Mapping[str, str]) -> str | None:
        cell = self.text(column)
        if cell is None:
            return None
        number = number_of(cell)
        # A spreadsheet that met an empty cell in the column writes 1.0 for 1.
        whole = number is not None and number.is_integer()
        key = str(int(number)) if whole and number is not None else cell.lower()
        if key not in codes:
            listed = ", ".join(f"{k} ({v})" for k, v in codes.items())
            raise InputError(
                f"{self.where}: {column} is '{cell[:SHOWN]}', expected {listed} or nothing"
            )
        return codes[key]

    def age(self, column: str, unit: str) -> float | None:
        """Years.  Args: unit: of the column, `years` or `months`."""
        cell = self.text(column)
        return None if cell is None else age_in_years(cell, unit, f"{self.where}: {column}")

    def remarks(self, column: str) -> tuple[str, ...]:
        """What every report must say of the age in a column."""
        cell = self.text(column) or ""
        said = f"the table gives the age as '{cell[:SHOWN]}', which is taken as its number"
        return (said,) if is_open_ended(cell) else ()


@dataclass(frozen=True)
class Person:
    """What a phenotype table knows of a subject; the fields are those of `recordings.Scan`."""

    subject: str
    site: str = ""
    age: float | None = None
    sex: str | None = None
    mean_fd: float | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def read_rows(path: Path, required: Sequence[str]) -> list[Row]:
    """The rows of a CSV or TSV.  Raises: InputError where the file, or a required column, is
    missing, or a row cannot be read."""
    if not is_file(path):
        raise InputError(f"{path}: no such table")
    text, mark = read_delimited(path, "utf-8-sig", "latin-1")
    lines = rows_of(text, mark or ",", path)
    columns = next(lines, (0, []))[1]
    for column in required:
        if column not in columns:
            raise InputError(f"{path}: no column '{column}'{nearest(column, columns)}")
    refuse_too_many((text.count("\n"), len(columns)), str(path))
    rows = []
    for number, cells in lines:
        where = f"{path}, row {number}"
        if any(cells[len(columns) :]):
            raise InputError(f"{where}: more cells than the header has columns")
        # A column without a name is an index, or the end of lines that end in a delimiter.
        named = zip(columns, cells + [""] * (len(columns) - len(cells)), strict=False)
        rows.append(Row({column: cell for column, cell in named if column}, where, mark == ";"))
    return rows


def read_abide(path: Path) -> list[Row]:
    """The rows of an ABIDE phenotype file, its own columns as the release writes them, whatever
    their case in this copy.

    Raises: InputError as `read_rows`, where a column is missing, or two differ by case only.
    """
    rows = read_rows(path, ())
    columns = list(rows[0].cells) if rows else []
    own: dict[str, str] = {}
    for column in columns:
        name = column.upper()
        name = next((known for known in ABIDE_OWN if known.upper() == name), column)
        if name in own.values():
            raise InputError(f"{path}: two columns could be {name}; rename one of them")
        own[column] = name
    for column in ABIDE_COLUMNS:
        if column not in own.values():
            raise InputError(f"{path}: no column '{column}'{nearest(column, columns)}")
    return [replace(row, cells={own[key]: cell for key, cell in row.cells.items()}) for row in rows]


def abide_person(
    row: Row, also: Sequence[str] = (), age_unit: str = "years", sexes: Mapping[str, str] = SEXES
) -> Person:
    """What a row of the ABIDE phenotype file says; docs/model.md, Data sets and protocols, has its
    codes.

    Args:
        also: further columns to hand on as labels, in any case.
        age_unit: of AGE_AT_SCAN.   sexes: word or code -> M or F.
    Raises: InputError where a cell is no number or an unknown code, or the subject is missing.
    """
    subject = row.text("SUB_ID")
    if subject is None:
        raise InputError(f"{row.where}: SUB_ID is empty")
    wanted = {column.casefold() for column in also}
    labels = {column: row.text(column) for column in row.cells if column.casefold() in wanted}
    labels |= {
        "diagnosis": row.coded("DX_GROUP", DIAGNOSIS),
        "site": row.text("SITE_ID"),
        "eye_status": row.coded("EYE_STATUS_AT_SCAN", EYES),
    }
    return Person(
        subject=subject,
        site=row.text("SITE_ID") or "",
        age=row.age("AGE_AT_SCAN", age_unit),
        sex=row.coded("SEX", sexes),
        mean_fd=row.number("func_mean_fd"),
        labels=labels,
        remarks=row.remarks("AGE_AT_SCAN"),
    )


def abide_table(folder: Path) -> Path:
    """The phenotype CSV in a folder or up to three above it.

    Raises: InputError where there is none, or two in one folder.
    """
    for place in (folder, *list(folder.absolute().parents)[:3]):
        found = [path for path in sorted(place.glob("*.csv")) if _is_abide(path)]
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise InputError(
                f"{place}: several phenotype tables ({names}); name one with source.phenotypes"
            )
        if found:
            return found[0]
    raise InputError(
        f"{folder}: no phenotype CSV (columns {', '.join(ABIDE_COLUMNS)}) in it or above it; name "
        "one with source.phenotypes (make: ABIDE_PHENO=file.csv)"
    )


def _is_abide(path: Path) -> bool:
    try:
        header = header_of(path)
    except InputError:  # some other thing of that name, above a folder that has its table elsewhere
        return False
    return set(ABIDE_COLUMNS) <= {column.strip().upper() for column in header}
