"""A table of people, joined to scans by subject: one row a person, or several that agree.

In: a CSV or TSV with the columns Subject (or participant_id), Sex and Age, in any case, and further
ones that are labels. Out: `People`, a `Person` a subject. Ages may be bands (`36-40`, taken at
their middle) or months (source.age_unit).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lcm_scale.data.readers.phenotypes import SEX_WORDS, Person, Row, read_rows
from lcm_scale.errors import InputError
from lcm_scale.identity import normalised

SUBJECT_COLUMNS = ("subject", "participant_id", "subject_id", "sub_id")
OLDEST = 120  # years
MONTHS = 12
BAND = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Entry:
    """A person, and the row of the table that says so ('' where the table does not know her)."""

    person: Person
    row: str = ""


@dataclass(frozen=True)
class People:
    """Everybody in a table.

    Attributes:
        entries: `identity.normalised` subject -> entry.   columns: those that are labels.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def of(self, subject: str) -> Entry:
        """What is known of a person; a stranger has every label missing."""
        stranger = Person(subject, labels=dict.fromkeys(self.columns))
        return self.entries.get(normalised(subject), Entry(stranger))


def read_people(path: Path, age_unit: str, spelling: Callable[[str], str] = str.strip) -> People:
    """The people of a table; of several rows of one, cell by cell what the first one that knows it
    says.

    Args:
        age_unit: ``years`` or ``months``.
        spelling: a subject's cell -> the id as the files' names have it.
    Raises: InputError for a table without subjects, a cell that cannot be read, or two rows that
        give a person two sexes or ages.
    """
    return people_of(read_rows(path, ()), path, age_unit, spelling)


def people_of(
    rows: Sequence[Row], path: Path, age_unit: str, spelling: Callable[[str], str] = str.strip
) -> People:
    """The people of a table's rows, as `read_people` gives them."""
    column_of = _columns(rows[0]) if rows else {}
    subject = next((column_of[name] for name in SUBJECT_COLUMNS if name in column_of), None)
    if subject is None:
        raise InputError(f"{path}: no column of subjects ({', '.join(SUBJECT_COLUMNS)})")
    people: dict[str, Entry] = {}
    for row in rows:
        cell = row.text(subject)
        if cell is None:
            raise InputError(f"{row.where}: {subject} is empty")
        name = spelling(cell)
        known = people.get(normalised(name))
        here = Entry(person_of(name, row, age_unit), row.where)
        people[normalised(name)] = here if known is None else _united(known, here)
    return People(people, tuple(next(iter(people.values())).person.labels))


def age_in_years(cell: str, unit: str, where: str) -> float:
    """An age as a table has it: a number or a band, in years or months.

    Raises: InputError where it is neither, or nobody's age.
    """
    band = BAND.fullmatch(cell)
    try:
        age = (float(band[1]) + float(band[2])) / 2 if band else float(cell)
    except ValueError:
        raise InputError(f"{where} is '{cell}', expected a number or a band as in 36-40") from None
    age = age / MONTHS if unit == "months" else age
    if not 0 <= age <= OLDEST:
        hint = "; ages in months: source.age_unit=months" if unit == "years" else ""
        raise InputError(f"{where} is '{cell}' ({unit}), which is nobody's age{hint}")
    return age


def person_of(subject: str, row: Row, age_unit: str, also: Sequence[str] = ()) -> Person:
    """What a row says of a person.

    Args: also: columns, beside those of subject, sex and age, that are no labels.
    """
    column_of = _columns(row)
    age_column = column_of.get("age", "")
    age = row.text(age_column)
    reserved = {column_of.get(name) for name in (*SUBJECT_COLUMNS, "sex", "age")} | {*also}
    return Person(
        subject=subject,
        site=row.text(column_of.get("site", "")) or "",
        age=None if age is None else age_in_years(age, age_unit, f"{row.where}: {age_column}"),
        sex=row.coded(column_of.get("sex", ""), SEX_WORDS),
        labels={column: row.text(column) for column in row.cells if column not in reserved},
    )


def _columns(row: Row) -> dict[str, str]:
    """Lower-case word -> column."""
    return {column.lower(): column for column in row.cells}


def _united(first: Entry, second: Entry) -> Entry:
    """Two rows of one person: an image each, say. Labels that differ by row are the first one's."""
    a, b = first.person, second.person
    for what, one, other in (("sexes", a.sex, b.sex), ("ages", a.age, b.age)):
        if one is not None and other is not None and one != other:
            raise InputError(
                f"{second.row}: subject {b.subject} has two {what}, {one} in "
                f"{first.row.rpartition(', ')[2]} and {other} here"
            )
    labels = {key: value if value is not None else b.labels[key] for key, value in a.labels.items()}
    return replace(
        first,
        person=replace(
            a,
            sex=a.sex or b.sex,
            age=b.age if a.age is None else a.age,
            site=a.site or b.site,
            labels=labels,
        ),
    )
