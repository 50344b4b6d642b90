"""People as tables know them: which column says what, one row's person, several rows of one.

Columns are found by their usual names in any case (`USUAL`), or named by the recipe
(source.columns). Sex is M or F, male or female; other words and codes by the recipe
(source.sex_map). Ages are read by `cells.age_in_years`. Rows of one person that contradict each
other are refused, and so are two columns that could both be meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lcm_scale.config import SourceConfig
from lcm_scale.data.readers.phenotypes import Person, Row, read_rows
from lcm_scale.errors import InputError, nearest
from lcm_scale.identity import normalised

# What a column says -> its usual names, as `_plain` spells them.
USUAL: Mapping[str, tuple[str, ...]] = {
    "subject": ("subject", "participant_id", "participant", "subject_id", "sub_id", "subjectid"),
    "file": ("file", "filename", "file_name", "path", "filepath", "file_path"),
    "session": ("session", "session_id", "ses"),
    "run": ("run", "run_id"),
    "site": ("site", "site_id", "center", "centre"),
    "age": ("age", "age_at_scan", "age_years", "age_in_years", "age_yrs", "ageatscan"),
    "sex": ("sex", "gender"),
    "tr": ("tr", "repetition_time", "repetitiontime"),
    "mean_fd": ("mean_fd", "meanfd", "func_mean_fd"),
    "confounds": ("confounds", "confounds_file"),
}
SEX_WORDS = {"m": "M", "male": "M", "f": "F", "female": "F"}
OF_PEOPLE = ("subject", "site", "age", "sex", "mean_fd")  # what a table without scans may say


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
        """What is known of a person; a stranger has every label missing, and every report says
        that there are some."""
        known = self.entries.get(normalised(subject))
        if known is not None:
            return known
        remarks = ("not in the table of people",) if self.entries else ()
        return Entry(Person(subject, labels=dict.fromkeys(self.columns), remarks=remarks))


def check_people(source: SourceConfig) -> None:
    """Raises: InputError where source.columns names something that no column says."""
    for fact in source.columns:
        if fact not in USUAL:
            raise InputError(
                f"source.columns.{fact}: no such fact{nearest(fact, USUAL)} "
                f"(known: {', '.join(USUAL)})"
            )


def columns_of(
    rows: Sequence[Row], path: Path, source: SourceConfig, facts: Collection[str] = tuple(USUAL)
) -> dict[str, str]:
    """Fact -> the column that says it, for those of `facts` that a table has.

    Raises: InputError where the recipe names a column that is not there, or two columns could be
        meant that do not hold the same.
    """
    columns = list(rows[0].cells) if rows else []
    found: dict[str, str] = {}
    for fact in facts:
        named = source.columns.get(fact)
        if named is not None:
            if named not in columns:
                raise InputError(
                    f"{path}: no column '{named}' (source.columns.{fact}){nearest(named, columns)}"
                )
            found[fact] = named
            continue
        usual = [column for column in columns if _plain(column) in USUAL[fact]]
        if any(row.text(usual[0]) != row.text(other) for other in usual[1:] for row in rows):
            listed = " and ".join(f"'{column}'" for column in usual)
            raise InputError(
                f"{path}: columns {listed} could both be the {fact}; name one in the recipe: "
                f"source.columns.{fact}={usual[0]}"
            )
        if usual:
            found[fact] = usual[0]
    return found


def require(fact: str, column_of: Mapping[str, str], rows: Sequence[Row], path: Path) -> None:
    """Raises: InputError where no column says a fact that the reader needs."""
    if fact not in column_of:
        columns = list(rows[0].cells)
        raise InputError(
            f"{path}: no column '{fact}'{nearest(fact, columns)} (also understood: "
            f"{', '.join(USUAL[fact][1:])}; another one by source.columns.{fact})"
        )


def subject_of(row: Row, column_of: Mapping[str, str]) -> str:
    """Raises: InputError where the cell is empty."""
    subject = row.text(column_of["subject"])
    if subject is None:
        raise InputError(f"{row.where}: {column_of['subject']} is empty")
    return subject


def person_of(
    subject: str,
    row: Row,
    column_of: Mapping[str, str],
    source: SourceConfig,
    wanted: Collection[str],
) -> Person:
    """What a row says of a person.

    Args:
        column_of: as `columns_of` finds them.
        wanted: columns that the recipe names, which are labels whatever else they say.
    Raises: InputError naming row and column where a cell is not of its kind.
    """
    age = column_of.get("age", "")
    used = {column for fact, column in column_of.items() if _plain(column) == fact} - set(wanted)
    return Person(
        subject=subject,
        site=row.text(column_of.get("site", "")) or "",
        age=row.age(age, source.age_unit),
        sex=sex_of(row, column_of.get("sex", ""), source),
        mean_fd=row.number(column_of.get("mean_fd", "")),
        labels={column: row.text(column) for column in row.cells if column not in used},
        remarks=row.remarks(age),
    )


def sex_of(row: Row, column: str, source: SourceConfig) -> str | None:
    """M, F, or None where it is missing.

    Raises: InputError for another word: 1 and 2, W and M mean what the recipe says.
    """
    word = row.text(column)
    if word is None:
        return None
    own = {key.casefold(): sex for key, sex in source.sex_map.items()}
    codes = SEX_WORDS | own
    key = word.casefold()
    if key not in codes and re.fullmatch(r"\d+\.0*", key):  # 1.0 is how spreadsheets keep a 1
        key = key.partition(".")[0]
    if key not in codes:
        raise InputError(
            f"{row.where}: {column} is '{word[:64]}', expected M, F, male, female or nothing; "
            f"say what other words mean: source.sex_map={{'{word[:64]}': F}}, and so on"
        )
    return codes[key] or None


def read_people(
    path: Path,
    source: SourceConfig,
    wanted: Collection[str],
    spelling: Callable[[str], str] = str.strip,
) -> People:
    """The people of a table; of several rows of one, cell by cell what the first one that knows it
    says.

    Args:
        wanted: as of `person_of`; rows of one person must agree in these columns.
        spelling: a subject's cell -> the id as the files' names have it.
    Raises: InputError for a table without subjects, a cell that cannot be read, or two rows that
        contradict each other.
    """
    return people_of(read_rows(path, ()), path, source, wanted, spelling)


def people_of(
    rows: Sequence[Row],
    path: Path,
    source: SourceConfig,
    wanted: Collection[str],
    spelling: Callable[[str], str] = str.strip,
) -> People:
    """The people of a table's rows, as `read_people` gives them."""
    if not rows:
        raise InputError(f"{path}: no rows below the header")
    column_of = columns_of(rows, path, source, OF_PEOPLE)
    require("subject", column_of, rows, path)
    entries = []
    for row in rows:
        subject = spelling(subject_of(row, column_of))
        entries.append(Entry(person_of(subject, row, column_of, source, wanted), row.where))
    columns = [*entries[0].person.labels, *(["site"] if "site" in column_of else [])]
    return People(united(entries, wanted), tuple(dict.fromkeys(columns)))


