"""The child process that reads MATLAB files, run by `matlab.py` as a script.

SciPy's and HDF5's parsers can be crashed, or sent round for ever, by a file made for it; here that
ends this process alone. It imports nothing of the package, so that it starts in a fraction of a
second. What a variable holds, cells and structs among it, is the business of `matlab_parts.py`
and `matlab_hdf5.py` beside it.

Requests come as lines of JSON: {"path": ..., "ask": ..., ...}; `ANSWERS` has what can be asked. An
answer is a letter and a length of eight bytes, then so many bytes:

- S, started;
- V, values as JSON: [[name, shape, kind, whether it holds numbers], ...], or words;
- A, an array: rows and columns as eight bytes each, then float64 row by row;
- R, refused, with the reason;
- F, failed, with the parser's words.

Arguments: the most numbers of an array, seconds of processor time for a request, bytes of memory.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import os
import resource
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import scipy.io

if TYPE_CHECKING:
    import h5py

MOST_VARIABLES = 10_000  # of one file; as in matlab_parts.py
BEGINNING = 4096  # bytes of a variable that hold its name and shape
OPAQUE = 17  # the class of an object of newer kind
COMPRESSED = 15  # the tag of a compressed variable in version 5
LONGEST_LIST = 2**22  # bytes: 400 for each of them; MATLAB's names have 63 characters
NUMBERS = frozenset(
    ("double", "single", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
)


def _beside(name: str) -> Any:
    """A module that lies beside this file, and by its path: the readers there are no modules of
    this process."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


matlab_parts = _beside("matlab_parts")
Refused = matlab_parts.Refused
Answer = tuple[bytes, list[bytes | memoryview]]


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
            kind, parts = ANSWERS[request.pop("ask")](**request, most_numbers=most_numbers)
        except Refused as reason:
            kind, parts = b"R", [str(reason)[:1000].encode(errors="replace")]
        except Exception as error:  # both parsers raise whatever a damaged file makes them
            words = f"{type(error).__name__}: {error}".rstrip(": ")[:300]
            kind, parts = b"F", [words.encode(errors="replace")]
        _answer(answers, kind, *parts)


def variables(path: str, most_numbers: int) -> Answer:
    """Name, shape, kind and whether it holds real numbers, of each variable; no data are read."""
    if _is_hdf5(path):
        with _hdf5(path) as file:
            return _listed([_described(file, name) for name in _hdf5_parts().names(file)])
    beginnings = _beginnings(path)
    if beginnings is None:
        found = scipy.io.whosmat(path, appendmat=False)
    else:
        head, *variables = beginnings
        found = [listed for begin in variables for listed in _header(head, begin)]
    return _listed(
        [
            [name, list(map(int, shape)), kind, kind in NUMBERS]
            for name, shape, kind in found
            if not name.startswith("__")
        ]
    )


def inside(path: str, name: str, most_numbers: int) -> Answer:
    """The same of what one variable holds: fields by a full stop, cells by their number."""
    with _variable(path, name, most_numbers) as part:
        return _listed(matlab_parts.described(name, part))


def read(
    path: str,
    name: str,
    within: str,
    slab: list[int] | None,
    cells: list[int] | None,
    most_numbers: int,
) -> Answer:
    """A table of numbers.

    Args:
        within: where in the variable, as `inside` names it, without the variable's own name.
        slab: side and place along it, of three sides.   cells: those of an array of cells that are
        joined, counted from 0.
    """
    with _variable(path, name, most_numbers) as part:
        part = matlab_parts.found(part, within)
        values = matlab_parts.table(part, f"{name}{within}", slab, cells, most_numbers)
        values = np.ascontiguousarray(values, dtype=np.float64)
        return b"A", [struct.pack("<QQ", *values.shape), values.data.cast("B")]


def words(path: str, name: str, within: str, most_numbers: int) -> Answer:
    """What a list of texts or of numbers says, as words."""
    with _variable(path, name, most_numbers) as part:
        return _listed(matlab_parts.words(matlab_parts.found(part, within), f"{name}{within}"))


