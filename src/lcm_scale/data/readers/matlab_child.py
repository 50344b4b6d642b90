"""The child process that reads MATLAB files, run by `matlab.py` as a script.

SciPy's and HDF5's parsers can be crashed, or sent round for ever, by a file made for it; here that
ends this process alone. It imports nothing of the package, so that it starts in a fraction of a
second.

Requests come as lines of JSON: {"path": ..., "name": null or a variable}. An answer is a letter and
a length of eight bytes, then so many bytes:

- S, started;
- V, the variables as JSON: [[name, shape, kind, whether it holds numbers], ...];
- A, an array: rows and columns as eight bytes each, then float64 row by row;
- R, refused, with the reason;
- F, failed, with the parser's words.

Arguments: the most numbers of an array, seconds of processor time for a request, bytes of memory.
"""

from __future__ import annotations

import io
import json
import math
import os
import resource
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import scipy.io

if TYPE_CHECKING:
    import h5py

MOST_VARIABLES = 10_000  # of one file
BEGINNING = 4096  # bytes of a variable that hold its name and shape
COMPRESSED = 15  # the tag of a compressed variable in version 5
LONGEST_LIST = 2**22  # bytes: 400 for each of them; MATLAB's names have 63 characters
NUMBERS = frozenset(
    ("double", "single", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
)


class Refused(Exception):
    """The file can be read, and will not be; the message says why."""


def main() -> None:
    most_numbers, seconds, memory = map(int, sys.argv[1:])
    answers = _own_pipe()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _address_space() + memory)
    _answer(answers, b"S", b"")
    for line in sys.stdin.buffer:
        request = json.loads(line)
        parts: list[bytes | memoryview]
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + seconds)
        try:
            if request["name"] is None:
                kind, parts = b"V", [_listed(variables(request["path"]))]
            else:
                values = read(request["path"], request["name"], most_numbers)
                kind, parts = b"A", [struct.pack("<QQ", *values.shape), values.data.cast("B")]
        except Refused as reason:
            kind, parts = b"R", [str(reason)[:1000].encode(errors="replace")]
        except Exception as error:  # both parsers raise whatever a damaged file makes them
            words = f"{type(error).__name__}: {error}".rstrip(": ")[:300]
            kind, parts = b"F", [words.encode(errors="replace")]
        _answer(answers, kind, *parts)


def variables(path: str) -> list[list[Any]]:
    """Name, shape, kind and whether it holds real numbers, of each variable; no data are read."""
    if _is_hdf5(path):
        with _hdf5(path) as file:
            return [_described(file, name) for name in _names(file)]
    found = scipy.io.whosmat(_beginnings(path) or path, appendmat=False)
    return [
        [name, list(map(int, shape)), kind, kind in NUMBERS]
        for name, shape, kind in found
        if not name.startswith("__")
    ]


def read(path: str, name: str, most_numbers: int) -> np.ndarray:
    """One variable.  Returns: float64 (rows, columns)."""
    if _is_hdf5(path):
        with _hdf5(path) as file:
            values = _dataset(file, name, most_numbers)
    else:
        values = scipy.io.loadmat(path, variable_names=[name], appendmat=False)[name]
    # What it is was told from its header; what came out of its data may be something else.
    table = isinstance(values, np.ndarray) and values.ndim == 2 and values.size > 0
    if not table or values.dtype.kind not in "fiu":
        raise Refused(f"'{name}' is no table of real numbers")
    if values.size > most_numbers:
        raise Refused(f"'{name}' holds {values.size:,} numbers; at most {most_numbers:,} are read")
    return np.ascontiguousarray(values, dtype=np.float64)


