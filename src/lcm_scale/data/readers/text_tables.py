"""Tables of numbers as people save them: series (time, regions) or matrices (regions, regions) in
.1D .csv .tsv .txt.

Between cells stands a tab, a semicolon, a comma or blanks; decimals have a point, or a comma where
commas do not stand between cells. Comment lines (`#`) are passed over, and the last one before the
numbers names the columns where it fits. The words that are missing in tables of people are missing
here. What is no region, an index, row labels, text in front and an empty last column, is left out
and said in `Table.remarks`. A value that is no number is named by its row and column.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lcm_scale.data.readers.cells import is_missing
from lcm_scale.data.readers.phenotypes import COMMA
from lcm_scale.errors import InputError
from lcm_scale.limits import read_text as text_of
from lcm_scale.limits import refuse_too_many

LONGEST_SHOWN = 64  # characters of a name or cell in a message; MATLAB's names have 63
# What pandas, R and XCP-D write above a column that counts rows or repeats the columns' names.
INDEX_NAMES = frozenset({"", "unnamed: 0", "index", "x", "rownames", "node", "row", "volume"})
# Columns from which on a first line 0, 1, 2 ... above whole numbers is no volume by accident.
FEWEST_COUNTED = 6
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
class _Lines:
    """A table's lines: those with cells, each with the number that an editor gives it."""

    path: Path
    numbered: list[tuple[int, str]]
    delimiter: str | None
    comment: str

    def cells(self, line: str) -> list[str]:
        if self.delimiter is None:
            return [_bare(cell) for cell in line.split()]
        if '"' in line:
            return [_bare(cell) for cell in next(csv.reader([line], delimiter=self.delimiter))]
        return [cell.strip() for cell in line.split(self.delimiter)]


def read_text(path: Path) -> Table:
    """A table of numbers, with or without one line of column names.

    Raises: InputError where it is empty, ragged or holds text, naming row (as an editor counts) and
        column.
    """
    lines = _lines(path)
    header, body = _header(lines)
    if not body:
        raise InputError(f"{path}: empty; expected one row a volume and one column a region")
    first = lines.cells(body[0][1])
    refuse_too_many((len(body), len(first)), str(path))
    if len(header) == len(first) - 1:  # as R writes row names
        header = ["", *header] if first[-1] else [*header, ""]
    if _is_plain(first, header):
        try:
            text = [line for _, line in body]
            values = np.loadtxt(
                text, dtype=np.float64, delimiter=lines.delimiter, comments=None, ndmin=2
            )
            return _checked(_without_index(values, header), path)
        except ValueError:
            pass  # a missing word, a decimal comma, or a bad cell, which is found below
    return _checked(_read_cells(lines, header, body), path)


def _lines(path: Path) -> _Lines:
    lines = enumerate(text_of(path).split("\n"), 1)
    filled = [(n, line) for n, line in lines if line and not line.isspace()]
    numbered = [(n, line) for n, line in filled if not line.lstrip().startswith("#")]
    first = numbered[0][0] if numbered else 0
    above = [line for n, line in filled if n < first]
    sample = numbered[:2][-1][1] if numbered else ""  # a line of numbers, where there is one
    delimiter = next((mark for mark in ("\t", ";", ",") if mark in sample), None)
    tokens = sample.split()
    if delimiter == "," and len(tokens) > 1 and all(map(COMMA.fullmatch, tokens)):
        delimiter = None  # `1,25 3,5`: the commas are decimal ones
    return _Lines(path, numbered, delimiter, above[-1] if above else "")


def _header(lines: _Lines) -> tuple[list[str], list[tuple[int, str]]]:
    """The columns' names, empty where there are none, and the lines of numbers."""
    if not lines.numbered:
        return [], []
    first = lines.cells(lines.numbered[0][1])
    second = lines.cells(lines.numbered[1][1]) if len(lines.numbered) > 1 else []
    if _is_header(first, second):
        return first, lines.numbered[1:]
    named = lines.comment.lstrip().lstrip("#")
    cells = [cell.lstrip("#").strip() for cell in lines.cells(named)]
    if len(cells) == len(first) and any(cells):
        return cells, lines.numbered
    return [], lines.numbered


