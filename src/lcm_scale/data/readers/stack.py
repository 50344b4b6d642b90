"""Many scans in one array, in an .npy, .npz or .mat: scans x volumes x regions, scans x regions x
regions, or the scans last, as MATLAB users stack them; or a table with a row of edges a scan, which
may be a text file too.

Which side counts the scans is said by source.stack, and whose they are by source.ids: nothing is
told from lengths. A cell of matrices, or a field of a struct array, is a stack whose first side
counts the scans.

Recipe keys: source.file, source.key (the variable; found where one fits), source.stack (first, last
or rows; the latter are whole matrices, or triangles of them: source.triangle), source.ids (`rows`:
the rows of source.table are the scans, in their order; else the variable of the file that lists an
id a scan), source.table: a table of people (`people.py`), joined by id where source.ids names a
variable; source.kind, source.orientation, source.order, source.tr, source.site.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, SourceConfig, expand
from lcm_scale.data.readers import numpy_files
from lcm_scale.data.readers.arrays import (
    SUFFIXES,
    as_matrix,
    as_series,
    choose,
    guarded,
    read_array,
)
from lcm_scale.data.readers.matlab import MATLAB
from lcm_scale.data.readers.names import refuse_strangers, scan_of
from lcm_scale.data.readers.numpy_files import Variable
from lcm_scale.data.readers.people import (
    OF_PEOPLE,
    Entry,
    People,
    columns_of,
    person_of,
    read_people,
    require,
    subject_of,
    united,
)
from lcm_scale.data.readers.phenotypes import read_rows
from lcm_scale.data.recordings import ScanArrays, Skipped, Unread
from lcm_scale.errors import InputError
from lcm_scale.identity import normalised
from lcm_scale.limits import is_file

SIDES = {"first": 0, "last": 2, "rows": 0}
ARRAYS = (".npy", ".npz", ".mat")
ROWS = "rows"  # source.ids: the table's rows are the scans


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """The scans in the order of the stack.

    Several scans of a person are runs 1, 2 and so on.
    Raises: InputError where the recipe leaves open whose the scans are, no array fits, or there is
        another number of rows or ids than of scans.
    """
    source = recipe.source
    if not source.file:
        raise InputError("source.file is not set: name the .npy, .npz or .mat of the scans")
    if source.stack not in SIDES:
        raise InputError(
            "source.stack is not set: first where scans x volumes x regions (or x regions x "
            "regions), last where the scans are the third side, rows where a row holds the edges "
            "of a scan"
        )
    if not source.ids:
        raise InputError(
            "source.ids is not set: say whose the scans are; rows where the rows of source.table "
            "are the scans in their order, or the variable of the file that lists their ids"
        )
    path, side = expand(source.file), SIDES[source.stack]
    if not is_file(path):
        raise InputError(f"source.file: {path}: no such file")
    of_rows = source.stack == ROWS
    suffixes = SUFFIXES if of_rows else ARRAYS
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: expected one of {', '.join(suffixes)}")
    ready = source.kind == "connectivity"
    if of_rows and not ready:
        raise InputError("source.stack=rows holds matrices; set source.kind=connectivity")
    columns: tuple[str, ...] = ()
    if of_rows:
        stack = _rows(path, source.key, atlas.n_regions)
    else:
        stack, columns = guarded(_stack, path, source.key, side, ready, atlas.n_regions)
    columns = columns if source.order == "names" else ()
    entries = _entries(recipe, path, stack.shape[side])
    total = Counter(normalised(entry.person.subject) for entry in entries)
    so_far: Counter[str] = Counter()
    for place, entry in enumerate(entries):
        subject = entry.person.subject
        so_far[normalised(subject)] += 1
        run = str(so_far[normalised(subject)]) if total[normalised(subject)] > 1 else ""
        scan = scan_of(recipe, path, {"subject": subject, "run": run}, entry, atlas)
        load = partial(_load, path, stack.name, side, place, source, columns, atlas)
        yield replace(scan, load=load, source=f"{path}, scan {place + 1}")


def _stack(
    path: Path, key: str | None, side: int, ready: bool, n_regions: int
) -> tuple[Variable, tuple[str, ...]]:
    """The array that is meant, and the names of its regions, where a .mat has a list of them."""

    def fits(array: Variable) -> bool:
        one = numpy_files.slab_of(array, side).shape
        return one == (n_regions, n_regions) if ready else n_regions in one

    listed: Sequence[Variable] = ()
    mat = path.suffix.lower() == ".mat"
    if path.suffix.lower() == ".npy":
        found = numpy_files.npy_variable(path)
        numpy_files.refuse_no_table(found, path, sides=3)
    else:
        listed = MATLAB.candidates(path, key) if mat else numpy_files.npz_variables(path)
        found = choose(listed, path, key, fits, sides=3)
    if not fits(found):
        shape = " x ".join(map(str, found.shape))
        raise InputError(
            f"{path}: '{found.name}' is {shape}, of which source.stack makes scans of "
            f"{' x '.join(map(str, numpy_files.slab_of(found, side).shape))}; that does not fit "
            f"{n_regions} regions (recipe keys atlas, source.kind, source.stack)"
        )
    if not mat:
        return found, ()
    one = numpy_files.slab_of(found, side)
    names = MATLAB.names_beside(path, one, listed)
    return found, tuple(names) if len(names) == n_regions else ()


def _rows(path: Path, key: str | None, n_regions: int) -> Variable:
    """The table of which a row is a scan.  Raises: InputError where no row can be one."""
    edges = n_regions * (n_regions - 1) // 2
    values = _table(path, key, n_regions, path.stat().st_mtime_ns)
    lengths = (edges, edges + n_regions, n_regions**2)
    if values.shape[1] not in lengths:
        raise InputError(
            f"{path}: rows of {values.shape[1]} values; {n_regions} regions have {lengths[0]} "
            f"edges, {lengths[1]} with the diagonal, {lengths[2]} as a whole matrix"
        )
    return Variable(key or "", values.shape, "float64", True)


@functools.lru_cache(maxsize=1)
def _table(path: Path, key: str | None, n_regions: int, changed: int) -> np.ndarray:
    """All rows. The last file's are kept, since each is a scan and a text is read as a whole.

    Args: changed: when the file was, so that another file of that name is another one.
    """
    edges = n_regions * (n_regions - 1) // 2
    lengths = (edges, edges + n_regions, n_regions**2)
    return read_array(path, key, lambda array: array.shape[-1] in lengths).values


def _entries(recipe: ShardRecipe, path: Path, n_scans: int) -> list[Entry]:
    """The person of each scan."""
    source, wanted = recipe.source, recipe.label_columns()
    if source.ids == ROWS:
        if not source.table:
            raise InputError(
                "source.table is not set: source.ids=rows takes the scans' people of it"
            )
        table = expand(source.table)
        rows = read_rows(table, ())
        if len(rows) != n_scans:
            raise InputError(
                f"{table}: {len(rows)} rows, {path} holds {n_scans} scans; with source.ids=rows "
                "there must be a row a scan"
            )
        column_of = columns_of(rows, table, source, OF_PEOPLE)
        require("subject", column_of, rows, table)
        entries = [
            Entry(person_of(subject_of(row, column_of), row, column_of, source, wanted), row.where)
            for row in rows
        ]
        united(entries, ())  # rows of one person that contradict each other are refused
        return entries
    ids = guarded(_ids, path, source.ids or "")
    if len(ids) != n_scans:
        raise InputError(
            f"{path}: '{source.ids}' lists {len(ids)} ids for {n_scans} scans (source.ids)"
        )
    empty = next((i for i, name in enumerate(ids) if not name.strip() or name == "nan"), None)
    if empty is not None:
        raise InputError(f"{path}: '{source.ids}': the id of scan {empty + 1} is empty")
    people = read_people(expand(source.table), source, wanted) if source.table else People()
    refuse_strangers(people, [path], ids, source.table or "")
    found = [people.of(name) for name in ids]
    return [
        replace(entry, person=replace(entry.person, subject=name.strip()))
        for entry, name in zip(found, ids, strict=True)
    ]


def _ids(path: Path, name: str) -> Sequence[str]:
    kind = path.suffix.lower()
    if kind == ".npy":
        raise InputError(f"{path}: an .npy lists no ids; source.ids=rows takes the table's rows")
    if kind == ".mat":
        return MATLAB.words(path, name)
    if name not in {variable.name for variable in numpy_files.npz_variables(path)}:
        raise InputError(f"{path}: no variable '{name}' (source.ids)")
    return numpy_files.npz_words(path, name)


def _load(
    path: Path,
    name: str,
    side: int,
    place: int,
    source: SourceConfig,
    columns: tuple[str, ...],
    atlas: Atlas,
) -> ScanArrays:
    n = atlas.n_regions
    if source.stack == ROWS:
        row = _table(path, source.key, n, path.stat().st_mtime_ns)[place]
        whole = row.size == n**2
        matrix = row.reshape(n, n) if whole else as_matrix(row[None], n, source.triangle, path)
        return ScanArrays(None, matrix, None)
    values = guarded(_slab, path, name, side, place)
    if source.kind == "connectivity":
        return ScanArrays(None, values, None, columns=columns)
    series = as_series(values, atlas.n_regions, path, source.orientation)
    return ScanArrays(series, None, None, columns=columns)


def _slab(path: Path, name: str, side: int, place: int) -> np.ndarray:
    """One scan."""
    kind = path.suffix.lower()
    if kind == ".npy":
        return numpy_files.npy_slab(path, side, place)
    if kind == ".mat":
        return MATLAB.read(path, name, slab=(side, place))
    whole = numpy_files.npz_stack(path, name, path.stat().st_mtime_ns)
    return np.ascontiguousarray(np.take(whole, place, axis=side))
