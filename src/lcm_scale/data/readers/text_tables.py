"""Tables of numbers as people save them: series (time, regions) or matrices (regions, regions) in
.1D .csv .tsv .txt.

Between cells stands a tab, a semicolon, a comma or blanks; decimals have a point, or a comma where
commas do not stand between cells. Comment lines (`#`) are passed over, and the last one before the
numbers names the columns where it fits. The words that are missing in tables of people are missing
here. What is no region, an index, row labels, text in front and an empty last column, is left out
and said in `Table.remarks`. A value that is no number is named by its row and column.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from lcm_scale.data.readers.cells import is_missing
from lcm_scale.delimited import DECIMAL_COMMA, marked, rows_of
from lcm_scale.errors import InputError, nearest
from lcm_scale.limits import read_text as text_of
from lcm_scale.limits import refuse_too_many

LONGEST_SHOWN = 64  # characters of a name or cell in a message; MATLAB's names have 63
# What pandas, R, AFNI and XCP-D write above a column that counts rows or repeats the other names.
INDEX_NAMES = frozenset(
    {"", "unnamed: 0", "index", "x", "rownames", "node", "row", "volume", "sub-brick", "tr", "time"}
    | {"timepoint", "frame"}
)
FEWEST_COUNTED = 4  # columns from which on a first line 0, 1, 2 ... is no volume by accident
FEWEST_RISING = 8  # the same of whole numbers that rise, as the codes of most atlases do
# A spreadsheet writes `#N/A` and `#DIV/0!` into cells, and a row may begin with one.
COMMENT = re.compile(r"\s*#(?!(?:n/a|nan|nv|[a-z/0]+[!?])(?!\w))", re.IGNORECASE)
COUNTS_ROWS = "a first column that counts rows was left out"
LABELS_ROWS = "a first column that repeats the columns' names was left out"


@dataclass(frozen=True)
class Table:
    """Numbers of a file: `values` (rows, columns), NaN where a cell is missing; the names of its
    columns, empty where the file names none; and what was left out, for the reports."""

    values: np.ndarray
    columns: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sheet:
    """A text without its comments.

    Attributes:
        mark: between cells, None for blanks.   header: the columns' names, empty where it has none.
        above: number of the line that the header ends on, 0 where no row is one.
        first: cells of the first row of numbers.
    """

    path: Path
    text: str
    mark: str | None
    header: list[str]
    above: int
    first: list[str]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Number and cells of each row of numbers."""
        rows = rows_of(self.text, self.mark, self.path)
        return (row for row in rows if row[0] > self.above)


@dataclass(frozen=True)
class _Layout:
    """Which columns of a sheet are numbers.

    Attributes:
        names: of all columns, empty where the file names none.
        numbers: positions of the columns of numbers.
        text: positions of the columns of text in front of them.
        front: of each row, the cells from the first kept column to the first of numbers.
    """

    names: list[str]
    numbers: list[int]
    text: list[int]
    front: list[list[str]]


def read_text(path: Path, codes: Collection[int] = (), drop: Sequence[str] = ()) -> Table:
    """A table of numbers, with or without one line of column names.

    Args:
        codes: of the atlas: a first line of these above whole numbers is no volume.
        drop: columns by name that are left out unseen.
    Raises: InputError where it is empty, ragged or holds text, naming row (as an editor counts) and
        column; or where it has no column of a name.
    """
    sheet = _sheet(path, codes)
    refuse_too_many((sheet.text.count("\n"), len(sheet.first)), str(path))
    plain = not drop and '"' not in sheet.text and len(sheet.header) in (0, len(sheet.first))
    table = _quickly(sheet) if plain else None
    table = table or _cell_by_cell(sheet, drop)
    if "" in table.columns:
        raise InputError(
            f"{path}: column {table.columns.index('') + 1} of the numbers has no name, and it does "
            "not count the rows"
        )
    return table


def _quickly(sheet: _Sheet) -> Table | None:
    """None where a cell is no number with a point: missing, text, or with a decimal comma."""
    lines = [line for line in sheet.text.split("\n")[sheet.above :] if line.strip()]
    try:
        values = np.loadtxt(lines, dtype=np.float64, delimiter=sheet.mark, comments=None, ndmin=2)
    except ValueError:
        return None
    first = [[line.split(sheet.mark, 1)[0].strip()] for line in lines]
    return _without_index(values, sheet.header, first, ())


