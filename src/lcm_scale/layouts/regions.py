"""Which atlas a file's columns are of: by their names where they have any, else by nothing.

As many columns as an atlas has regions do not make them its regions, and a wrong order is silent.
So a number alone leaves the regions numbered, and the recipe asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lcm_scale.atlas import BUILT_IN, Atlas, load_atlas
from lcm_scale.data.readers.arrays import Table
from lcm_scale.errors import InputError
from lcm_scale.layouts.found import Regions, shown

SCHAEFER = "schaefer"


def regions_of(table: Table, tables: Sequence[Path] = ()) -> Regions:
    """The regions of a file's columns.

    Args: table: of the file.   tables: of regions, that lie beside the files (XCP-D's dseg.tsv).
    """
    columns, n_regions = table.columns, table.values.shape[1]
    if not columns:
        return numbered(n_regions)
    if all(column.isascii() and column.isdigit() for column in columns):
        codes = tuple(int(column) for column in columns)
        for atlas in _built_in():
            if set(codes) == set(atlas.indices) and not _counts(codes):
                return Regions(atlas.name, f"the files' column codes are those of {atlas.name}")
        return numbered(n_regions)
    for atlas in _built_in():
        if set(columns) == set(atlas.names):
            return Regions(atlas.name, f"the files' columns have the names of {atlas.name}")
    for path in tables:
        if set(columns) <= set(_names(path)):
            return Regions(shown(path), "the files' columns have the names of this table")
    return Regions("", f"{n_regions} regions, named as the files' columns are", names=columns)


def numbered(n_regions: int, name: str = "regions") -> Regions:
    """Regions of which the number alone is known."""
    same = [atlas.name for atlas in _built_in() if atlas.n_regions == n_regions]
    likely = f" ({' or '.join(same)} has as many)" if same else ""
    return Regions(
        f"{name}:{n_regions}",
        f"{n_regions} columns, and the files name none",
        question=f"which atlas are the {n_regions} columns of{likely}, in its order?",
    )


def _counts(codes: Sequence[int]) -> bool:
    """Whether the numbers only count columns, as pandas and R write them."""
    return tuple(codes) in (tuple(range(len(codes))), tuple(range(1, len(codes) + 1)))


@cache
def _built_in() -> tuple[Atlas, ...]:
    return tuple(load_atlas(name) for name in BUILT_IN)


def _names(path: Path) -> tuple[str, ...]:
    """Nothing for a table that is none of regions: others may lie there."""
    try:
        return load_atlas(str(path)).names
    except InputError:
        return ()
