"""Tables that lie in a folder: which of them lists scans, which people."""

from __future__ import annotations

from pathlib import Path

from lcm_scale import delimited
from lcm_scale.data.readers.people import USUAL
from lcm_scale.errors import InputError
from lcm_scale.layouts.found import Question, shown

ENDINGS = (".csv", ".tsv")


def header_of(path: Path) -> list[str]:
    """A table's column names in lower case; nothing for a file that is no text."""
    try:
        return [word.lower() for word in delimited.header_of(path)]
    except InputError:
        return []


def tables_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.suffix.lower() in ENDINGS and p.is_file())


def people_table(folder: Path) -> Path | None:
    """The one table of people in a folder or above it by one; None where there is none, or
    several."""
    for place in (folder, folder.absolute().parent):
        found = [path for path in tables_in(place) if set(USUAL["subject"]) & set(header_of(path))]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def people_of(folder: Path, joined: str) -> tuple[dict[str, str], tuple[Question, ...]]:
    """The recipe's key for the table of people, or the question where it is.

    Args: joined: how its rows find their scans, in words.
    """
    people = people_table(folder)
    if people is not None:
        return {"table": shown(people)}, ()
    text = f"where is the table of people, {joined}? Without it nobody has a label"
    return {}, (Question(text, ("table: FILE.csv",)),)
