"""Array files: text tables (.1D .csv .tsv .txt), .npy, .npz and MATLAB, as (time, regions) or
(regions, regions).

Nothing here unpickles, and no more is read than `limits.py` allows. A value that is no number is
named by its row and column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import SourceConfig
from lcm_scale.data.readers import numpy_files
from lcm_scale.data.readers.matlab import MATLAB
from lcm_scale.data.readers.numpy_files import Variable
from lcm_scale.data.recordings import ScanArrays
from lcm_scale.errors import InputError, nearest
from lcm_scale.limits import read_text as text_of
from lcm_scale.limits import refuse_too_many

TEXT = (".1d", ".csv", ".tsv", ".txt")
SUFFIXES = (*TEXT, ".npy", ".npz", ".mat")
Parsed = TypeVar("Parsed")
LISTED = 20  # variables of a file that a message names
DIGITS = 18  # of a region's index, which is 64 bits wide at most
LONGEST_SHOWN = 64  # characters of a name or cell in a message; MATLAB's names have 63


@dataclass(frozen=True)
class Table:
    """Numbers of a file: `values` (rows, columns) and the names of its columns, empty where the
    file names none."""

    values: np.ndarray
    columns: tuple[str, ...] = ()


def read_array(
    path: Path, key: str | None = None, fits: Callable[[Variable], bool] | None = None
) -> Table:
    """Read any of `SUFFIXES`.

    Args:
        key: the variable of an .npz or .mat.
        fits: where no key is given, which of several arrays is meant.
    Raises: InputError naming the file, and the row and column of a bad cell.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    kind = path.suffix.lower()
    if kind in TEXT:
        return read_text(path)
    if kind not in SUFFIXES:
        raise InputError(
            f"{path}: unknown kind of file '{path.suffix}'; expected one of {', '.join(SUFFIXES)}"
        )
    return guarded(_binary_table, path, key, fits)


def guarded(parse: Callable[..., Parsed], path: Path, *asked: Any) -> Parsed:
    """What a parser makes of a file.

    Raises: InputError in place of whatever a damaged file makes the parsers of three formats raise.
    """
    try:
        return parse(path, *asked)
    except InputError:
        raise
    except Exception as error:
        kind = path.suffix.lower()
        raise InputError(
            f"{path}: cannot be read as {kind} ({type(error).__name__}: {error})"
        ) from error


def _binary_table(path: Path, key: str | None, fits: Callable[[Variable], bool] | None) -> Table:
    kind = path.suffix.lower()
    if kind == ".npy":
        return Table(numpy_files.read_npy(path))
    if kind == ".mat":
        return _matlab_table(path, key, fits)
    chosen = choose(numpy_files.npz_variables(path), path, key, fits)
    return Table(numpy_files.read_npz(path, chosen.name))


def _matlab_table(path: Path, key: str | None, fits: Callable[[Variable], bool] | None) -> Table:
    """A variable of a .mat with the names of its regions, where a list of them lies beside it."""
    variables = MATLAB.candidates(path, key)
    chosen = choose(variables, path, key, fits)
    values = MATLAB.read(path, chosen.name)
    names = tuple(MATLAB.names_beside(path, chosen, variables))
    square = values.shape[0] == values.shape[1]
    if not names or (square and not np.array_equal(values, values.T)):
        return Table(values)  # a square of volumes and regions: nobody says which are which
    return Table(values if len(names) == values.shape[1] else values.T, names)


