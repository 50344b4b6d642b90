"""Array files: text tables (.1D .csv .tsv .txt), .npy, .npz and MATLAB, as (time, regions) or
(regions, regions).

Nothing here unpickles. A value that is no number is named by its row and column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from lcm_scale.atlas import Atlas
from lcm_scale.errors import InputError, nearest

TEXT = (".1d", ".csv", ".tsv", ".txt")
SUFFIXES = (*TEXT, ".npy", ".npz", ".mat")


@dataclass(frozen=True)
class Table:
    """Numbers of a file: `values` (rows, columns) and the names of its columns, empty where the
    file names none."""

    values: np.ndarray
    columns: tuple[str, ...] = ()


def read_array(
    path: Path, key: str | None = None, fits: Callable[[np.ndarray], bool] | None = None
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
    try:
        if kind == ".npy":
            return Table(_numeric(np.load(path, allow_pickle=False), path, path.stem))
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return Table(
                    _choose({name: archive[name] for name in archive.files}, path, key, fits)
                )
        if kind == ".mat":
            return Table(_choose(_read_mat(path), path, key, fits))
    except InputError:
        raise
    except (
        Exception
    ) as error:  # the parsers of three formats raise whatever a damaged file makes them
        raise InputError(
            f"{path}: cannot be read as {kind} ({type(error).__name__}: {error})"
        ) from error
    raise InputError(
        f"{path}: unknown kind of file '{path.suffix}'; expected one of {', '.join(SUFFIXES)}"
    )


def read_text(path: Path) -> Table:
    """A table of numbers, tab, comma or blank between them, with or without one line of column
    names.

    Raises: InputError where it is empty, ragged or holds text, naming row (as an editor counts) and
        column.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from error
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
    if all(column.isdigit() for column in columns):
        return tuple(int(column) for column in columns)
    if columns == atlas.names:
        return atlas.indices
    if len(columns) != atlas.n_regions or not set(columns) & set(atlas.names):
        return None
    by_name = dict(zip(atlas.names, atlas.indices, strict=True))
    strange = next((column for column in columns if column not in by_name), None)
    if strange is not None:
        raise InputError(
            f"{path}: column '{strange}' is no region of atlas "
            f"{atlas.name}{nearest(strange, by_name)}"
        )
    if len(set(columns)) != len(columns) or len(by_name) != atlas.n_regions:
        raise InputError(
            f"{path}: columns stand in another order than atlas {atlas.name}, and some names occur "
            "twice, so they cannot be matched; name the columns by atlas index"
        )
    return tuple(by_name[column] for column in columns)


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


def _choose(
    arrays: Mapping[str, np.ndarray],
    path: Path,
    key: str | None,
    fits: Callable[[np.ndarray], bool] | None,
) -> np.ndarray:
    if key is not None:
        if key not in arrays:
            raise InputError(
                f"{path}: no variable '{key}'{nearest(key, arrays)} (it holds {', '.join(arrays)})"
            )
        return _numeric(arrays[key], path, key)
    candidates = {name: a for name, a in arrays.items() if a.ndim == 2 and a.dtype.kind in "fiu"}
    if fits is not None:
        candidates = {name: a for name, a in candidates.items() if fits(a)}
    if len(candidates) == 1:
        return _numeric(*((array, path, name) for name, array in candidates.items()).__next__())
    held = (
        ", ".join(f"{name} {'x'.join(map(str, a.shape))}" for name, a in arrays.items())
        or "nothing"
    )
    found = (
        "several variables fit"
        if candidates
        else "no variable of numbers fits the atlas's number of regions"
    )
    raise InputError(f"{path}: {found}; name one with source.key (it holds {held})")


def _numeric(array: np.ndarray, path: Path, name: str) -> np.ndarray:
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.size == 0:
        raise InputError(
            f"{path}: '{name}' is {array.dtype} {array.shape}; expected a table of numbers"
        )
    return array.astype(np.float64)


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    try:
        held = scipy.io.loadmat(path)
    except NotImplementedError:  # MATLAB 7.3 is HDF5, its arrays lie transposed
        with h5py.File(path, "r") as file:
            return {
                name: item[()].T for name, item in file.items() if isinstance(item, h5py.Dataset)
            }
    return {
        name: value
        for name, value in held.items()
        if not name.startswith("__") and isinstance(value, np.ndarray)
    }


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
                name = f" ({header[column]})" if column < len(header) else ""
                return InputError(
                    f"{path}: row {number}, column {column + 1}{name} is '{cell}', expected a "
                    "number"
                )
        width = width or len(cells)
        if len(cells) != width:
            return InputError(
                f"{path}: row {number} has {len(cells)} columns, the rows above have {width}"
            )
    return InputError(f"{path}: not a table of numbers")
