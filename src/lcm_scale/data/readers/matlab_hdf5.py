"""Version 7.3 of MATLAB's files, which is HDF5, as the parts of `matlab_parts.py`.

Part of the child process of `matlab_child.py`, which alone imports it. Nothing outside the file is
read: links and numbers that lie elsewhere are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import scipy.sparse

if TYPE_CHECKING:
    from lcm_scale.data.readers import matlab_parts as parts
else:
    import matlab_parts as parts  # the child has it under this name

NUMBERS = frozenset(
    ("double", "single", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
)


def names(file: h5py.Group) -> list[str]:
    """The members of a group.  Raises: Refused where one lies outside the file, or may."""
    if len(file) > parts.MOST_VARIABLES:
        raise parts.Refused(
            f"{len(file):,} variables; at most {parts.MOST_VARIABLES:,} are looked at"
        )
    # MATLAB's own are #refs# and the like
    found = [name for name in file if not name.startswith("#")]
    for name in found:
        link = file.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            kind = "an external" if isinstance(link, h5py.ExternalLink) else "a soft"
            raise parts.Refused(
                f"'{name}' is {kind} link; it may lead out of the file, and MATLAB writes none"
            )
    return found


def kind_of(item: Any) -> str:
    """What MATLAB calls it, or HDF5 where MATLAB did not write it."""
    if item is None:
        return "damaged"
    label = item.attrs.get("MATLAB_class", b"")
    kind = label.decode("ascii", "replace") if isinstance(label, bytes) and label else ""
    if isinstance(item, h5py.Group):
        return "sparse" if "MATLAB_sparse" in item.attrs else kind[:40] or "struct"
    if h5py.check_ref_dtype(item.dtype) is not None:
        return kind[:40] or "cell"
    return kind[:40] or str(item.dtype)[:40]


def holds_numbers(item: h5py.Dataset) -> bool:
    """MATLAB marks text and truth values, which lie there as whole numbers."""
    kind = kind_of(item)
    marked = "MATLAB_class" in item.attrs
    plain = item.dtype.kind in "fiu" or item.dtype.names == ("real", "imag")
    return plain and (not marked or kind in NUMBERS)


def of_hdf5(file: h5py.File, name: str, most_numbers: int) -> parts.Part:
    """A variable of the root, as a part that can be read as long as the file is open."""
    item = file.get(name) if name in names(file) else None
    return _of_item(file, item, name, most_numbers, 0)


def _of_item(file: h5py.File, item: Any, name: str, most_numbers: int, depth: int) -> parts.Part:
    if depth > parts.DEEPEST:
        raise parts.Refused(f"structs and cells more than {parts.DEEPEST} deep")
    if isinstance(item, h5py.Group):
        if "MATLAB_sparse" in item.attrs:
            return _sparse(item, name, most_numbers)
        return parts.Struct(
            (1, 1),
            {
                field: _of_item(file, item.get(field), f"{name}.{field}", most_numbers, depth + 1)
                for field in names(item)
            },
        )
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        return parts.Other((), kind_of(item))
    shape = tuple(map(int, item.shape))[::-1]
    kind = kind_of(item)
    if "MATLAB_empty" in item.attrs:
        return parts.Other((0, 0), kind)
    if h5py.check_ref_dtype(item.dtype) is not None:
        if item.size > parts.MOST_CELLS:
            raise parts.Refused(f"{item.size:,} cells; at most {parts.MOST_CELLS:,} are looked at")
        refs = _values(item, None, name, most_numbers).ravel(order="F")
        return parts.Cells(
            shape,
            [
                _of_item(
                    file, file[ref] if ref else None, f"{name}{{{i + 1}}}", most_numbers, depth + 1
                )
                for i, ref in enumerate(refs)
            ],
        )
    if kind == "char":
        return parts.Words(shape, lambda: _text(_values(item, None, name, most_numbers)))
    if h5py.check_string_dtype(item.dtype) is not None:
        return parts.Words(shape, lambda: _strings(item, name, most_numbers))
    if holds_numbers(item):
        return parts.Numbers(shape, kind, lambda slab: _values(item, slab, name, most_numbers))
    return parts.Other(shape, kind)


def _values(
    item: h5py.Dataset, slab: Sequence[int] | None, name: str, most_numbers: int
) -> np.ndarray:
    """What a dataset holds, its sides as MATLAB has them.

    Raises: Refused where it lies in other files, or its pieces are too large.
    """
    if item.external or item.is_virtual:
        raise parts.Refused(f"the numbers of '{name}' lie in other files; none of them is opened")
    wanted = math.prod(item.shape) // (1 if slab is None else max(1, item.shape[::-1][slab[0]]))
    piece = math.prod(item.chunks or ())
    if max(wanted, piece) > most_numbers:
        raise parts.Refused(
            f"'{name}' claims {max(wanted, piece):,} numbers; at most {most_numbers:,} are read"
        )
    where: list[slice | int] = [slice(None)] * len(item.shape)
    if slab is not None:
        where[len(where) - 1 - slab[0]] = slab[1]
    values = np.asarray(item[tuple(where)]).T
    if values.dtype.names == ("real", "imag"):
        return np.asarray(values["real"] + 1j * values["imag"])
    return values


def _text(codes: np.ndarray) -> list[str]:
    """The rows of a text, of which MATLAB keeps each letter as a number."""
    return ["".join(map(chr, row)).rstrip() for row in np.atleast_2d(codes).tolist()]


def _strings(item: h5py.Dataset, name: str, most_numbers: int) -> list[str]:
    if item.size > parts.MOST_CELLS:
        raise parts.Refused(
            f"'{name}' holds {item.size:,} texts; at most {parts.MOST_CELLS:,} are read"
        )
    values = _values(item, None, name, most_numbers).ravel(order="F").tolist()
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]


def _sparse(group: h5py.Group, name: str, most_numbers: int) -> parts.Part:
    """The columns of a sparse matrix one after the other: numbers, rows, where a column begins."""
    held = [group.get(part) for part in names(group) if part in ("data", "ir", "jc")]
    starts = group.get("jc") if "jc" in names(group) else None
    if len(held) not in (1, 3) or not isinstance(starts, h5py.Dataset) or not starts.shape:
        return parts.Other((), "damaged")
    shape = (int(group.attrs["MATLAB_sparse"]), int(starts.shape[0]) - 1)

    def dense(slab: Sequence[int] | None) -> np.ndarray:
        if len(held) == 1:  # MATLAB writes no numbers where there are none
            return np.zeros(shape)
        data, rows, begins = (
            _values(group[part], None, name, most_numbers) for part in ("data", "ir", "jc")
        )
        packed = scipy.sparse.csc_matrix((data, rows, begins), shape=shape)
        packed.check_format(full_check=True)
        return np.asarray(packed.toarray())

    return parts.Numbers(shape, "sparse", dense)