def read_text(path: Path) -> Table:
    """A table of numbers, tab, comma or blank between them, with or without one line of column
    names.

    Raises: InputError where it is empty, ragged or holds text, naming row (as an editor counts) and
        column.
    """
    lines = text_of(path).split("\n")
    first = next((line for line in lines if line.strip()), "")
    delimiter = next((mark for mark in ("\t", ",") if mark in first), None)
    header = _cells(first, delimiter)
    start = lines.index(first) + 1 if first else 0
    named = _is_header(
        header, _cells(next((line for line in lines[start:] if line.strip()), ""), delimiter)
    )
    start = start if named else 0
    body = [line for line in lines[start:] if line.strip()]
    if not body:
        raise InputError(f"{path}: empty; expected one row a volume and one column a region")
    refuse_too_many((len(body), len(header)), str(path))
    try:
        values = np.loadtxt(body, dtype=np.float64, delimiter=delimiter, comments=None, ndmin=2)
    except ValueError as error:
        raise _bad_cell(path, lines, start, delimiter, header if named else ()) from error
    columns = tuple(cell.lstrip("#").strip().strip('"') for cell in header) if named else ()
    if columns and len(columns) != values.shape[1]:
        raise InputError(
            f"{path}: {len(columns)} column names and {values.shape[1]} columns of numbers"
        )
    return Table(values, columns)


def without(table: Table, names: Sequence[str], path: Path) -> Table:
    """The table without the named columns.  Raises: InputError where it has no such column."""
    for name in names:
        if name not in table.columns:
            raise InputError(
                f"{path}: no column '{name}' to drop "
                f"(source.drop_columns){nearest(name, table.columns)}"
            )
    keep = [i for i, column in enumerate(table.columns) if column not in names]
    return (
        table if not names else Table(table.values[:, keep], tuple(table.columns[i] for i in keep))
    )


def region_indices(table: Table, atlas: Atlas, path: Path) -> tuple[int, ...] | None:
    """Atlas indices of the columns as their names say, or None where they say nothing.

    Names are codes (``#2001``) or region names; names that occur twice are only accepted in the
    atlas's own order.
    Raises: InputError where names and atlas contradict each other.
    """
    columns = table.columns
    if not columns:
        return None
    if all(column.isascii() and column.isdigit() for column in columns):
        if max(map(len, columns)) > DIGITS:
            raise InputError(f"{path}: a column's name has more digits than a region's index")
        return tuple(int(column) for column in columns)
    if columns == atlas.names:
        return atlas.indices
    if len(columns) != atlas.n_regions or not set(columns) & set(atlas.names):
        return None
    by_name = dict(zip(atlas.names, atlas.indices, strict=True))
    strange = next((column for column in columns if column not in by_name), None)
    if strange is not None:
        raise InputError(
            f"{path}: column '{strange[:LONGEST_SHOWN]}' is no region of atlas "
            f"{atlas.name}{nearest(strange, by_name)}"
        )
    if len(set(columns)) != len(columns) or len(by_name) != atlas.n_regions:
        raise InputError(
            f"{path}: columns stand in another order than atlas {atlas.name}, and some names occur "
            "twice, so they cannot be matched; name the columns by atlas index"
        )
    return tuple(by_name[column] for column in columns)


def read_scan(path: Path, source: SourceConfig, atlas: Atlas) -> ScanArrays:
    """One scan's file, as the recipe's source says (key, drop_columns, kind).

    Raises: InputError as `read_array`, `without`, `region_indices` and `as_series`.
    """
    n, ready = atlas.n_regions, source.kind == "connectivity"
    data = without(read_array(path, source.key, shape_of_scan(n, ready)), source.drop_columns, path)
    if ready:
        return ScanArrays(None, data.values, region_indices(data, atlas, path))
    # Named columns are regions, so a table with a header is never turned.
    series = data.values if data.columns else as_series(data.values, n, path)
    return ScanArrays(series, None, region_indices(data, atlas, path))


def shape_of_scan(n_regions: int, ready: bool) -> Callable[[Variable], bool]:
    """Which of a file's arrays may be a scan's.  Args: ready: a matrix, no series."""
    return lambda array: (
        array.shape == (n_regions, n_regions) if ready else n_regions in array.shape
    )


def as_series(values: np.ndarray, n_regions: int, path: Path) -> np.ndarray:
    """(T, R) from (T, R) or (R, T): the side as long as the atlas is the regions'.

    Raises: InputError where neither side is, or both are.
    """
    if values.ndim != 2 or n_regions not in values.shape:
        shape = " x ".join(map(str, values.shape))
        raise InputError(
            f"{path}: array of {shape}; expected one side of {n_regions} regions (recipe key "
            "'atlas')"
        )
    if values.shape[0] == values.shape[1]:
        raise InputError(
            f"{path}: {n_regions} x {n_regions}: time and regions cannot be told apart; set "
            "source.kind=connectivity "
            "if it is a ready matrix"
        )
    return values if values.shape[1] == n_regions else values.T


