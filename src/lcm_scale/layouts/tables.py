"""Tables that lie in a folder: which of them lists scans, which people."""

from __future__ import annotations

from pathlib import Path

from lcm_scale import delimited
from lcm_scale.data.readers.people import USUAL
from lcm_scale.errors import InputError

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
