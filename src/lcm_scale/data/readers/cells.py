"""What a cell of a table of people means: missing, a number, an age.

A cell that could mean two things is refused, never guessed.
"""

from __future__ import annotations

import re

from lcm_scale.errors import InputError

# In lower case. -9999 is the mark of the ABIDE tables, the point SAS's and SPSS's.
MISSING = frozenset(
    {"", ".", "n/a", "#n/a", "<na>", "na", "n.a.", "nan", "#nan", "null", "none", "-9999"}
)
NINES = re.compile(r"-9999\.0*")
SHOWN = 64  # characters of a cell in a message
# A comma before three digits may stand for thousands: 1,234 is no number that anybody can read.
DECIMAL_COMMA = re.compile(r"[-+]?(?:\d+,(?:\d\d?|\d{4,})|0,\d+)")
OLDEST = 120  # years
MONTHS = 12
_NUMBER = r"(\d+(?:[.,]\d+)?)"
_UNIT = r"\s*([a-z][a-z. ]*)?"
BAND = re.compile(rf"{_NUMBER}\s*(?:-|\u2013|to)\s*{_NUMBER}{_UNIT}", re.IGNORECASE)
OPEN = re.compile(rf"(?:[<>\u2264\u2265]=?\s*{_NUMBER}|{_NUMBER}\s*\+){_UNIT}", re.IGNORECASE)
WORDED = re.compile(rf"{_NUMBER}{_UNIT}", re.IGNORECASE)
YEARS = frozenset({"y", "yr", "yrs", "year", "years", "yo", "y.o", "years old"})
IN_MONTHS = frozenset({"mo", "mos", "month", "months", "months old"})
DICOM_MONTHS = re.compile(r"\d{3}M")


def is_missing(cell: str) -> bool:
    """Whether a cell is empty, or holds a word or number that means so."""
    bare = cell.strip().lower()
    return bare in MISSING or NINES.fullmatch(bare) is not None


def number_of(cell: str) -> float | None:
    """A cell's number, also with a decimal comma; None where it is none, or could be two."""
    if DECIMAL_COMMA.fullmatch(cell):
        return float(cell.replace(",", "."))
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def age_in_years(cell: str, unit: str, where: str) -> float:
    """An age: a number or the middle of a band (36-40), with or without a unit; of an open end
    (90+, >89) the number.

    Args: unit: ``years`` or ``months``, where the cell does not say.
    Raises: InputError where it is none of these, or nobody's age.
    """
    age, said = _age(cell)
    if age is None:
        raise InputError(
            f"{where} is '{cell[:SHOWN]}', expected a number, a band as in 36-40, or 90+"
        )
    unit = said or unit
    age = age / MONTHS if unit == "months" else age
    if not 0 <= age <= OLDEST:
        months = unit == "years" and not said and OLDEST < age <= OLDEST * MONTHS
        hint = "; ages in months: source.age_unit=months" if months else ""
        raise InputError(f"{where} is '{cell[:SHOWN]}' ({unit}), which is nobody's age{hint}")
    return age


def is_open_ended(cell: str) -> bool:
    """Whether an age has one end only: `90+`, `>89`."""
    return OPEN.fullmatch(cell) is not None


def _age(cell: str) -> tuple[float | None, str]:
    """The number and the unit that a cell says, '' where it says none; None where it is no age."""
    number = number_of(cell)
    if number is not None:
        return number, ""
    if DICOM_MONTHS.fullmatch(cell):
        return float(cell[:-1]), "months"
    for form in (BAND, OPEN, WORDED):
        match = form.fullmatch(cell)
        if match is None:
            continue
        *ends, word = match.groups()
        numbers = [float(end.replace(",", ".")) for end in ends if end]
        word = (word or "").lower().strip(" .")
        known = "years" if word in YEARS else "months" if word in IN_MONTHS else ""
        if (word and not known) or numbers != sorted(numbers):
            return None, ""
        return sum(numbers) / len(numbers), known
    return None, ""
