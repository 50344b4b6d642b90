"""What a variable of a MATLAB file holds, as SciPy or HDF5 (`matlab_hdf5.py`) give it: numbers,
words, structs, cells.

Part of the child process of `matlab_child.py`, which alone imports it. A part says its shape as
MATLAB has it and gives its numbers when asked. Cells of one shape become one array: columns stand
side by side, matrices lie behind each other, first side first; so do the fields of struct arrays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
from scipy.io import matlab

MOST_VARIABLES = 10_000  # of a file, of the fields of a struct
MOST_CELLS = 100_000  # of an array of cells
DEEPEST = 16  # structs and cells within each other
SHOWN = 3  # sizes of cells that a message names
STEP = re.compile(r"\.([^.{}]+)|\{(\d+)\}")


class Refused(Exception):
    """The file can be read, and will not be; the message says why."""


@dataclass(frozen=True)
class Numbers:
    """An array of real numbers.

    Attributes: take: (side, place) of a slab, or None for all -> the array.
    """

    shape: tuple[int, ...]
    kind: str
    take: Callable[[Sequence[int] | None], np.ndarray]


@dataclass(frozen=True)
class Words:
    """Texts.  Attributes: read: all of them."""

    shape: tuple[int, ...]
    read: Callable[[], list[str]]


@dataclass(frozen=True)
class Struct:
    """A struct, or an array of them: a field of an array is `Cells`."""

    shape: tuple[int, ...]
    fields: dict[str, Part]


@dataclass(frozen=True)
class Cells:
    """An array of cells, column by column."""

    shape: tuple[int, ...]
    items: list[Part]


@dataclass(frozen=True)
class Other:
    """What is nothing of these: truth values, objects, tables of MATLAB, nothing at all."""

    shape: tuple[int, ...]
    kind: str


Part = Numbers | Words | Struct | Cells | Other


# -- what is asked of a part --


def described(name: str, part: Part) -> list[list[Any]]:
    """Name, shape, kind and whether it holds real numbers, of a part and of all in it."""
    found: list[list[Any]] = []
    for row in _described(name, part):
        found.append(row)
        if len(found) > MOST_VARIABLES:
            raise Refused(f"'{name}' has more than {MOST_VARIABLES:,} parts")
    return found


def found(part: Part, within: str) -> Part:
    """The part that lies at a place like `.subj{2}.tc`; `` is the part itself."""
    rest = within
    while rest:
        step = STEP.match(rest)
        if step is None:
            raise Refused(f"'{within}' is no place in a variable")
        field, number = step.groups()
        part = _one(part)
        if field is not None:
            if not isinstance(part, Struct) or field not in part.fields:
                raise Refused(f"there is no field '{field}'")
            part = part.fields[field]
        else:
            if not isinstance(part, Cells) or not 1 <= int(number) <= len(part.items):
                raise Refused(f"there is no cell {{{number}}}")
            part = part.items[int(number) - 1]
        rest = rest[step.end() :]
    return part


def table(
    part: Part, name: str, slab: list[int] | None, cells: list[int] | None, most_numbers: int
) -> np.ndarray:
    """Rows and columns; what was told of the part from its header may be otherwise now."""
    if cells is not None:
        if not isinstance(part, Cells) or not all(0 <= i < len(part.items) for i in cells):
            raise Refused(f"'{name}' is no such array of cells")
        part = Cells((1, len(cells)), [part.items[i] for i in cells])
    part = _one(part)
    if not isinstance(part, Numbers):
        raise Refused(f"'{name}' is no table of real numbers")
    shape = [side for i, side in enumerate(part.shape) if slab is None or i != slab[0]]
    if math.prod(shape) > most_numbers:
        raise Refused(
            f"'{name}' claims {math.prod(shape):,} numbers; at most {most_numbers:,} are read"
        )
    values = part.take(slab)
    if np.iscomplexobj(values):
        if values.imag.any():
            raise Refused(
                f"'{name}' holds complex numbers; save what is meant of them, as abs or real, and "
                "name that"
            )
        values = values.real
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiu":
        raise Refused(f"'{name}' is no table of real numbers")
    return values


def words(part: Part, name: str) -> list[str]:
    """A list of texts, or of numbers as one would write them."""
    part = _one(part)
    if isinstance(part, Words):
        return part.read()
    if isinstance(part, Cells) and all(isinstance(item, Words) for item in part.items):
        return ["".join(item.read()) for item in part.items if isinstance(item, Words)]
    if isinstance(part, Numbers) and math.prod(part.shape) <= MOST_CELLS:
        values = part.take(None)
        if values.dtype.kind in "fiu" and values.size == max(values.shape, default=0):
            return [f"{value:.15g}" for value in values.ravel().tolist()]
    raise Refused(f"'{name}' is no list of words or numbers")


def _described(name: str, part: Part) -> Iterator[list[Any]]:
    part = _one(part)
    shape = list(map(int, part.shape))
    if isinstance(part, Struct):
        yield [name, shape, "struct", False]
        for field, item in part.fields.items():
            yield from _described(f"{name}.{field}", item)
    elif isinstance(part, Cells):
        yield [name, shape, _kind_of_cells(part), False]
        if len(part.items) <= MOST_VARIABLES and not _are_words(part):
            for i, item in enumerate(part.items):
                if isinstance(_one(item), Numbers | Struct) and math.prod(item.shape) > 1:
                    yield from _described(f"{name}{{{i + 1}}}", item)
    elif isinstance(part, Words):
        yield [name, shape, "char", False]
    else:
        yield [name, shape, part.kind, isinstance(part, Numbers)]


def _kind_of_cells(cells: Cells) -> str:
    if _are_words(cells):
        return "cell of text"
    shapes = dict.fromkeys(item.shape for item in map(_one, cells.items))
    sizes = [" x ".join(map(str, shape)) for shape in shapes][:SHOWN]
    return f"cell of {'several sizes: ' if len(shapes) > 1 else ''}{', '.join(sizes)}"


def _are_words(cells: Cells) -> bool:
    return bool(cells.items) and all(isinstance(item, Words) for item in cells.items)


def _one(part: Part) -> Part:
    """Cells as the one thing that they are: what a single cell holds, the struct array of structs
    of the same fields, the array of numbers of one shape."""
    if not isinstance(part, Cells) or not part.items:
        return part
    items = [_one(item) for item in part.items]
    if len(items) == 1:
        return items[0]
    structs = [item for item in items if isinstance(item, Struct)]
    if len(structs) == len(items) and all(
        s.fields.keys() == structs[0].fields.keys() for s in structs
    ):
        return Struct(
            part.shape,
            {
                field: Cells(part.shape, [struct.fields[field] for struct in structs])
                for field in structs[0].fields
            },
        )
    numbers = [item for item in items if isinstance(item, Numbers)]
    if len(numbers) < len(items) or len({n.shape for n in numbers}) > 1:
        return part
    if len(numbers[0].shape) != 2 or 0 in numbers[0].shape:
        return part
    return _joined(numbers)


def _joined(numbers: list[Numbers]) -> Numbers:
    """Columns side by side; rows too, turned; matrices behind each other."""
    rows, columns = numbers[0].shape
    kind = f"cell of {rows} x {columns}"
    n = len(numbers)
    if 1 in (rows, columns):

        def side_by_side(slab: Sequence[int] | None) -> np.ndarray:
            return np.stack([item.take(None).reshape(-1) for item in numbers], axis=1)

        return Numbers((max(rows, columns), n), kind, side_by_side)

    def one_of(slab: Sequence[int] | None) -> np.ndarray:
        if slab is None or slab[0] != 0:
            raise Refused("cells of matrices are read one by one")
        return numbers[slab[1]].take(None)

    return Numbers((n, rows, columns), kind, one_of)


def _slab(values: np.ndarray, slab: Sequence[int] | None) -> np.ndarray:
    return values if slab is None else np.take(values, slab[1], axis=slab[0])


# -- versions 4 to 7, as SciPy gives them --


def of_scipy(value: Any, typed: Any, depth: int = 0) -> Part:
    """A variable that SciPy has loaded, as a part.

    Args: typed: the same loaded with MATLAB's types, which tell truth values from numbers.
    """
    if depth > DEEPEST:
        raise Refused(f"structs and cells more than {DEEPEST} deep")
    if scipy.sparse.issparse(value):
        return Numbers(value.shape, "sparse", lambda slab: _slab(value.toarray(), slab))
    if not isinstance(value, np.ndarray):
        return Other((), type(value).__name__)
    shape = value.shape
    if isinstance(value, matlab.MatlabFunction | matlab.MatlabObject | matlab.MatlabOpaque):
        return Other(shape, "object")
    kind = value.dtype.kind
    if kind in "VO" and value.size > MOST_CELLS:
        raise Refused(f"{value.size:,} cells; at most {MOST_CELLS:,} are looked at")
    elements = value.ravel(order="F")

    def items(one: np.ndarray, other: np.ndarray) -> list[Part]:
        pairs = zip(one, other.ravel(order="F"), strict=True)
        return [of_scipy(item, twin, depth + 1) for item, twin in pairs]

    if value.dtype.names is not None:
        return Struct(
            shape,
            {
                field: Cells(shape, items(elements[field], typed[field]))
                for field in value.dtype.names
            },
        )
    if kind == "O":
        return Cells(shape, items(elements, typed))
    if kind in "US":
        return Words(shape, lambda: [str(word).rstrip() for word in elements])
    if kind in "fiuc" and typed.dtype.kind != "b":
        return Numbers(shape, str(value.dtype), partial(_slab, value))
    return Other(shape, "logical" if kind in "bu" else str(value.dtype)[:40])
