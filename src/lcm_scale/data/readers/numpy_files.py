"""NumPy's .npy and .npz: what a header claims is compared with the bounds and with what the file
holds before memory is taken. Nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from lcm_scale.data.stored import HEADERS
from lcm_scale.errors import InputError
from lcm_scale.limits import refuse_too_many

MOST_VARIABLES = 10_000  # of one file
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
    return Variable(name, shape, str(dtype), dtype.kind in "fiu")


def refuse_no_table(found: Variable, path: Path) -> None:
    """Raises: InputError where it is no table of numbers, or one too large."""
    if not found.numbers or len(found.shape) != 2 or 0 in found.shape:
        shape = " x ".join(map(str, found.shape)) or "a single value"
        raise InputError(
            f"{path}: '{found.name}' is {found.kind[:80]}, {shape}; expected a table of "
            f"numbers{_instead(found)}"
        )
    refuse_too_many(found.shape, f"{path}: '{found.name}'")


def _instead(found: Variable) -> str:
    """What to do with what is no table, as the end of a message."""
    if found.kind in OBJECTS:
        return f"; save table2array({found.name}) of a table, or the numbers of another object"
    if found.numbers and len(found.shape) == 3:
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


def _read(stream: BinaryIO, size: int, name: str, path: Path) -> np.ndarray:
    """Args: size: bytes of the stream from its start to its end."""
    dtype, shape, by_columns = _header(stream)
    refuse_no_table(variable(name, shape, dtype), path)
    wanted, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if wanted > held:
        raise InputError(
            f"{path}: cannot be read as {path.suffix} (the header of '{name}' claims {wanted:,} "
            f"bytes, the file holds {held:,})"
        )
    values = np.empty(math.prod(shape), dtype)
    room, filled = values.view(np.uint8), 0
    while filled < wanted:
        step = stream.readinto(room[filled : filled + 2**20])  # type: ignore[attr-defined]
        if not step:
            raise EOFError(f"it ends after {filled:,} of {wanted:,} bytes")
        filled += step
    return values.reshape(shape, order="F" if by_columns else "C").astype(np.float64, order="C")


def _header(stream: BinaryIO) -> tuple[np.dtype, tuple[int, ...], bool]:
    """Type, shape, and whether columns follow each other."""
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"version {version[0]}.{version[1]} of the format")
    shape, by_columns, dtype = HEADERS[version](stream)
    if any(side < 0 for side in shape):
        raise ValueError(f"a negative length in the shape {shape}")
    return dtype, shape, by_columns