def _cell_by_cell(sheet: _Sheet, drop: Sequence[str]) -> Table:
    layout = _layout(sheet, drop)
    values = np.stack([_numbers(sheet, layout, n, cells) for n, cells in sheet.rows()])
    names = [layout.names[i] for i in layout.numbers] if layout.names else []
    if not layout.text:
        return _without_index(values, names, layout.front, ())
    order = _order_by([cells[-2] for cells in layout.front], names, sheet.path)
    if order is not None:
        return Table(values[order], tuple(names), (LABELS_ROWS,))
    called = [layout.names[i] if layout.names else "" for i in layout.text]
    listed = ", ".join(name or "the first, unnamed" for name in called)
    remarks = (f"columns of text were left out: {listed}",)
    return _without_index(values, names, [cells[-1:] for cells in layout.front], remarks)


def _sheet(path: Path, codes: Collection[int]) -> _Sheet:
    lines = text_of(path).split("\n")
    is_comment = [bool(COMMENT.match(line)) for line in lines]
    comment = ""
    for line, skipped in zip(lines, is_comment, strict=True):
        if skipped:
            comment = line
        elif line.strip():
            break
    text, mark = marked(
        "\n".join("" if skipped else line for line, skipped in zip(lines, is_comment, strict=True))
    )
    rows = list(islice(rows_of(text, mark, path), 2))
    first, second = (*(cells for _, cells in rows), [], [])[:2]
    header, above = [], 0
    if _is_header(first, second, codes):
        header, above, rows = first, rows[0][0], rows[1:]
    if not rows:
        raise InputError(f"{path}: empty; expected one row a volume and one column a region")
    header = header or _names_in(comment, mark, len(first))
    return _Sheet(path, text, mark, header, above, rows[0][1])


def _is_header(first: Sequence[str], second: Sequence[str], codes: Collection[int]) -> bool:
    """Whether the first line names columns: by words, by whole numbers that count or are an atlas's
    codes, or by whole numbers above decimal ones. Words may stand in front of the numbers."""
    filled = [cell for cell in first if not is_missing(cell)]
    words = [cell for cell in filled if _is_word(cell)]
    if len(words) == len(filled):
        return bool(words)
    whole = filled[len(words) :]
    if words != filled[: len(words)] or not all(c.isascii() and c.isdigit() for c in whole):
        return False
    numbers = [int(cell) if len(cell) < 19 else -1 for cell in whole]
    if len(set(numbers)) < len(numbers) or -1 in numbers:
        return False
    counted = numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    if counted and (len(numbers) >= FEWEST_COUNTED or (len(numbers) > 1 and not first[0])):
        return True
    if 2 * len(numbers) >= max(len(codes), 3) and set(numbers) <= set(codes):
        return True
    if len(numbers) >= FEWEST_RISING and numbers == sorted(numbers):
        return True
    decimals = any("." in cell or DECIMAL_COMMA.fullmatch(cell) for cell in second)
    return decimals and (not words or not _is_decimal(second[0]))


def _names_in(comment: str, mark: str | None, width: int) -> list[str]:
    """The columns' names in the last comment above the numbers; empty where it is a sentence."""
    if not comment:
        return []
    codes = [cell.strip().strip('"') for cell in comment.split(mark)]
    bare = comment.strip().lstrip("#").strip().rstrip(mark)
    cells = [cell.strip().lstrip("#").strip().strip('"') for cell in bare.split(mark)]
    if len(cells) == width:
        return cells
    all_codes = all(cell.startswith("#") for cell in codes)
    if len(cells) > 1 and (all_codes or (mark and 2 * len(cells) > width)):
        return cells  # names, whose number is compared with that of the columns
    return []


def _layout(sheet: _Sheet, drop: Sequence[str]) -> _Layout:
    """Raises: InputError for rows of different lengths, or a column to drop that is not there."""
    width, empty = len(sheet.first), len(sheet.first)
    for number, cells in sheet.rows():
        if len(cells) != width:
            raise InputError(
                f"{sheet.path}: row {number} has {len(cells)} columns, the rows above have {width}"
            )
        while empty and any(cells[width - empty :]):
            empty -= 1
    names = _fitted(sheet, width, empty)
    for name in drop:
        if name not in names:
            raise InputError(
                f"{sheet.path}: no column '{name}' to drop "
                f"(source.drop_columns){nearest(name, names)}"
            )
    # What lines end in is no column; where columns have names, as many as have none.
    while width > 1 and empty and (not names or not names[width - 1]):
        width, empty = width - 1, empty - 1 if names else 0
    kept = [i for i in range(width) if not names or names[i] not in drop]
    text, front = len(kept) - 1, []
    for _, cells in sheet.rows():
        row = [cells[i] for i in kept[: text + 1]]
        text = next((i for i, cell in enumerate(row[:text]) if not _is_word(cell)), text)
        front.append(row)
    if len(front) < 2:
        text = 0  # a word in an only row is a bad cell
    return _Layout(names, kept[text:], kept[:text], [row[: text + 1] for row in front])