@contextlib.contextmanager
def _variable(path: str, name: str, most_numbers: int) -> Iterator[Any]:
    """One variable as a part; in HDF5 it can be read as long as the file is open."""
    if _is_hdf5(path):
        with _hdf5(path) as file:
            yield _hdf5_parts().of_hdf5(file, name, most_numbers)
    else:
        yield matlab_parts.of_scipy(*_loaded(path, name))


def _loaded(path: str, name: str) -> tuple[Any, Any]:
    """A variable of version 4 to 7, and the same with the types that MATLAB has: SciPy gives truth
    values as whole numbers, or complex numbers as real ones. The last variable is kept: many scans
    may be read of one array."""
    about = Path(path).stat()
    which = (path, name, about.st_mtime_ns, about.st_size)
    if which not in KEPT:
        KEPT.clear()
        options = {"variable_names": [name], "appendmat": False}
        values = scipy.io.loadmat(path, **options)[name]
        holds = getattr(values, "dtype", np.dtype("f8"))
        container = holds.names is not None or holds.kind == "O"
        typed = scipy.io.loadmat(path, mat_dtype=True, **options)[name] if container else values
        KEPT[which] = values, typed
    return KEPT[which]


def _beginnings(path: str) -> list[bytes] | None:
    """The head of a version 5 file, and the beginnings of its variables, uncompressed: names and
    shapes stand there. SciPy would unpack far more to tell them, which takes as long as reading the
    numbers.

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
            parts.append(tag.pack(kind, len(begin)) + begin)
            if len(parts) > MOST_VARIABLES:
                raise Refused(f"more than {MOST_VARIABLES:,} variables")
    return parts


def _header(head: bytes, begin: bytes) -> list[tuple[str, tuple[int, ...], str]]:
    """What SciPy tells of one variable; of MATLAB's newer objects, tables among them, it tells
    nothing, and they have no shape."""
    order = "<" if head[126:] == b"IM" else ">"
    # Tag of the variable, tag of its flags, the flags; then, of such an object, its name.
    if len(begin) >= 32 and struct.unpack_from(f"{order}I", begin, 16)[0] & 0xFF == OPAQUE:
        first, size = struct.unpack_from(f"{order}II", begin, 24)
        small = first >> 16  # a name of up to four letters stands in its own tag
        name = begin[28 : 28 + small] if small else begin[32 : 32 + size]
        return [(name.decode("latin-1"), (), "opaque")]
    return scipy.io.whosmat(io.BytesIO(head + begin), appendmat=False)


def _listed(found: list[Any]) -> Answer:
    text = json.dumps(found).encode()
    if len(text) > LONGEST_LIST:
        raise Refused("the names of its variables are too long")
    return b"V", [text]


def _is_hdf5(path: str) -> bool:
    """MATLAB 7.3 writes HDF5 behind a block of 512 bytes."""
    with open(path, "rb") as handle:
        head = handle.read(520)
    return b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:])


def _hdf5_parts() -> Any:
    """HDF5 takes as long to load as all else here, and few files need it."""
    return sys.modules.get("matlab_hdf5") or _beside("matlab_hdf5")


def _hdf5(path: str) -> h5py.File:
    import h5py  # as late as its parts

    return h5py.File(path, "r")


def _described(file: h5py.File, name: str) -> list[Any]:
    import h5py

    item = file.get(name)  # None where it is damaged; another variable may still be read
    if not isinstance(item, h5py.Dataset):
        return [name, [], _hdf5_parts().kind_of(item), False]
    kind = _hdf5_parts().kind_of(item)
    # The axes lie the other way round.
    shape = list(map(int, item.shape or ()))[::-1]
    return [name, shape, kind, _hdf5_parts().holds_numbers(item)]


ANSWERS: dict[str, Callable[..., Answer]] = {
    "variables": variables,
    "inside": inside,
    "read": read,
    "words": words,
}
KEPT: dict[tuple[str, str, int, int], tuple[Any, Any]] = {}


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