def choose(
    variables: Sequence[Variable],
    path: Path,
    key: str | None,
    fits: Callable[[Variable], bool] | None,
    sides: int = 2,
) -> Variable:
    """The one that is meant, which is a table of numbers of a size that is read.

    Args: key, fits: as of `read_array`.   sides: that it has; 3 of a stack of tables.
    Raises: InputError where none is meant, or several could be.
    """
    named = {variable.name: variable for variable in variables}
    if key is not None:
        if key not in named:
            raise InputError(
                f"{path}: no variable '{key}'{nearest(key, named)} (it holds {_listed(named)})"
            )
        chosen = named[key]
        within = [v for v in variables if v.name.startswith((f"{key}.", f"{key}{{"))]
        if within and not chosen.numbers:
            raise InputError(
                f"{path}: '{key}' is a {chosen.kind}; name a part of it with source.key (it holds "
                f"{_listed(map(_sized, within))})"
            )
    else:
        chosen = _only(list(named.values()), path, fits, sides)
    numpy_files.refuse_no_table(chosen, path, sides)
    return chosen


def _only(
    variables: Sequence[Variable],
    path: Path,
    fits: Callable[[Variable], bool] | None,
    sides: int,
) -> Variable:
    candidates = [
        v for v in variables if v.numbers and len(v.shape) == sides and v.kind != "sparse"
    ]
    if fits is not None:
        candidates = [variable for variable in candidates if fits(variable)]
    # A row or column of numbers is a list, where something else may be the scan.
    tables = [variable for variable in candidates if 1 not in variable.shape]
    candidates = tables or candidates
    if len(candidates) == 1:
        return candidates[0]
    held = _listed(map(_sized, candidates or variables)) or "nothing"
    found = (
        "several variables fit"
        if candidates
        else "no variable of numbers fits the atlas's number of regions"
    )
    raise InputError(f"{path}: {found}; name one with source.key (it holds {held})")


def _sized(variable: Variable) -> str:
    """As a message names it: what is no array of numbers is called by its kind."""
    shape = "x".join(map(str, variable.shape))
    return f"{variable.name} {shape}{'' if variable.numbers else f' {variable.kind}'}".replace(
        "  ", " "
    )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(name[:LONGEST_SHOWN] for name in names[:LISTED]) + more


def _cells(line: str, delimiter: str | None) -> list[str]:
    return [cell.strip() for cell in line.split(delimiter)] if line else []


def _is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the first line names columns: `#2001 ...`, words, or whole numbers (`0,1,2`) above
    decimal ones."""
    if not first:
        return False
    numbered = all(cell.isdigit() for cell in first) and any("." in cell for cell in second)
    return (
        first[0].startswith("#")
        or not any(map(_is_number, first))
        or (numbered and len(set(first)) == len(first))
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _bad_cell(
    path: Path, lines: list[str], start: int, delimiter: str | None, header: Sequence[str]
) -> InputError:
    """The first cell that is no number, or the first row of another length."""
    width = None
    for number, line in enumerate(lines[start:], start + 1):
        if not line.strip():
            continue
        cells = _cells(line, delimiter)
        for column, cell in enumerate(cells):
            if not _is_number(cell):
                name = f" ({header[column][:LONGEST_SHOWN]})" if column < len(header) else ""
                return InputError(
                    f"{path}: row {number}, column {column + 1}{name} is '{cell[:LONGEST_SHOWN]}', "
                    "expected a number"
                )
        width = width or len(cells)
        if len(cells) != width:
            return InputError(
                f"{path}: row {number} has {len(cells)} columns, the rows above have {width}"
            )
    return InputError(f"{path}: not a table of numbers")
