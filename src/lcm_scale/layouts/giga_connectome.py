"""giga_connectome's HDF5 files, up to 0.4."""

from __future__ import annotations

import re
from pathlib import Path

from lcm_scale.data.readers.giga_connectome import NAME
from lcm_scale.data.readers.matlab import MATLAB
from lcm_scale.errors import InputError
from lcm_scale.layouts.found import Found, Question, shown
from lcm_scale.layouts.regions import numbered
from lcm_scale.layouts.tables import people_of

ATLAS = re.compile(r".*_atlas-([^_]+)_desc-.*")


def looks_like(folder: Path) -> Found | None:
    files = sorted(folder.glob("**/*.h5")) if folder.is_dir() else []
    if not files:
        return None
    path, sizes = files[0], dict[int, str]()  # regions -> atlas
    try:
        held = [
            part for group in MATLAB.variables(path) for part in MATLAB.inside(path, group.name)
        ]
    except InputError:
        return None  # an HDF5 file of another kind
    for part in held:
        match = NAME.fullmatch(part.name.rpartition(".")[2])
        if match is not None and match["what"] == "timeseries" and len(part.shape) == 2:
            # Sides stand as in MATLAB, which turns what Python wrote.
            sizes[part.shape[0]] = ATLAS.sub(r"\1", match.string)
    if not sizes:
        return None
    n_regions, atlas = next(iter(sizes.items()))
    questions = []
    if len(sizes) > 1:
        listed = ", ".join(f"{name}:{size}" for size, name in sizes.items())
        questions.append(
            Question(f"the files hold {listed}: which is meant? It is the atlas below that chooses")
        )
    found, people = people_of(folder, "joined by participant")
    return Found(
        layout="giga_connectome's HDF5 files",
        name=folder.absolute().name,
        reader="giga_connectome",
        source={"dir": shown(folder)} | found,
        regions=numbered(n_regions, atlas),
        questions=(*questions, *people),
    )