def _fitted(sheet: _Sheet, width: int, empty: int) -> list[str]:
    """The columns' names, one a column.

    Args: empty: columns at the end without a cell.
    Raises: InputError where names and columns are not the same number.
    """
    names = list(sheet.header)
    if not names:
        return []
    while len(names) > width and not names[-1]:
        names.pop()
    if len(names) < width <= len(names) + empty:
        names += [""] * (width - len(names))
    if len(names) == width - 1:  # as R writes row names
        names = ["", *names]
    if len(names) != width:
        raise InputError(f"{sheet.path}: {len(names)} column names and {width} columns of numbers")
    return names


def _numbers(sheet: _Sheet, layout: _Layout, number: int, cells: list[str]) -> np.ndarray:
    """One row.  Raises: InputError for a cell that is no number."""
    wanted = [cells[i] for i in layout.numbers]
    try:
        return np.array(wanted, dtype=np.float64)
    except ValueError:
        return np.array([_number(sheet, layout, number, i, cells[i]) for i in layout.numbers])


def _number(sheet: _Sheet, layout: _Layout, row: int, column: int, cell: str) -> float:
    text = cell
    if sheet.mark != "," and DECIMAL_COMMA.fullmatch(cell):
        text = cell.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        if is_missing(cell):
            return float("nan")
        name = f" ({layout.names[column][:LONGEST_SHOWN]})" if layout.names else ""
        raise InputError(
            f"{sheet.path}: row {row}, column {column + 1}{name} is '{cell[:LONGEST_SHOWN]}', "
            "expected a number"
        ) from None


def _without_index(
    values: np.ndarray, names: Sequence[str], first: list[list[str]], remarks: tuple[str, ...]
) -> Table:
    """Without a first column that counts the rows and has no name of a region's, or that repeats
    the other columns' names.

    Args: first: the cells of the first column.
    """
    names = tuple(names)
    if len(names) < 2:
        return Table(values, names, remarks)
    order = _order_by([cells[0] for cells in first], names[1:], None)
    if order is not None:
        return Table(values[order][:, 1:], names[1:], (*remarks, LABELS_ROWS))
    if names[0].lower() in INDEX_NAMES and counts_rows(values):
        return Table(values[:, 1:], names[1:], (*remarks, COUNTS_ROWS))
    return Table(values, names, remarks)


def _order_by(labels: list[str], names: Sequence[str], path: Path | None) -> list[int] | None:
    """Where the rows stand that the columns' names call for; None where the labels are no names.

    Args: path: of a table whose labels are text, None where they are numbers.
    Raises: InputError where some of a square table's labels are names and others are not.
    """
    place = {label: i for i, label in enumerate(labels)}
    if len(labels) != len(names) or len(place) != len(labels):
        return None
    if set(place) == set(names):
        return [place[name] for name in names]
    strange = [label for label in labels if label not in names]
    if path is not None and len(strange) < len(labels):
        raise InputError(
            f"{path}: row '{strange[0][:LONGEST_SHOWN]}' has no column of that name"
            f"{nearest(strange[0], names)}; source.drop_columns leaves the labels out"
        )
    return None


def counts_rows(values: np.ndarray) -> bool:
    """Whether the first of several columns is 0, 1, 2 ... or 1, 2, 3 ..."""
    first = values[:, 0]
    return len(first) > 2 and any(np.array_equal(first, np.arange(len(first)) + s) for s in (0, 1))


def _is_word(cell: str) -> bool:
    """Neither a number nor missing."""
    return not _is_number(cell) and not DECIMAL_COMMA.fullmatch(cell) and not is_missing(cell)


def _is_decimal(cell: str) -> bool:
    return (_is_number(cell) and not cell.isdigit()) or DECIMAL_COMMA.fullmatch(cell) is not None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
