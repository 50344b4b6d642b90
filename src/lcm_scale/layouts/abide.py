"""ABIDE in the layout of the Preprocessed Connectomes Project: `*_rois_*.1D`."""

from __future__ import annotations

from pathlib import Path

from lcm_scale.data.readers.arrays import read_text
from lcm_scale.data.readers.phenotypes import abide_table
from lcm_scale.errors import InputError
from lcm_scale.layouts.found import Found, Question, shown
from lcm_scale.layouts.regions import regions_of

FILES = "*_rois_*.1D"


def looks_like(folder: Path) -> Found | None:
    files = sorted(folder.rglob(FILES))
    if not files:
        return None
    places = {path.parent for path in files}
    if len(places) > 1:
        listed = ", ".join(sorted(map(str, places))[:3])
        raise InputError(f"{folder}: files of ABIDE in {len(places)} folders ({listed}); name one")
    place = places.pop()
    source = {"dir": shown(place)}
    questions: list[Question] = []
    kinds = sorted({path.stem.rpartition("_rois_")[2] for path in files})
    if len(kinds) > 1:
        source["pattern"] = f"*_rois_{kinds[0]}.1D"
        lines = tuple(f'pattern: "*_rois_{kind}.1D"' for kind in kinds[1:])
        questions.append(Question(f"files of the atlases {', '.join(kinds)}: which?", lines))
    try:
        abide_table(place)
    except InputError:
        text = "where is the phenotype CSV? There is none in the folder or above it"
        questions.append(Question(text, ("phenotypes: FILE.csv",)))
    first = next(path for path in files if path.stem.endswith(f"_rois_{kinds[0]}"))
    return Found(
        layout="ABIDE, as the Preprocessed Connectomes Project gives it",
        name="abide",
        reader="abide",
        source=source,
        regions=regions_of(read_text(first)),
        questions=tuple(questions),
        remarks=("further columns of the phenotype CSV as targets: recipes/data/abide.yaml",),
    )