def united(entries: Iterable[Entry], wanted: Collection[str]) -> dict[str, Entry]:
    """`identity.normalised` subject -> all that its rows say together.

    Args: wanted: labels in which rows of one person must agree, in any case. In others they may
        differ: tables have a row an image.
    Raises: InputError where two rows of a person differ in sex, age, site or such a label.
    """
    binding = {label.casefold() for label in wanted}
    people: dict[str, Entry] = {}
    for entry in entries:
        name = normalised(entry.person.subject)
        known = people.get(name)
        people[name] = entry if known is None else _union(known, entry, binding)
    return people


def both(one: str, other: str) -> str:
    """Two rows of one table, or two places, as the head of a message."""
    table, row, number = one.rpartition(", row ")
    if row and other.startswith(f"{table}, row "):
        return f"{table}: rows {number} and {other.rpartition(' ')[2]}"
    return f"{one} and {other}:"


def _union(first: Entry, second: Entry, binding: Collection[str]) -> Entry:
    a, b = first.person, second.person
    facts = {"sex": (a.sex, b.sex), "age": (a.age, b.age), "site": (a.site or None, b.site or None)}
    facts |= {
        key: (value, b.labels.get(key))
        for key, value in a.labels.items()
        if key.casefold() in binding
    }
    differ = {
        what: f"{what} ({_short(one)}, {_short(other)})"
        for what, (one, other) in facts.items()
        if one is not None and other is not None and one != other
    }
    if differ:
        raise InputError(
            f"{both(first.row, second.row)} are both {b.subject} and differ in "
            f"{', '.join(differ.values())}; mend the table, or make the ids unique if these are "
            "different people"
        )
    labels = {key: value if value is not None else b.labels[key] for key, value in a.labels.items()}
    return replace(
        first,
        person=replace(
            a,
            sex=a.sex or b.sex,
            age=b.age if a.age is None else a.age,
            site=a.site or b.site,
            mean_fd=b.mean_fd if a.mean_fd is None else a.mean_fd,
            labels=labels,
            remarks=tuple(dict.fromkeys(a.remarks + b.remarks)),
        ),
    )


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:64]


def _plain(column: str) -> str:
    """`Age (years)` as `age_years`."""
    return re.sub(r"\W+", "_", column.strip().lower()).strip("_")
