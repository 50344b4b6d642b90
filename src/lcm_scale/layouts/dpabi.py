"""DPABI's and DPARSF's folder `Results/ROISignals_*`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lcm_scale.data.readers.arrays import read_array
from lcm_scale.data.readers.dpabi import CODE, FISHER, MATRIX, SERIES
from lcm_scale.data.readers.phenotypes import read_rows
from lcm_scale.data.readers.text_tables import Table
from lcm_scale.layouts.found import Found, Question, Regions, shown
from lcm_scale.layouts.regions import numbered, regions_of
from lcm_scale.layouts.tables import header_of, people_of


def looks_like(folder: Path) -> Found | None:
    files = {prefix: _of(folder, prefix) for prefix in (SERIES, MATRIX, FISHER)}
    files[MATRIX] = [path for path in files[MATRIX] if path not in files[FISHER]]
    keys = sorted(folder.glob("ROI_OrderKey_*"))
    # Files of series alone may be anybody's: DPABI writes matrices, or the order key, beside them.
    if not any(files.values()) or not (files[MATRIX] or files[FISHER] or keys):
        return None
    prefix = next(prefix for prefix, of_kind in files.items() if of_kind)
    source: dict[str, object] = {"dir": shown(folder)}
    if prefix != SERIES:
        source["kind"] = "connectivity"
    if prefix == FISHER:
        source["fisher_z"] = True
    found, people = people_of(folder, "joined by the subject's name in the files' names")
    example = files[prefix][0]
    regions = _regions(example, keys)
    several: tuple[Question, ...] = ()
    if prefix == SERIES and files[MATRIX]:
        text = "series are taken; the files of their Pearson matrices are there too"
        several = (Question(text, ("kind: connectivity",)),)
    return Found(
        layout=f"DPABI or DPARSF, {'series' if prefix == SERIES else 'connectivity'}",
        name=folder.absolute().name,
        reader="dpabi",
        source=source | found,
        regions=regions,
        connectivity=None if prefix == SERIES else "pearson",
        questions=(*several, *people),
    )


def _of(folder: Path, prefix: str) -> list[Path]:
    return sorted(p for p in folder.glob(f"{prefix}_*") if p.suffix.lower() in (".mat", ".txt"))


def _regions(example: Path, keys: list[Path]) -> Regions:
    n_regions = read_array(example).values.shape[1]
    for key in keys:
        if CODE.lower() not in header_of(key):
            continue
        codes = tuple(row.text(CODE) or "" for row in read_rows(key, ()))
        if len(codes) == n_regions:
            return regions_of(Table(np.empty((0, n_regions)), codes))
    return numbered(n_regions)
