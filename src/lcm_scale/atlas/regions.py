"""Atlases: which region stands in which row of a connectivity matrix.

A region *is* its atlas index (the value of the label image); its name is only a label and may occur
twice.
Order is data: it travels with shards and checkpoints, is compared by checksum, and is mended by
index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lcm_scale import checked
from lcm_scale.errors import InputError
from lcm_scale.limits import MOST_REGIONS


@dataclass(frozen=True)
class Atlas:
    """Regions in matrix order.

    Parameters
    ----------
    name : str
        What people call it, for example ``aal116``.
    indices : tuple of R ints
        Values of the label image, unique.
    names : tuple of R strs
        Of the regions, may repeat.
    networks : tuple of R strs, optional
        Networks or lobes, '' for a region of none.
    coordinates : tuple of R points, optional
        (x, y, z) in MNI space, mm.

    Raises
    ------
    InputError
        Where an index occurs twice, or a list is not of R entries.
    """

    name: str
    indices: tuple[int, ...]
    names: tuple[str, ...]
    networks: tuple[str, ...] = ()
    coordinates: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.indices)) != len(self.indices):
            raise InputError(
                f"atlas {self.name}: a region index occurs twice; indices identify regions, names "
                "may repeat"
            )
        for what, values in (
            ("names", self.names),
            ("networks", self.networks),
            ("coordinates", self.coordinates),
        ):
            if len(values) not in (
                (len(self.indices),) if what == "names" else (0, len(self.indices))
            ):
                raise InputError(
                    f"atlas {self.name}: {len(values)} {what} for {len(self.indices)} regions"
                )

    @property
    def n_regions(self) -> int:
        """R."""
        return len(self.indices)

    @property
    def n_edges(self) -> int:
        """E = R(R-1)/2."""
        return self.n_regions * (self.n_regions - 1) // 2

    @cached_property
    def checksum(self) -> str:
        """SHA-256 (16 hex digits) of the indices and names in order: equal means rows mean the
        same."""
        text = json.dumps([list(self.indices), list(self.names)], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def label(self, position: int) -> str:
        """A region as people should see it: its name and index.

        Parameters
        ----------
        position : int
            The region's row, from 0 on.

        Returns
        -------
        str
        """
        return f"{self.names[position]} ({self.indices[position]})"

    def order_from(self, other: Atlas) -> np.ndarray:
        """Positions in ``other`` of this atlas's regions, matched by index.

        Parameters
        ----------
        other : Atlas
            The same regions in another order.

        Returns
        -------
        ndarray of shape (R,), int64
            ``matrix_of_other[np.ix_(p, p)]`` is in this atlas's order.

        Raises
        ------
        InputError
            Where the two do not hold the same regions, or call one differently: most atlases count
            from 1, so equal numbers alone do not make two atlases one.
        """
        place = {index: i for i, index in enumerate(other.indices)}
        if set(place) != set(self.indices):
            missing = len(set(self.indices) - set(place))
            raise InputError(
                f"atlas {other.name} ({other.n_regions} regions) does not hold the regions of "
                f"{self.name} ({self.n_regions}; {missing} missing): only data of one atlas can be "
                "mixed"
            )
        positions = [place[index] for index in self.indices]
        for index, name, position in zip(self.indices, self.names, positions, strict=True):
            if other.names[position] != name:
                raise InputError(
                    f"atlas {other.name}: its region {index} is '{other.names[position]}', that of "
                    f"{self.name} is '{name}'; only data of one atlas can be mixed. If both are "
                    "one, shard them with one table"
                )
        return np.array(positions, dtype=np.int64)

    def without(self, indices: Sequence[int]) -> Atlas:
        """This atlas without some regions.

        Parameters
        ----------
        indices : sequence of int
            Of the regions that go.

        Returns
        -------
        Atlas
            Itself where none is named.

        Raises
        ------
        InputError
            Where it has no such region, or fewer than two would be left.
        """
        if not indices:
            return self
        for index in indices:
            if index not in self.indices:
                raise InputError(f"atlas {self.name}: no region has the index {index}")
        kept = [i for i, index in enumerate(self.indices) if index not in indices]
        if len(kept) < 2:
            raise InputError(f"atlas {self.name}: fewer than two regions are left")
        return Atlas(
            name=f"{self.name} without {', '.join(str(i) for i in sorted(indices))}",
            indices=tuple(self.indices[i] for i in kept),
            names=tuple(self.names[i] for i in kept),
            networks=tuple(self.networks[i] for i in kept) if self.networks else (),
            coordinates=tuple(self.coordinates[i] for i in kept) if self.coordinates else (),
        )

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it, with the checksum.

        Returns
        -------
        dict
        """
        return {
            "name": self.name,
            "indices": list(self.indices),
            "names": list(self.names),
            "networks": list(self.networks),
            "coordinates": [list(c) for c in self.coordinates],
            "checksum": self.checksum,
        }

    @classmethod
    def from_json(cls, data: object) -> Atlas:
        """An atlas that `to_json` gave.

        Parameters
        ----------
        data : dict
            Out of a file that anybody may have written.

        Returns
        -------
        Atlas

        Raises
        ------
        InputError
            Where the data are not what `to_json` gives, or the stored checksum does not fit the
            stored regions.
        """
        own = checked.members(data, "atlas", ("name", "indices", "names", "checksum"))
        atlas = cls(
            name=checked.text(own["name"], "atlas.name"),
            indices=checked.entries(own["indices"], "atlas.indices", _index),
            names=checked.entries(own["names"], "atlas.names", checked.text),
            networks=checked.entries(own.get("networks", ()), "atlas.networks", checked.text),
            coordinates=checked.entries(own.get("coordinates", ()), "atlas.coordinates", _place),
        )
        checked.whole(atlas.n_regions, "atlas: its number of regions", 2, MOST_REGIONS)
        if checked.text(own["checksum"], "atlas.checksum") != atlas.checksum:
            raise InputError(
                f"atlas {atlas.name}: its checksum does not fit its regions; the file was edited"
            )
        return atlas


def _index(value: object, name: str) -> int:
    return checked.whole(value, name, -(2**31), 2**31)


def _place(value: object, name: str) -> tuple[float, float, float]:
    x, y, z = checked.entries(value, name, checked.number, 3)
    return x, y, z


def edge_order(positions: Sequence[int] | np.ndarray) -> np.ndarray:
    """The re-ordering of regions as one of upper-triangle edges.

    Args: positions: (R,) as from `Atlas.order_from`.
    Returns: int64 (E,) such that ``triangle[..., result]`` is the triangle of the re-ordered
        matrix.
    """
    positions = np.asarray(positions)
    n = len(positions)
    rows, columns = np.triu_indices(n, 1)
    number = np.zeros((n, n), dtype=np.int64)
    number[rows, columns] = np.arange(len(rows))
    number += number.T
    return number[positions[rows], positions[columns]]


def square(edges: np.ndarray, n_regions: int) -> np.ndarray:
    """Upper triangle (E,) as a symmetric matrix (R, R) with a diagonal of zeros."""
    found = np.zeros((n_regions, n_regions), dtype=np.asarray(edges).dtype)
    found[np.triu_indices(n_regions, 1)] = edges
    return found + found.T


def numbered(name: str, n_regions: int) -> Atlas:
    """An atlas of which only the number of regions is known: indices 1..R."""
    return Atlas(
        name, tuple(range(1, n_regions + 1)), tuple(f"region {i}" for i in range(1, n_regions + 1))
    )
