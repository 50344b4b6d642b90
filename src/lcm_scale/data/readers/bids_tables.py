"""What the tables of a BIDS data set say of a scan: participants.tsv, sessions.tsv, scans.tsv.

The root is the nearest folder with a participants.tsv, at the derivatives or up to four above them,
or that of source.table. A row of a session says more than the person's, a row of a scan more than
both: where it knows an age, a sex or a label, that is the scan's. Of a code that is a number the
table's JSON file gives the word (`Levels`), and of an age the unit (`Units`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lcm_scale.checked import read_object
from lcm_scale.config import SourceConfig
from lcm_scale.data.readers.bids_names import SCAN, BidsFile, parse
from lcm_scale.data.readers.people import Entry, People, columns_of, people_of, person_of
from lcm_scale.data.readers.phenotypes import Person, Row, read_rows
from lcm_scale.errors import InputError
from lcm_scale.identity import BIDS_PREFIX, normalised

PARTICIPANTS = "participants.tsv"
ABOVE = 4  # folders above the derivatives in which a root is looked for: root/derivatives/xcp_d
SESSION_COLUMNS = ("session_id", "session")
OF_A_VISIT = ("site", "age", "sex")  # what a row of a session or scan may say
SESSION_PREFIX = "ses-"


@dataclass(frozen=True)
class BidsTables:
    """The tables of one data set.

    Attributes:
        people: by subject.   sessions: (normalised subject, session) -> its row.
        scans: the words of `SCAN` -> its row.   columns: every label column of any table.
    """

    people: People = field(default_factory=People)
    sessions: Mapping[tuple[str, str], Entry] = field(default_factory=dict)
    scans: Mapping[tuple[str, ...], Entry] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def of(self, file: BidsFile) -> Entry:
        """What is known of a file's scan; labels that no table knows are None."""
        subject = file.entities["sub"]
        known = self.people.of(subject)
        session = self.sessions.get((normalised(subject), file.entities.get("ses", "")))
        for nearer in (session, self.scans.get(file.scan())):
            known = known if nearer is None else _overridden(known, nearer)
        labels = dict.fromkeys(self.columns) | dict(known.person.labels)
        return replace(known, person=replace(known.person, labels=labels))


def root_of(folder: Path, table: Path | None) -> Path | None:
    """The data set's folder, None where no participants.tsv is found.

    Args: folder: of the derivatives.   table: the recipe's source.table.
    """
    if table is not None:
        return table.parent
    here = folder.absolute()
    places = (here, *list(here.parents)[:ABOVE])
    return next((place for place in places if (place / PARTICIPANTS).is_file()), None)


def read_tables(
    root: Path,
    participants: Path,
    files: Iterable[BidsFile],
    source: SourceConfig,
    wanted: Collection[str],
) -> BidsTables:
    """The tables that say something of the files' people.

    Args:
        participants: the table of people.
        source: with the unit of ages whose table's JSON names none.
        wanted: columns that the recipe names.
    Raises: InputError naming the table, row and column.
    """
    people = people_of(_rows(participants), participants, _told(participants, source), wanted)
    subjects = dict.fromkeys(file.entities["sub"] for file in files)
    sessions: dict[tuple[str, str], Entry] = {}
    for path in [root / "sessions.tsv", *(_of_subject(root, s, "sessions") for s in subjects)]:
        if path.is_file():
            sessions |= _sessions(path, _told(path, source), wanted)
    scans: dict[tuple[str, ...], Entry] = {}
    for subject in subjects:
        for path in sorted((root / f"{BIDS_PREFIX}{subject}").glob("**/sub-*_scans.tsv")):
            scans |= _scans(path, subject, _told(path, source), wanted)
    entries = (*people.entries.values(), *sessions.values(), *scans.values())
    columns = dict.fromkeys(column for entry in entries for column in entry.person.labels)
    return BidsTables(people, sessions, scans, tuple(columns))


def _of_subject(root: Path, subject: str, what: str) -> Path:
    name = f"{BIDS_PREFIX}{subject}"
    return root / name / f"{name}_{what}.tsv"


