"""CONN's region series."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from lcm_scale.data.readers.conn import FILE, names_in, roi_files
from lcm_scale.data.readers.text_tables import Table
from lcm_scale.layouts.found import Found, Question, Regions, shown
from lcm_scale.layouts.regions import regions_of
from lcm_scale.layouts.tables import people_of


def looks_like(folder: Path) -> Found | None:
    files = sorted(p for p in folder.glob("ROI_Subject*.mat") if FILE.fullmatch(p.name))
    if not files:
        return None
    denoised = [path for path in files if "_Condition" in path.name]
    names = names_in((denoised or files)[0])
    from_file = roi_files(names)
    counts = Counter(file for file in from_file if file)
    source = {"dir": shown(folder)}
    if not denoised:
        source["pattern"] = "ROI_Subject*_Session*.mat"
    questions = []
    if len(counts) > 1:
        listed = ", ".join(f"{file} ({count})" for file, count in counts.items())
        questions.append(
            Question(
                f"regions of several ROI files, {listed}: which are meant? The atlas below is the "
                "first one's",
                tuple(f"rois: {file}" for file in counts),
            )
        )
    found, people = people_of(folder, "and its column conn_subject, CONN's number of the subject")
    chosen = next(iter(counts), "")
    return Found(
        layout="CONN's region series",
        name=folder.absolute().name,
        reader="conn",
        source=source | found,
        regions=_regions([n for n, file in zip(names, from_file, strict=True) if file == chosen]),
        questions=(*questions, *people),
        assumed={"rois": chosen} if len(counts) > 1 else {},
        remarks=() if denoised else ("the series are those before CONN's denoising",),
    )


def _regions(names: list[str]) -> Regions:
    """By their names, which CONN puts behind the ROI file's, and explains in brackets."""
    own = [name.partition(".")[2] for name in names]
    for columns in (own, [name.partition(" (")[0] for name in own]):
        found = regions_of(Table(np.empty((0, len(columns))), tuple(columns)))
        if found.atlas:
            return found
    return Regions("", f"{len(own)} regions, named as in the files", names=tuple(own))
