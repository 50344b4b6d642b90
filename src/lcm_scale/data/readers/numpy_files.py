"""NumPy's .npy and .npz: what a header claims is compared with the bounds and with what the file
holds before memory is taken. Nothing is unpickled."""

from __future__ import annotations

import functools
import math
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np

from lcm_scale.data.stored import HEADERS
from lcm_scale.errors import InputError
from lcm_scale.limits import refuse_too_many

MOST_VARIABLES = 10_000  # of one file
LONGEST_LIST = 2**24  # bytes of a list of ids
# Others take what they unpack with from the file itself, and NumPy writes none.
OBJECTS = ("opaque", "object", "table", "timetable", "dataset")  # of MATLAB's classes
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Variable:
    """An array of a file that has not been read.

    Attributes:
        kind: its type, as the kind of file calls it: 'float64', 'char', 'cell'.
        numbers: whether it holds real numbers.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    numbers: bool


def read_npy(path: Path) -> np.ndarray:
    """The table of an .npy.

    Returns: float64 (rows, columns).
    Raises: InputError where it is no table of numbers, too large, or cut off.
    """
    with open(path, "rb") as stream:
        return _read(stream, path.stat().st_size, path.stem, path)


def npy_variable(path: Path) -> Variable:
    """What an .npy holds, from its header."""
    with open(path, "rb") as stream:
        dtype, shape, _ = _header(stream)
    return variable(path.stem, shape, dtype)


def npy_slab(path: Path, side: int, place: int) -> np.ndarray:
    """One slab of an .npy of three sides, of which no more than that is read.

    Returns: float64 (rows, columns).
    Raises: InputError where it is no table of numbers, too large, or beyond the file's end.
    """
    with open(path, "rb") as stream:
        dtype, shape, by_columns = _header(stream)
        start = stream.tell()
    found = variable(path.stem, shape, dtype)
    refuse_no_table(slab_of(found, side), path)
    _refuse_short(math.prod(shape) * dtype.itemsize, path.stat().st_size - start, found.name, path)
    order = "F" if by_columns else "C"
    whole = np.memmap(path, dtype, "r", start, shape, order)  # type: ignore[call-overload]
    return np.take(whole, place, axis=side).astype(np.float64, order="C")


def slab_of(found: Variable, side: int) -> Variable:
    """An array without one of its sides."""
    shape = tuple(length for i, length in enumerate(found.shape) if i != side)
    return replace(found, shape=shape)


@functools.lru_cache(maxsize=1)
def npz_stack(path: Path, name: str, changed: int) -> np.ndarray:
    """An array of an .npz of three sides. The last one is kept, since many scans are read of it and
    it can only be unpacked as a whole.

    Args: changed: when the file was, so that another file of that name is another one.
    Raises: InputError as `read_npz`.
    """
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        with _open(archive, member, path) as stream:
            return _read(stream, member.file_size, name, path, sides=3)


def npz_words(path: Path, name: str) -> list[str]:
    """A list of texts or numbers of an .npz, as words.

    Raises: InputError where it is none, or too long.
    """
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        with _open(archive, member, path) as stream:
            dtype, shape, _ = _header(stream)
            long = math.prod(shape) * dtype.itemsize > LONGEST_LIST
            if long or len(shape) > 2 or math.prod(shape) != max(shape, default=0):
                raise InputError(f"{path}: '{name}' is no list of ids, or too long")
            if dtype.kind not in "fiuU":
                raise InputError(f"{path}: '{name}' is {dtype}; expected texts or numbers")
            raw = stream.read(math.prod(shape) * dtype.itemsize)
    values = np.frombuffer(raw, dtype).tolist()
    return [value if isinstance(value, str) else f"{value:.15g}" for value in values]


def npz_variables(path: Path) -> list[Variable]:
    """What an .npz holds, from its arrays' headers.  Raises: InputError where they are too many."""
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
        if len(members) > MOST_VARIABLES:
            raise InputError(
                f"{path}: {len(members):,} arrays; at most {MOST_VARIABLES:,} are looked at"
            )
        found = []
        for member in members:
            with _open(archive, member, path) as stream:
                dtype, shape, _ = _header(stream)
            found.append(variable(member.filename.removesuffix(".npy"), shape, dtype))
        return found