def _rows(path: Path) -> list[Row]:
    """The table's rows, number codes given the words of its JSON file."""
    levels = {
        column: known["Levels"]
        for column, known in _described(path).items()
        if isinstance(known, Mapping) and isinstance(known.get("Levels"), Mapping)
    }
    return [
        Row({c: _word(cell, levels.get(c, {})) for c, cell in row.cells.items()}, row.where)
        for row in read_rows(path, ())
    ]


def _word(cell: str, levels: Mapping[str, Any]) -> str:
    """`1` -> `patient`; a word stays as the table has it, since its level is a description of
    it."""
    level = levels.get(cell.strip()) if cell.strip().isdigit() else None
    word = level.get("Description") if isinstance(level, Mapping) else level
    return word if isinstance(word, str) and word.strip() else cell


def _told(path: Path, source: SourceConfig) -> SourceConfig:
    """The recipe's source, with the unit of ages that the table's JSON file names.

    Raises: InputError for a unit that is neither years nor months.
    """
    age = _described(path).get("age")
    unit = age.get("Units") if isinstance(age, Mapping) else None
    if not isinstance(unit, str) or not unit.strip():
        return source
    word = unit.strip().lower().rstrip("s")
    if word in ("year", "yr", "y"):
        return replace(source, age_unit="years")
    if word in ("month", "mo"):
        return replace(source, age_unit="months")
    raise InputError(
        f"{path.with_suffix('.json')}: age is in '{unit[:40]}', expected years or months"
    )


def _described(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".json")
    return read_object(beside) if beside.is_file() else {}


def _sessions(
    path: Path, source: SourceConfig, wanted: Collection[str]
) -> dict[tuple[str, str], Entry]:
    """Of the whole data set (with participant_id) or of one person, whose folder says who."""
    found: dict[tuple[str, str], Entry] = {}
    rows = _rows(path)
    column_of = columns_of(rows, path, source, OF_A_VISIT)
    for row in rows:
        column = next((c for c in SESSION_COLUMNS if c in row.cells), None)
        session = row.text(column) if column else None
        subject = row.text("participant_id") or path.name.removesuffix("_sessions.tsv")
        if column is None or session is None or subject == path.name:
            raise InputError(f"{row.where}: expected a participant_id and a session_id")
        person = _without(
            person_of(subject, row, column_of, source, wanted),
            {"participant_id", *SESSION_COLUMNS},
        )
        key = (normalised(subject), session.removeprefix(SESSION_PREFIX))
        found[key] = Entry(person, row.where)
    return found


def _scans(
    path: Path, subject: str, source: SourceConfig, wanted: Collection[str]
) -> dict[tuple[str, ...], Entry]:
    found: dict[tuple[str, ...], Entry] = {}
    rows = _rows(path)
    column_of = columns_of(rows, path, source, OF_A_VISIT)
    for row in rows:
        name = row.text("filename")
        file = parse(Path(name)) if name else None
        if file is None:
            raise InputError(f"{row.where}: filename is '{(name or '')[:80]}', no BIDS name")
        person = _without(person_of(subject, row, column_of, source, wanted), {"filename"})
        # Images of one scan, a reference volume say, come after the scan's own.
        found.setdefault(file.scan(SCAN), Entry(person, row.where))
    return found


def _without(person: Person, columns: Collection[str]) -> Person:
    """A person without the labels that only say whose row it is."""
    kept = {column: word for column, word in person.labels.items() if column not in columns}
    return replace(person, labels=kept)


def _overridden(known: Entry, nearer: Entry) -> Entry:
    """What the nearer row knows, and the other's where it says nothing."""
    a, b = known.person, nearer.person
    labels = {key: value for key, value in b.labels.items() if value is not None}
    person = replace(
        a,
        site=b.site or a.site,
        age=a.age if b.age is None else b.age,
        sex=b.sex or a.sex,
        labels=dict(a.labels) | labels,
        remarks=a.remarks if b.age is None else b.remarks,
    )
    return Entry(person, nearer.row)
