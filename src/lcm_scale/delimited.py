"""Delimited text as people have it: which mark stands between the cells, and the cells of each row.

Spreadsheets write commas, tabs or, where the comma is decimal, semicolons; pipelines write tabs or
blanks. Cells may be quoted and then hold marks and line ends.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from lcm_scale.errors import InputError
from lcm_scale.limits import first_line, read_text

MARKS = ("\t", ";", ",")
LOOKED_AT = 20  # rows from which the mark is told
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")
ROOM = 4096  # characters of the text that they may take, beyond the first line


def read_delimited(path: Path, *encodings: str) -> tuple[str, str | None]:
    """A file's text and its mark, as `marked`.

    Args: encodings: as `limits.read_text`.   Raises: InputError as it does.
    """
    return marked(read_text(path, *encodings))


def marked(text: str) -> tuple[str, str | None]:
    """The text, and the mark between its cells: one of `MARKS`, or None for blanks.

    A mark is one that all of the first rows have equally often. Semicolons go before commas, since
    a comma within numbers may be decimal. Excel's own line `sep=;` says it, and is left out.
    """
    first, _, rest = text.partition("\n")
    said = first.strip().strip('"').lower()
    if said.startswith("sep=") and said[4:] in MARKS:
        return f"\n{rest}", said[4:]  # the line end stays, so that rows keep their numbers
    start = len(text) - len(text.lstrip())
    end = text.find("\n", start) + 1 or len(text)
    rows = {mark: _first_rows(text, mark, end + ROOM) for mark in MARKS}
    lengths = {mark: {len(cells) for cells in rows[mark]} for mark in MARKS}
    even = [mark for mark in MARKS if len(lengths[mark]) == 1 and lengths[mark] != {1}]
    if even == [";", ","]:
        return text, ";" if _decimal_commas(rows[";"]) else ","
    if even == [","] and all(_decimals_between_blanks(",".join(row)) for row in rows[","]):
        return text, None
    if even:
        return text, even[0]
    counts = {mark: len(cells[0]) - 1 if cells else 0 for mark, cells in rows.items()}
    if counts["\t"]:
        return text, "\t"
    if counts[";"] or counts[","]:
        return text, ";" if counts[";"] > counts[","] else ","
    return text, None


def rows_of(text: str, mark: str | None, where: object) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank: the number of the line that each ends on, and its cells without
    the blanks around them.

    Args: where: the file, for errors.   Raises: InputError where a cell has no end.
    """
    lines: Iterator[str] = io.StringIO(text)
    if mark is None:
        lines = (" ".join(line.split()) for line in lines)
    reader = csv.reader(lines, delimiter=mark or " ", skipinitialspace=True)
    number = 0
    try:
        for cells in reader:
            number = reader.line_num
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield number, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise InputError(f"{where}, row {number + 1}: {error}") from error


def header_of(path: Path) -> list[str]:
    """The cells of the first line.  Raises: InputError where it cannot be read."""
    text, mark = marked(first_line(path))
    return next((cells for _, cells in rows_of(text, mark, path)), [])


def _first_rows(text: str, mark: str, end: int) -> list[list[str]]:
    """The first rows that are no comments, split by a mark; none where quotes have no end.

    Args: end: characters that are looked at; the row which they cut does not count.
    """
    reader = csv.reader(io.StringIO(text[:end]), delimiter=mark, skipinitialspace=True)
    try:
        rows = [row for row in itertools.islice(reader, LOOKED_AT) if any(map(str.strip, row))]
    except csv.Error:
        return []
    if len(text) > end and len(rows) > 1 and len(rows) < LOOKED_AT:
        rows.pop()
    return [row for row in rows if not row[0].startswith("#")] or rows


def _decimal_commas(rows: list[list[str]]) -> bool:
    """Whether commas stand within numbers only."""
    return all(
        "," not in cell or DECIMAL_COMMA.fullmatch(cell.strip()) for row in rows for cell in row
    )


def _decimals_between_blanks(line: str) -> bool:
    """`1,25 3,5`: the commas are decimal ones."""
    cells = line.split()
    return len(cells) > 1 and all(map(DECIMAL_COMMA.fullmatch, cells))
