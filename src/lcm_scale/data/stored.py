"""NumPy arrays in our own files: type and shape are known beforehand, and no memory is taken for
anything else.

A header of eighty bytes can claim terabytes, and a compressed file of two megabytes unpack to two
gigabytes. So an array is as long as its bytes, which are in memory already, and archives hold their
members uncompressed, as we write them.
"""

from __future__ import annotations

import io
import math
import sys
import zipfile
from collections.abc import Mapping

import numpy as np

from lcm_scale.errors import InputError

Shape = tuple[int | None, ...] | None  # None: any length, or any shape
# The third version of .npy is for names of fields in other alphabets; tables have no fields.
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def npy(data: bytes | memoryview, name: str, dtype: str, shape: Shape) -> np.ndarray:
    """The array of an .npy, as a view of its bytes that cannot be written to.

    Args: dtype: as NumPy spells it; '<U' and '<f': text and numbers of any length.
    Raises: InputError where it is of another type or shape, or shorter or longer than it says.
    """
    stream = io.BytesIO(data[: 2**16])  # the longest header that NumPy itself reads is 10,000 bytes
    try:
        found, by_columns, stated = HEADERS[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # a header is Python's syntax, and fails in as many ways
        raise InputError(f"{name}: no array ({type(error).__name__})") from error
    size = math.prod(found) * stated.itemsize
    fits = min(found, default=0) >= 0 and (
        shape is None
        or (
            len(found) == len(shape)
            and all(wanted in (None, length) for length, wanted in zip(found, shape, strict=True))
        )
    )
    if not fits or not stated.str.startswith(dtype) or (by_columns and len(found) > 1):
        raise InputError(f"{name}: {stated.str[:10]} of shape {found}, not {dtype} of {shape}")
    if size != len(data) - stream.tell():
        raise InputError(f"{name}: {len(data) - stream.tell()} bytes, where its header says {size}")
    if not size:
        return np.empty(found, stated)
    array = np.frombuffer(data, stated, math.prod(found), stream.tell()).reshape(found)
    if stated.kind == "U" and array.view(np.uint32).max() > sys.maxunicode:
        raise InputError(f"{name}: characters that Unicode does not have")
    return array


def npz(
    data: bytes,
    wanted: Mapping[str, tuple[str, Shape]],
    largest: int = 0,
    optional: Mapping[str, tuple[str, Shape]] | None = None,
) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name.

    Args:
        wanted: name -> dtype and shape, as for `npy`.
        largest: bytes that compressed arrays may unpack to, all together.
        optional: as `wanted`, of arrays that may be missing.
    Raises: InputError where one is missing, damaged, compressed too much, or as `npy`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            there = set(archive.namelist())
            more = {k: v for k, v in (optional or {}).items() if f"{k}.npy" in there}
            kinds = {**wanted, **more}
            members = {name: archive.getinfo(f"{name}.npy") for name in kinds}
            packed = [m for m in members.values() if m.compress_type != zipfile.ZIP_STORED]
            # Others than deflate take what they unpack with from the file itself.
            if any(member.compress_type != zipfile.ZIP_DEFLATED for member in packed):
                raise InputError("its arrays are compressed in a way that NumPy does not write")
            if sum(member.file_size for member in packed) > largest:
                raise InputError(f"its arrays unpack to more than {largest:,} bytes")
            found = {name: archive.read(member) for name, member in members.items()}
    except InputError:
        raise
    except Exception as error:  # flipped bits may name any version, length or place
        raise InputError(f"{type(error).__name__}: {error}") from error
    return {name: npy(found[name], name, *kind) for name, kind in kinds.items()}
