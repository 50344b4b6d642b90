"""Many scans in one array of three sides, in an .npy, .npz or .mat."""

from __future__ import annotations

from pathlib import Path

from lcm_scale.data.readers.matlab import MATLAB
from lcm_scale.data.readers.numpy_files import Variable, npy_variable, npz_variables
from lcm_scale.data.readers.phenotypes import read_rows
from lcm_scale.data.readers.stack import ARRAYS
from lcm_scale.errors import InputError
from lcm_scale.layouts.found import Found, Question, shown
from lcm_scale.layouts.regions import numbered
from lcm_scale.layouts.table import kind_of_matrices
from lcm_scale.layouts.tables import people_of, people_table


def looks_like(folder: Path) -> Found | None:
    files = [folder] if folder.is_file() else sorted(folder.glob("*"))
    files = [path for path in files if path.suffix.lower() in ARRAYS and path.is_file()]
    if len(files) != 1:
        return None
    (path,) = files
    try:
        held = _variables(path)
    except InputError:
        return None
    stacks = [v for v in held if v.numbers and len(v.shape) == 3 and min(v.shape) > 1]
    if not stacks:
        return None
    people = people_table(path.parent)
    stack = stacks[0]
    ready, n_regions = _regions(stack.shape)
    source: dict[str, object] = {"file": shown(path)}
    if path.suffix.lower() != ".npy":
        source["key"] = stack.name
    if ready:
        source["kind"] = "connectivity"
    questions = [_side(stack.shape), _ids(held, stack)]
    if len(stacks) > 1:
        text = f"it holds {', '.join(v.name for v in stacks)}: which are the scans?"
        questions.append(Question(text, tuple(f"key: {v.name}" for v in stacks[1:])))
    found, asked = people_of(path.parent, "a row a scan or a row a person")
    questions += asked
    return Found(
        layout=f"{' x '.join(map(str, stack.shape))}, many scans in one array",
        name=path.parent.absolute().name,
        reader="stack",
        source=source | found,
        regions=numbered(n_regions),
        questions=(*questions, *kind_of_matrices("connectivity" if ready else "series")),
        assumed=_assumed(stack.shape, people),
    )


def _variables(path: Path) -> list[Variable]:
    kind = path.suffix.lower()
    if kind == ".npy":
        return [npy_variable(path)]
    return npz_variables(path) if kind == ".npz" else MATLAB.variables(path)


def _regions(shape: tuple[int, ...]) -> tuple[bool, int]:
    """Whether a scan is a square matrix, and of how many regions; of series the shorter one of the
    two sides that are not known to count the scans."""
    first, middle, last = shape
    if middle == last or first == middle:
        return True, middle
    return False, min(middle, max(first, last))


def _side(shape: tuple[int, ...]) -> Question:
    first, _, last = shape
    return Question(
        "which side counts the scans? Nothing is told from lengths",
        (f"stack: first # {first} scans", f"stack: last # {last} scans"),
    )


def _ids(held: list[Variable], stack: Variable) -> Question:
    """Args: held: what may list an id a scan: anything else that is as long as a side."""
    others = [
        v.name
        for v in held
        if v.name != stack.name and max(v.shape, default=0) in (stack.shape[0], stack.shape[-1])
    ]
    return Question(
        "whose are the scans? rows: the table's rows, in their order; or the variable of their ids",
        ("ids: rows", *(f"ids: {name}" for name in others)),
    )


def _assumed(shape: tuple[int, ...], people: Path | None) -> dict[str, str]:
    """That the table's rows are the scans, where there are as many."""
    if people is None:
        return {}
    rows = len(read_rows(people, ()))
    sides = {"first": shape[0], "last": shape[-1]}
    return next(({"stack": k, "ids": "rows"} for k, size in sides.items() if size == rows), {})