def _is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the first line names columns: words, whole numbers from 0 or 1 on, whole numbers
    (codes) above decimal ones, or a word in front of such numbers."""
    filled = [cell for cell in first if not is_missing(cell)]
    words = [cell for cell in filled if _is_word(cell)]
    if words and len(words) == len(filled):
        return True
    whole = [cell for cell in filled if cell.isascii() and cell.isdigit()]
    if len(whole) + len(words) < len(filled) or len(words) > 1 or len(set(whole)) < len(whole):
        return False
    if words and words[0] != first[0]:
        return False
    counted = [int(cell) for cell in whole if len(cell) < 10]
    start = counted[0] if counted else -1
    if (
        start in (0, 1)
        and len(whole) >= FEWEST_COUNTED
        and counted == list(range(start, start + len(whole)))
    ):
        return True
    return not words and any("." in cell or COMMA.fullmatch(cell) for cell in second)


def _is_plain(first: Sequence[str], header: Sequence[str]) -> bool:
    """Whether the fast parser will do: only numbers in the first row, no empty column."""
    return all(map(_is_number, first)) and (not header or len(header) == len(first))


def _read_cells(lines: _Lines, header: list[str], body: list[tuple[int, str]]) -> Table:
    """As `read_text`, cell by cell."""
    rows = [lines.cells(line) for _, line in body]
    width = len(rows[0])
    for (number, _), row in zip(body, rows, strict=True):
        if len(row) != width:
            raise InputError(
                f"{lines.path}: row {number} has {len(row)} columns, the rows above have {width}"
            )
    if width > 1 and all(row[-1] == "" for row in rows) and not any(header[width - 1 :]):
        rows, header, width = [row[:-1] for row in rows], header[: width - 1], width - 1
    text = 0  # columns of text in front
    if header:
        while text < width - 1 and all(_is_word(row[text]) for row in rows):
            text += 1
    values = np.empty((len(rows), width - text))
    for i, row in enumerate(rows):
        for j, cell in enumerate(row[text:]):
            values[i, j] = _number(cell, lines, body[i][0], j + text, header)
    remarks: tuple[str, ...] = ()
    names = header[text:]
    if text:
        labels = [row[text - 1] for row in rows]
        if text == 1 and len(labels) == len(names) and set(labels) == set(names):
            values, remarks = values[[labels.index(name) for name in names]], (LABELS_ROWS,)
        else:
            listed = ", ".join(name or "the first, unnamed" for name in header[:text])
            remarks = (f"columns of text were left out: {listed}",)
    table = _without_index(values, names)
    return Table(table.values, table.columns, (*remarks, *table.remarks))


def _without_index(values: np.ndarray, header: Sequence[str]) -> Table:
    """Without a first column that has no name of a region's and counts the rows."""
    names = tuple(header)
    unnamed = names and values.shape[1] > 1 and names[0].lower() in INDEX_NAMES
    if unnamed and counts_rows(values):
        return Table(values[:, 1:], names[1:], (COUNTS_ROWS,))
    return Table(values, names)


def counts_rows(values: np.ndarray) -> bool:
    """Whether the first of several columns is 0, 1, 2 ... or 1, 2, 3 ..."""
    first = values[:, 0]
    return len(first) > 2 and any(np.array_equal(first, np.arange(len(first)) + s) for s in (0, 1))


def _checked(table: Table, path: Path) -> Table:
    """Raises: InputError where names and columns are not the same number."""
    if table.columns and len(table.columns) != table.values.shape[1]:
        raise InputError(
            f"{path}: {len(table.columns)} column names and {table.values.shape[1]} columns of "
            "numbers"
        )
    return table


def _number(cell: str, lines: _Lines, row: int, column: int, header: Sequence[str]) -> float:
    if is_missing(cell):
        return float("nan")
    text = cell
    if lines.delimiter != "," and COMMA.fullmatch(cell):
        text = cell.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        name = f" ({header[column][:LONGEST_SHOWN]})" if column < len(header) else ""
        raise InputError(
            f"{lines.path}: row {row}, column {column + 1}{name} is '{cell[:LONGEST_SHOWN]}', "
            "expected a number"
        ) from None


def _is_word(cell: str) -> bool:
    """Neither a number nor missing."""
    return not _is_number(cell) and not COMMA.fullmatch(cell) and not is_missing(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _bare(cell: str) -> str:
    return cell.strip().strip('"').strip()
