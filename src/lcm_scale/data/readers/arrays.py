"""Array files: text tables (.1D .csv .tsv .txt), .npy, .npz and MATLAB, as (time, regions) or
(regions, regions).

Nothing here unpickles, and no more is read than `limits.py` allows. Text is read by
`text_tables.py`, names of columns by `columns.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import SourceConfig
from lcm_scale.data.readers import numpy_files
from lcm_scale.data.readers.columns import is_counted
from lcm_scale.data.readers.matlab import MATLAB
from lcm_scale.data.readers.numpy_files import Variable
from lcm_scale.data.readers.text_tables import (
    COUNTS_ROWS,
    LONGEST_SHOWN,
    Table,
    counts_rows,
    read_text,
)
from lcm_scale.data.recordings import ScanArrays
from lcm_scale.errors import InputError, nearest

TEXT = (".1d", ".csv", ".tsv", ".txt")
HDF5 = (".h5", ".hdf5")
SUFFIXES = (*TEXT, ".npy", ".npz", ".mat", *HDF5)
Parsed = TypeVar("Parsed")
LISTED = 20  # variables of a file that a message names


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
    if kind == ".mat" or kind in HDF5:  # MATLAB's version 7.3 is HDF5, too
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
        table
        if not names
        else Table(table.values[:, keep], tuple(table.columns[i] for i in keep), table.remarks)
    )


def read_scan(path: Path, source: SourceConfig, atlas: Atlas) -> ScanArrays:
    """One scan's file, as the recipe's source says (key, drop_columns, kind, order, orientation,
    triangle).

    Raises: InputError as `read_array`, `without`, `as_series` and `as_matrix`.
    """
    n, ready = atlas.n_regions, source.kind == "connectivity"
    if path.suffix.lower() in TEXT:
        data = read_text(path, atlas.indices, source.drop_columns)
    else:
        data = read_array(path, source.key, shape_of_scan(n, ready))
        data = without(data, source.drop_columns, path)
    if not data.columns and data.values.shape[1] == n + 1 and counts_rows(data.values):
        data = Table(data.values[:, 1:], (), (*data.remarks, COUNTS_ROWS))
    columns = data.columns if source.order == "names" else ()
    if ready:
        matrix = as_matrix(data.values, n, source.triangle, path)
        if matrix is not data.values:
            columns = ()  # names of edges, if any
        return ScanArrays(None, matrix, None, columns=columns, file_remarks=data.remarks)
    # Names say that columns are regions. Numbers 0, 1, 2 ... that pandas writes say nothing.
    series = data.values
    if not is_counted(data.columns):
        if source.orientation == "region_by_time":
            raise InputError(
                f"{path}: its columns have names ({data.columns[0][:LONGEST_SHOWN]} ...), so they "
                "are regions, and not volumes (source.orientation=region_by_time)"
            )
    elif not data.columns or n in series.shape:
        series = as_series(series, n, path, source.orientation)
        columns = columns if series is data.values else ()
    return ScanArrays(series, None, None, columns=columns, file_remarks=data.remarks)


def shape_of_scan(n_regions: int, ready: bool) -> Callable[[Variable], bool]:
    """Which of a file's arrays may be a scan's.  Args: ready: a matrix, or a triangle of one, no
    series."""
    sizes = {n_regions * (n_regions - 1) // 2, n_regions * (n_regions + 1) // 2}

    def fits(array: Variable) -> bool:
        if not ready:
            return n_regions in array.shape
        is_vector = len(array.shape) == 2 and 1 in array.shape
        return array.shape == (n_regions, n_regions) or (is_vector and max(array.shape) in sizes)

    return fits


def as_series(
    values: np.ndarray, n_regions: int, path: Path, orientation: str = "auto"
) -> np.ndarray:
    """(T, R) from (T, R) or (R, T): the side as long as the atlas is the regions'.

    Args: orientation: ``time_by_region`` or ``region_by_time`` where the sides cannot tell.
    Raises: InputError where neither side is, or both are.
    """
    if values.ndim != 2 or n_regions not in values.shape:
        shape = " x ".join(map(str, values.shape))
        raise InputError(
            f"{path}: array of {shape}; expected one side of {n_regions} regions (recipe key "
            "'atlas')"
        )
    if orientation == "auto" and values.shape[0] == values.shape[1]:
        raise InputError(
            f"{path}: {n_regions} x {n_regions}: time and regions cannot be told apart; set "
            "source.orientation=time_by_region or region_by_time, or source.kind=connectivity if "
            "it is a ready matrix"
        )
    if orientation == "auto":
        return values if values.shape[1] == n_regions else values.T
    turned = values if orientation == "time_by_region" else values.T
    if turned.shape[1] != n_regions:
        raise InputError(
            f"{path}: {values.shape[0]} x {values.shape[1]} is not {orientation} of {n_regions} "
            "regions (source.orientation)"
        )
    return turned


def as_matrix(values: np.ndarray, n_regions: int, triangle: str, path: Path) -> np.ndarray:
    """(R, R) from itself, or from a vector of its triangle.

    Args:
        triangle: ``upper`` or ``lower``, row by row; its length says whether the diagonal is in it.
    Raises: InputError where a vector's triangle is not said.
    """
    without_diagonal = n_regions * (n_regions - 1) // 2
    if values.size not in (without_diagonal, without_diagonal + n_regions) or (
        1 not in values.shape
    ):
        return values
    if triangle == "none":
        raise InputError(
            f"{path}: a vector of {values.size} values, as many as a triangle of {n_regions} "
            "regions has; say which: source.triangle=upper (row by row above the diagonal, as "
            "numpy.triu_indices) or lower (row by row below it, which is MATLAB's column by "
            "column above it)"
        )
    offset = 1 if values.size == without_diagonal else 0
    matrix = np.eye(n_regions) if offset else np.zeros((n_regions, n_regions))
    if triangle == "upper":
        rows, columns = np.triu_indices(n_regions, offset)
    else:
        rows, columns = np.tril_indices(n_regions, -offset)
    matrix[rows, columns] = values.ravel()
    matrix[columns, rows] = values.ravel()
    return matrix


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
