"""The HDF5 store: one data set's matrices, labels in plain words, and provenance; what people open
and look at.

`fc` (scans, E) holds upper triangles in the recipe's dtype, `scans/` one column a fact (hashed ids,
site, age ...), `labels/` one text column a label ('' missing). Blocks are appended as they are
read, so a data set larger than memory passes through. Shards are made from this file. No raw
subject id or file name enters it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import h5py
import numpy as np

from lcm_scale.errors import InputError

FORMAT = "lcm-scale-store/1"
CHUNK = 128  # scans that are moved at once


@dataclass(frozen=True)
class ScanFacts:
    """What the store says of one scan beside its matrix; NaN and '' are missing, volumes 0 a ready
    matrix. What has a default here, older stores do not know, and tars do not hold.

    Attributes:
        constant_regions, broken_regions: without data: never changing, and with NaN or inf.
        spikes: volumes at which the series jump, -1 where there are no series (`quality.spikes`).
        mean_abs_r: mean absolute value of the edges between regions with data.
    """

    scan: str
    subject: str
    session: str
    run: str
    site: str
    window: int
    volumes: int
    tr: float
    age: float
    sex: str
    mean_fd: float
    constant_regions: int
    broken_regions: int = 0
    spikes: int = -1
    mean_abs_r: float = float("nan")


QUALITY = tuple(each.name for each in fields(ScanFacts) if each.default is not MISSING)


@dataclass(frozen=True)
class Store:
    """An open store's facts; `fc` stays on disk and is read by row."""

    fc: h5py.Dataset
    facts: list[ScanFacts]
    labels: dict[str, list[str | None]]
    provenance: dict[str, Any]


def create(
    path: Path,
    n_edges: int,
    dtype: str,
    label_columns: Sequence[str],
    provenance: Mapping[str, str],
) -> None:
    """An empty store.  `provenance`: texts (JSON where structured) kept as attributes."""
    text = h5py.string_dtype()
    kinds = get_type_hints(ScanFacts)
    _see_room(path, 0)
    with h5py.File(path, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs.update(provenance)
        file.create_dataset(
            "fc", (0, n_edges), dtype, maxshape=(None, n_edges), chunks=(16, n_edges)
        )
        for column in fields(ScanFacts):
            kind = {str: text, int: np.int32, float: np.float32}[kinds[column.name]]
            file.create_dataset(
                f"scans/{column.name}", (0,), kind, maxshape=(None,), chunks=(1024,)
            )
        labels = file.create_group("labels")
        for name in label_columns:
            labels.create_dataset(name, (0,), text, maxshape=(None,), chunks=(1024,))


def append(
    path: Path,
    triangles: np.ndarray,
    facts: Sequence[ScanFacts],
    labels: Sequence[Mapping[str, str | None]],
) -> None:
    """Add scans behind the last.

    Args:
        triangles: (n, E).   facts, labels: n each; a label is None where it is missing.
    """
    _see_room(path, (len(triangles) + 16) * triangles.shape[1] * triangles.itemsize)
    with h5py.File(path, "r+") as file:
        start = len(file["fc"])
        end = start + len(triangles)
        _fill(file["fc"], start, end, triangles)
        for column in fields(ScanFacts):
            _fill(
                file[f"scans/{column.name}"],
                start,
                end,
                [getattr(fact, column.name) for fact in facts],
            )
        for name, column_data in file["labels"].items():
            _fill(column_data, start, end, [row.get(name) or "" for row in labels])


def _see_room(path: Path, size: int) -> None:
    """Raises: OSError where the disk has not that many bytes more, and a mebibyte for what HDF5
    keeps beside them.

    HDF5 itself must not find out: it crashes the process where it cannot write a file that it
        closes.
    """
    probe = path.with_suffix(".room")
    try:
        with open(probe, "wb") as handle:
            os.posix_fallocate(
                handle.fileno(), path.stat().st_size if path.exists() else 0, size + 2**20
            )
    finally:
        probe.unlink(missing_ok=True)


def read(file: h5py.File, scans: int | None = None) -> Store:
    """Args: scans: that it must hold, where somebody else says so.

    Raises: InputError where the file is no store, or not all of it lies in the file itself.
    """
    if file.attrs.get("format") != FORMAT:
        raise InputError(f"{file.filename}: not a store of this version ({FORMAT})")
    _refuse_elsewhere(file, len(file["fc"]) if scans is None else scans)
    columns = {
        name: _column(file[f"scans/{name}"], get_type_hints(ScanFacts)[name])
        for name in _fact_columns(file)
    }
    labels = {
        name: [value or None for value in _column(data, str)]
        for name, data in file["labels"].items()
    }
    provenance = {key: value for key, value in file.attrs.items() if key != "format"}
    facts = [
        ScanFacts(**dict(zip(columns, row, strict=True)))
        for row in zip(*columns.values(), strict=True)
    ]
    return Store(file["fc"], facts, labels, provenance)


def keep(path: Path, rows: np.ndarray) -> None:
    """Leave these scans in a store, and no others.  Args: rows: ascending."""
    with h5py.File(path, "r+") as file:
        columns = [f"scans/{name}" for name in _fact_columns(file)]
        for name in ("fc", *columns, *(f"labels/{label}" for label in file["labels"])):
            data = file[name]
            for start in range(0, len(rows), CHUNK):  # a row moves to where it, or one before, was
                part = rows[start : start + CHUNK]
                data[start : start + len(part)] = data[part]
            data.resize(len(rows), axis=0)


def _fact_columns(file: h5py.File) -> list[str]:
    """Those that the file has; older ones know fewer."""
    return [
        each.name
        for each in fields(ScanFacts)
        if each.name not in QUALITY or each.name in set(file["scans"])
    ]


def _refuse_elsewhere(file: h5py.File, scans: int) -> None:
    """Before memory is taken for a column, or a file that a stranger's store names is opened.

    Raises: InputError where a part is missing, a link, in another file, or not of that length.
    """
    groups = [_own(file, name) for name in ("scans", "labels")]
    columns = [f"scans/{name}" for name in _fact_columns(file)]
    for name in ("fc", *columns, *(f"labels/{label}" for label in groups[1])):
        data = _own(file, name)
        if data.external or data.is_virtual:
            raise InputError(f"{file.filename}: {name} lies in another file; shard the data again")
        if len(data) != scans:
            raise InputError(
                f"{file.filename}: {name} has {len(data)} scans, not {scans}; shard the data again"
            )


def _own(file: h5py.File, name: str) -> Any:
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise InputError(
            f"{file.filename}: {name} is missing, or a link elsewhere; shard the data again"
        )
    return file[name]


def _fill(data: h5py.Dataset, start: int, end: int, values: Any) -> None:
    data.resize(end, axis=0)
    data[start:end] = values


def _column(data: h5py.Dataset, kind: type) -> list[Any]:
    values = data.asstr()[:] if kind is str else data[:]
    return [kind(value) for value in values]
