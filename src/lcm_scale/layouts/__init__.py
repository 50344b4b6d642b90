"""What lies in a folder: `lcm-scale new` asks one small function a layout, the surest first.

To add a layout write a file here with `looks_like(folder)`, which returns `Found` where the folder
is one and None where it is not, and name it below. It looks at names and at one file; that the
reader then lists all scans is seen to in `survey.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lcm_scale.errors import InputError
from lcm_scale.layouts import (
    abide,
    auckland,
    bids,
    conn,
    dpabi,
    fmriprep,
    giga_connectome,
    mat,
    names,
    stack,
    table,
)
from lcm_scale.layouts.found import Found

LAYOUTS: tuple[Callable[[Path], Found | None], ...] = (
    table.looks_like,
    auckland.looks_like,
    abide.looks_like,
    conn.looks_like,
    dpabi.looks_like,
    giga_connectome.looks_like,
    bids.looks_like,
    fmriprep.looks_like,
    stack.looks_like,
    mat.looks_like,
    names.looks_like,
)
KNOWN = (
    "a table with the columns file and subject, ABIDE's *_rois_*.1D, the Auckland collection, "
    "CONN's ROI_Subject*.mat, DPABI's ROISignals_* and ROICorrelation_*, giga_connectome's .h5, "
    "BIDS derivatives (sub-..._timeseries.tsv), fMRIPrep's images, one array of many scans, .mat "
    "files, or files whose names differ in a number"
)


def recognised(folder: Path) -> Found:
    """What the folder holds.

    Raises: InputError where there is no such folder, or its layout is none that is known.
    """
    if not folder.exists():
        raise InputError(f"{folder}: no such folder")
    for looks_like in LAYOUTS:
        found = looks_like(folder)
        if found is not None:
            return found
    raise InputError(f"{folder}: no layout that is known; looked for {KNOWN}")
