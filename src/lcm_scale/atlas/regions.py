"""Atlases: which region stands in which row of a connectivity matrix.

A region *is* its atlas index (the value of the label image); its name is only a label and may occur twice.
Order is data: it travels with shards and checkpoints, is compared by checksum, and is mended by index.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.errors import InputError

BUILT_IN = ("aal116",)


@dataclass(frozen=True)
class Atlas:
    """Regions in matrix order.

    Attributes:
        name: what people call it, for example ``aal116``.
        indices: R label values, unique.
        names: R region names, may repeat.
        networks: R network (or lobe) names, or empty.
        coordinates: R MNI centroids in mm, or empty.
    """

    name: str
    indices: tuple[int, ...]
    names: tuple[str, ...]
    networks: tuple[str, ...] = ()
    coordinates: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.indices)) != len(self.indices):
            raise InputError(
                f"atlas {self.name}: a region index occurs twice; indices identify regions, names may repeat"
            )
        for what, values in (("names", self.names), ("networks", self.networks), ("coordinates", self.coordinates)):
            if len(values) not in ((len(self.indices),) if what == "names" else (0, len(self.indices))):
                raise InputError(f"atlas {self.name}: {len(values)} {what} for {len(self.indices)} regions")

    @property
    def n_regions(self) -> int:
        return len(self.indices)

    @property
    def n_edges(self) -> int:
        return self.n_regions * (self.n_regions - 1) // 2

    @cached_property
    def checksum(self) -> str:
        """SHA-256 (16 hex digits) of the indices and names in order: equal means rows mean the same."""
        text = json.dumps([list(self.indices), list(self.names)], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def label(self, position: int) -> str:
        """A region as people should see it: its name and index."""
        return f"{self.names[position]} ({self.indices[position]})"

    def order_from(self, other: Atlas) -> np.ndarray:
        """Positions in ``other`` of this atlas's regions, matched by index.

        Returns: int64 (R,) such that ``matrix_of_other[np.ix_(p, p)]`` is in this atlas's order.
        Raises: InputError where the two do not hold the same regions.
        """
        place = {index: i for i, index in enumerate(other.indices)}
        if set(place) != set(self.indices):
            missing = len(set(self.indices) - set(place))
            raise InputError(
                f"atlas {other.name} ({other.n_regions} regions) does not hold the regions of {self.name} "
                f"({self.n_regions}; {missing} missing): only data of one atlas can be mixed"
            )
        return np.array([place[index] for index in self.indices], dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "indices": list(self.indices),
            "names": list(self.names),
            "networks": list(self.networks),
            "coordinates": [list(c) for c in self.coordinates],
            "checksum": self.checksum,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Atlas:
        """Raises: InputError where the stored checksum does not fit the stored regions."""
        atlas = cls(
            name=str(data["name"]),
            indices=tuple(int(i) for i in data["indices"]),
            names=tuple(str(n) for n in data["names"]),
            networks=tuple(str(n) for n in data.get("networks", ())),
            coordinates=tuple((float(x), float(y), float(z)) for x, y, z in data.get("coordinates", ())),
        )
        if data.get("checksum", atlas.checksum) != atlas.checksum:
            raise InputError(f"atlas {atlas.name}: its checksum does not fit its regions; the file was edited")
        return atlas


def edge_order(positions: Sequence[int] | np.ndarray) -> np.ndarray:
    """The re-ordering of regions as one of upper-triangle edges.

    Args: positions: (R,) as from `Atlas.order_from`.
    Returns: int64 (E,) such that ``triangle[..., result]`` is the triangle of the re-ordered matrix.
    """
    positions = np.asarray(positions)
    n = len(positions)
    rows, columns = np.triu_indices(n, 1)
    number = np.zeros((n, n), dtype=np.int64)
    number[rows, columns] = np.arange(len(rows))
    number += number.T
    return number[positions[rows], positions[columns]]


def numbered(name: str, n_regions: int) -> Atlas:
    """An atlas of which only the number of regions is known: indices 1..R."""
    return Atlas(name, tuple(range(1, n_regions + 1)), tuple(f"region {i}" for i in range(1, n_regions + 1)))


def load_atlas(name_or_path: str) -> Atlas:
    """A built-in atlas by name, or a TSV/CSV with columns ``index``, ``name`` and optionally ``network``, ``x``, ``y``, ``z``.

    ``<name>:<R>`` gives a numbered atlas for files that come without names.
    Raises: InputError.
    """
    if name_or_path in BUILT_IN:
        path = resources.files("lcm_scale") / "atlases" / f"{name_or_path}.tsv"
        return _parse(name_or_path, path.read_text(encoding="utf-8"), name_or_path)
    stem, colon, count = name_or_path.rpartition(":")
    if colon and count.isdigit() and not Path(name_or_path).exists():
        return numbered(stem, int(count))
    file = Path(name_or_path)
    if not file.is_file():
        raise InputError(
            f"atlas '{name_or_path}': neither built in ({', '.join(BUILT_IN)}), a file, nor 'name:regions'"
        )
    try:
        return _parse(file.stem, file.read_text(encoding="utf-8-sig"), str(file))
    except UnicodeDecodeError as error:
        raise InputError(f"atlas {file}: no text; expected a TSV or CSV with the columns index and name") from error


def _parse(name: str, text: str, where: str) -> Atlas:
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = list(csv.DictReader(text.splitlines(), delimiter=delimiter))
    if not rows or not {"index", "name"} <= set(rows[0]):
        raise InputError(f"atlas {where}: needs a header with the columns index and name")
    try:
        return Atlas(
            name=name,
            indices=tuple(int(row["index"]) for row in rows),
            names=tuple(row["name"] for row in rows),
            networks=tuple(row["network"] for row in rows) if "network" in rows[0] else (),
            coordinates=tuple((float(r["x"]), float(r["y"]), float(r["z"])) for r in rows) if "x" in rows[0] else (),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"atlas {where}: {error}; index is a whole number, x, y, z are mm") from error