def _beginnings(path: str) -> io.BytesIO | None:
    """A version 5 file of the beginnings of its variables, uncompressed: names and shapes stand
    there. SciPy would unpack far more to tell them, which takes as long as reading the numbers.

    Returns: None where the file is of version 4.
    """
    with open(path, "rb") as file:
        head = file.read(128)
        order = {b"IM": "<", b"MI": ">"}.get(head[126:])
        if order is None or 0 in head[:4]:  # so SciPy tells them from version 4, too
            return None
        tag = struct.Struct(f"{order}II")
        parts = [head]
        while len(start := file.read(tag.size)) == tag.size:
            kind, size = tag.unpack(start)
            begin = file.read(min(size, BEGINNING))
            file.seek(size - len(begin), os.SEEK_CUR)
            if kind == COMPRESSED:
                begin = zlib.decompressobj().decompress(begin, BEGINNING)
                kind, begin = tag.unpack_from(begin)[0], begin[tag.size :]
            parts += [tag.pack(kind, len(begin)), begin]
            if len(parts) > 2 * MOST_VARIABLES:
                raise Refused(f"more than {MOST_VARIABLES:,} variables")
    return io.BytesIO(b"".join(parts))


def _listed(found: list[list[Any]]) -> bytes:
    text = json.dumps(found).encode()
    if len(text) > LONGEST_LIST:
        raise Refused("the names of its variables are too long")
    return text


def _is_hdf5(path: str) -> bool:
    """MATLAB 7.3 writes HDF5 behind a block of 512 bytes."""
    with open(path, "rb") as handle:
        head = handle.read(520)
    return b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:])


def _hdf5(path: str) -> h5py.File:
    import h5py  # takes as long as all else here, and few files need it

    return h5py.File(path, "r")


def _names(file: h5py.File) -> list[str]:
    """The root's members.  Raises: Refused where one lies outside the file, or may."""
    import h5py

    if len(file) > MOST_VARIABLES:
        raise Refused(f"{len(file):,} variables; at most {MOST_VARIABLES:,} are looked at")
    names = [
        name for name in file if not name.startswith("#")
    ]  # MATLAB's own are #refs# and the like
    for name in names:
        link = file.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            kind = "an external" if isinstance(link, h5py.ExternalLink) else "a soft"
            raise Refused(
                f"'{name}' is {kind} link; it may lead out of the file, and MATLAB writes none"
            )
    return names


def _described(file: h5py.File, name: str) -> list[Any]:
    import h5py

    item = file.get(name)  # None where it is damaged; another variable may still be read
    if not isinstance(item, h5py.Dataset):
        return [name, [], "struct" if isinstance(item, h5py.Group) else "damaged", False]
    label = item.attrs.get("MATLAB_class", b"")
    kind = label.decode("ascii", "replace") if isinstance(label, bytes) and label else ""
    # MATLAB marks text and truth values, which lie there as whole numbers.
    numbers = item.dtype.kind in "fiu" and (not kind or kind in NUMBERS)
    # The axes lie the other way round.
    return [name, list(map(int, item.shape or ()))[::-1], kind or str(item.dtype)[:40], numbers]


def _dataset(file: h5py.File, name: str, most_numbers: int) -> np.ndarray:
    """Raises: Refused where the numbers lie in other files, or their pieces are too large."""
    import h5py

    item = file.get(name) if name in _names(file) else None
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        raise Refused(f"'{name}' is no table of real numbers")
    if item.external or item.is_virtual:
        raise Refused(f"the numbers of '{name}' lie in other files; none of them is opened")
    piece = math.prod(item.chunks or ())
    if max(item.size, piece) > most_numbers:
        raise Refused(
            f"'{name}' claims {max(item.size, piece):,} numbers; at most {most_numbers:,} are read"
        )
    return np.asarray(item[()]).T


def _own_pipe() -> BinaryIO:
    """The pipe to the parent, out of reach of whatever a parser prints; that goes nowhere."""
    pipe = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return pipe


def _answer(pipe: BinaryIO, kind: bytes, *parts: bytes | memoryview) -> None:
    pipe.write(struct.pack("<cQ", kind, sum(len(part) for part in parts)))
    for part in parts:
        pipe.write(part)
    pipe.flush()


def _limit(which: int, soft: int) -> None:
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _address_space() -> int:
    """Bytes that this process has in its address space already."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


if __name__ == "__main__":
    main()
