"""MATLAB files, one a subject."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from lcm_scale.data.readers.matlab import MATLAB
from lcm_scale.data.readers.numpy_files import Variable
from lcm_scale.data.readers.phenotypes import ABIDE_COLUMNS
from lcm_scale.layouts.found import Found, Question, shown
from lcm_scale.layouts.names import number_of
from lcm_scale.layouts.regions import numbered
from lcm_scale.layouts.table import kind_of_matrices
from lcm_scale.layouts.tables import header_of, people_table, tables_in

LOOKED_AT = 5  # files whose headers are read


def looks_like(folder: Path) -> Found | None:
    files = sorted(folder.glob("*.mat")) if folder.is_dir() else []
    if not files:
        return None
    held = [
        {
            v.name: v
            for v in MATLAB.variables(path)
            if v.numbers and len(v.shape) == 2 and min(v.shape) > 1
        }
        for path in files[:LOOKED_AT]
    ]
    common = [name for name in held[0] if all(name in of_file for of_file in held)]
    if not common:
        return None
    questions: list[Question] = []
    if len(common) > 1:
        lines = tuple(f"key: {name}" for name in common[1:])
        questions.append(Question(f"files hold {', '.join(common)}: which is the scan?", lines))
    n_regions, ready = _regions([of_file[common[0]] for of_file in held])
    source = {"dir": shown(folder), "key": common[0]}
    if ready:
        source["kind"] = "connectivity"
    pattern = number_of([path.stem for path in files])
    if pattern:
        source["subject_pattern"] = pattern
    phenotypes = [p for p in tables_in(folder) if set(ABIDE_COLUMNS) <= set(_exact(p))]
    people = people_table(folder)
    if len(phenotypes) == 1:
        source["phenotypes"] = shown(phenotypes[0])
    elif people is not None:
        source["table"] = shown(people)
    else:
        text = "where is the table of people (a column subject)? Without it nobody has a label"
        questions.append(Question(text, ("table: FILE.csv",)))
    return Found(
        layout="MATLAB files, one a subject",
        name=folder.absolute().name,
        reader="mat",
        source=source,
        regions=numbered(n_regions),
        questions=(*questions, *kind_of_matrices("connectivity" if ready else "series")),
    )


def _exact(path: Path) -> list[str]:
    return [word.upper() for word in header_of(path)]


def _regions(arrays: list[Variable]) -> tuple[int, bool]:
    """How many regions: the side that all files share, the shorter one where both are shared; and
    whether they are matrices."""
    shapes = [array.shape for array in arrays]
    if all(rows == columns for rows, columns in shapes) and len(set(shapes)) == 1:
        return shapes[0][0], True
    sides = Counter(side for shape in shapes for side in set(shape))
    most = max(sides.values())
    return min(side for side, count in sides.items() if count == most), False