def read_npz(path: Path, name: str) -> np.ndarray:
    """One array of an .npz.

    Returns: float64 (rows, columns).
    Raises: InputError as `read_npy`.
    """
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        with _open(archive, member, path) as stream:
            return _read(stream, member.file_size, name, path)


def variable(name: str, shape: tuple[int, ...], dtype: np.dtype) -> Variable:
    """Args: shape: of the array; a vector, as one triangle of a matrix is kept, counts as a row."""
    row = (1, *shape) if len(shape) == 1 else shape
    return Variable(name, row, str(dtype), dtype.kind in "fiu")


def refuse_no_table(found: Variable, path: Path, sides: int = 2) -> None:
    """Raises: InputError where it is no table of numbers, or one too large."""
    if not found.numbers or len(found.shape) != sides or 0 in found.shape:
        shape = " x ".join(map(str, found.shape)) or "a single value"
        raise InputError(
            f"{path}: '{found.name}' is {found.kind[:80]}, {shape}; expected a "
            f"{'table' if sides == 2 else 'stack'} of numbers{_instead(found, sides)}"
        )
    if sides == 2:  # of a stack, one scan may be read at a time
        refuse_too_many(found.shape, f"{path}: '{found.name}'")


def _instead(found: Variable, sides: int) -> str:
    """What to do with what is no table, as the end of a message."""
    if found.kind in OBJECTS:
        return f"; save table2array({found.name}) of a table, or the numbers of another object"
    if found.numbers and len(found.shape) == 3 and sides == 2:
        return "; a stack of scans is read with reader: stack"
    if found.kind.startswith("cell"):
        return f"; name one cell ({found.name}{{1}}), or save cell2mat({found.name})"
    return ""


def _open(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> BinaryIO:
    if member.compress_type not in COMPRESSIONS:
        raise InputError(
            f"{path}: '{member.filename}' is compressed in a way that NumPy does not write"
        )
    return cast(BinaryIO, archive.open(member))


def _refuse_short(wanted: int, held: int, name: str, path: Path) -> None:
    if wanted > held:
        raise InputError(
            f"{path}: cannot be read as {path.suffix} (the header of '{name}' claims {wanted:,} "
            f"bytes, the file holds {held:,})"
        )


def _read(stream: BinaryIO, size: int, name: str, path: Path, sides: int = 2) -> np.ndarray:
    """Args: size: bytes of the stream from its start to its end.   sides: that the array has."""
    dtype, shape, by_columns = _header(stream)
    found = variable(name, shape, dtype)
    refuse_no_table(found, path, sides)
    refuse_too_many(shape, f"{path}: '{name}'")
    wanted = math.prod(shape) * dtype.itemsize
    _refuse_short(wanted, size - stream.tell(), name, path)
    values = np.empty(math.prod(shape), dtype)
    room, filled = values.view(np.uint8), 0
    while filled < wanted:
        step = stream.readinto(room[filled : filled + 2**20])  # type: ignore[attr-defined]
        if not step:
            raise EOFError(f"it ends after {filled:,} of {wanted:,} bytes")
        filled += step
    order: Literal["F", "C"] = "F" if by_columns else "C"
    return values.reshape(found.shape, order=order).astype(np.float64, order="C")


def _header(stream: BinaryIO) -> tuple[np.dtype, tuple[int, ...], bool]:
    """Type, shape, and whether columns follow each other."""
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"version {version[0]}.{version[1]} of the format")
    shape, by_columns, dtype = HEADERS[version](stream)
    if any(side < 0 for side in shape):
        raise ValueError(f"a negative length in the shape {shape}")
    return dtype, shape, by_columns
