"""CSV as we write it for people: no cell that a spreadsheet would run.

A category, a region or a site may be called `=HYPERLINK(...)` by whoever made the data, and
spreadsheets calculate what begins like that. Such text gets an apostrophe in front, as OWASP
advises; numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from lcm_scale.delimited import is_number

# Signs that open a formula, their wide forms, and what spreadsheets skip in front of one.
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_text(
    rows: Iterable[Mapping[str, object]], columns: Sequence[str] = (), head: bool = True
) -> str:
    """Rows as CSV.

    Args: columns: those of the first row where none are named.   head: their names as first line.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if head and columns:
        writer.writerow(map(_cell, columns))
    for row in rows:
        if not columns:
            columns = list(row)
            writer.writerow(map(_cell, columns))
        writer.writerow(_cell(row.get(column)) for column in columns)
    # Halves of surrogate pairs, which JSON can spell, go into no file.
    return text.getvalue().encode(errors="backslashreplace").decode()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    # The module does not quote a carriage return, behind which spreadsheets begin another row.
    value = value.replace("\r", "\n")
    return f"'{value}" if value.startswith(_FORMULA) and not is_number(value) else value
