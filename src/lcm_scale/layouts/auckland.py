"""The Auckland collection: a folder of one of its sets, or the one above it."""

from __future__ import annotations

from pathlib import Path

from lcm_scale.data.readers.auckland import FILES, NAME
from lcm_scale.errors import InputError
from lcm_scale.layouts.found import Found, Regions, shown

MATRICES, SERIES = "connectivity", "series"


def looks_like(folder: Path) -> Found | None:
    files = {
        kind: [path for path in folder.glob(pattern) if NAME.match(path.name)]
        for kind, pattern in FILES.items()
    }
    sets = sorted({path.parent.parent for of_kind in files.values() for path in of_kind})
    if not sets:
        return None
    if len(sets) > 1:
        names = ", ".join(place.name for place in sets)
        raise InputError(f"{folder}: several sets of the Auckland collection ({names}); name one")
    (place,) = sets
    ready = len(files[SERIES]) < len(files[MATRICES])
    remark = "its matrices are Ledoit-Wolf-shrunk, not Pearson; its series are not there"
    return Found(
        layout="the Auckland collection",
        name=place.absolute().name,
        reader="auckland",
        source={"dir": shown(place), "kind": MATRICES if ready else SERIES},
        regions=Regions("aal116", "the files' names say AAL116"),
        connectivity="ledoit-wolf" if ready else None,
        remarks=(remark,) if ready else (),
    )
