"""DPABI and DPARSF: a folder `Results/ROISignals_*` with files of every subject.

`ROISignals_ID` are region series (volumes, regions), `ROICorrelation_ID` their Pearson matrix,
`ROICorrelation_FisherZ_ID` the same as Fisher z; each as .mat and again as .txt, of which one is
read. `ROI_OrderKey_ID.tsv` (.csv in DPARSF) tells the regions' codes.

Recipe keys: source.dir, source.kind, source.fisher_z (read the z files and turn them into r, where
nothing else is there), source.order (position: the order key is not asked), source.pattern,
source.tr, source.site, and source.table: a table of people (`people.py`), joined by subject.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, SourceConfig, expand
from lcm_scale.data.readers.arrays import read_scan
from lcm_scale.data.readers.files import files_of
from lcm_scale.data.readers.names import refuse_strangers, scan_of
from lcm_scale.data.readers.people import People, read_people
from lcm_scale.data.readers.phenotypes import read_rows
from lcm_scale.data.recordings import ScanArrays, Skipped, Unread
from lcm_scale.errors import InputError
from lcm_scale.limits import is_file

SERIES, MATRIX, FISHER = "ROISignals", "ROICorrelation", "ROICorrelation_FisherZ"
CODE = "Label in Mask"  # the order key's column


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """The scans of source.dir, in the order of their names.

    Raises: InputError for a missing folder or table, a table that knows none of the subjects, or
        a folder that has Fisher z alone where the recipe does not ask for it.
    """
    source = recipe.source
    ready = source.kind == "connectivity"
    if source.fisher_z and not ready:
        raise InputError("source.fisher_z: says what matrices are; set source.kind=connectivity")
    prefix = (FISHER if source.fisher_z else MATRIX) if ready else SERIES
    listed = [p for p in files_of(source, f"{prefix}_*.*") if p.suffix.lower() in (".mat", ".txt")]
    fisher = [path for path in listed if path.name.startswith(f"{FISHER}_")]
    files = [
        p for p in listed if p.name.startswith(f"{prefix}_") and (p in fisher) == source.fisher_z
    ]
    if not files and fisher:
        raise InputError(
            f"{fisher[0].parent}: only matrices of Fisher z ({fisher[0].name}); "
            "source.fisher_z=true turns them into correlations, r = tanh(z)"
        )
    if not files:
        raise InputError(f"{source.dir}: no {prefix}_*.mat or .txt (source.kind={source.kind})")
    # One file a subject: its .mat is the same as its .txt, with all digits.
    by_subject = {path.stem.removeprefix(f"{prefix}_"): path for path in reversed(files)}
    wanted = recipe.label_columns()
    people = read_people(expand(source.table), source, wanted) if source.table else People()
    refuse_strangers(people, files, list(by_subject), source.table or "")
    for subject, path in sorted(by_subject.items()):
        scan = scan_of(recipe, path, {"subject": subject}, people.of(subject), atlas)
        yield replace(scan, load=partial(_load, path, subject, prefix, source, atlas))


def _load(
    path: Path, subject: str, variable: str, source: SourceConfig, atlas: Atlas
) -> ScanArrays:
    arrays = read_scan(path, replace(source, key=source.key or variable), atlas)
    matrix = arrays.connectivity
    if source.fisher_z and matrix is not None:
        matrix = np.tanh(matrix)  # its diagonal is inf, which becomes 1
    codes = _codes(path.parent, subject, atlas) if source.order == "names" else None
    return replace(arrays, connectivity=matrix, region_indices=codes or arrays.region_indices)


def _codes(folder: Path, subject: str, atlas: Atlas) -> tuple[int, ...] | None:
    """Atlas indices of the columns as the order key has them, None where it says nothing: it is not
    there, has no codes, or only counts the regions.

    Raises: InputError where its codes are not the atlas's.
    """
    for suffix in (".tsv", ".csv"):
        path = folder / f"ROI_OrderKey_{subject}{suffix}"
        if is_file(path):
            break
    else:
        return None
    rows = read_rows(path, ())
    cells = [row.text(CODE) for row in rows if CODE in row.cells]
    if not cells or not all(cell is not None and cell.isdigit() for cell in cells):
        return None
    codes = tuple(int(cell) for cell in cells if cell is not None)
    if set(codes) <= set(atlas.indices) and len(codes) == atlas.n_regions:
        return codes
    if codes == tuple(range(1, atlas.n_regions + 1)):
        return None
    raise InputError(
        f"{path}: {len(codes)} regions, the first with code {codes[0]}, are not those of atlas "
        f"{atlas.name} ({atlas.n_regions}, the first {atlas.indices[0]})"
    )
