"""A folder of files whose names are alike but for a number, the person, and perhaps a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lcm_scale.data.readers.arrays import SUFFIXES
from lcm_scale.layouts.found import Found, Question, shown
from lcm_scale.layouts.table import kind_of_matrices, regions_and_kind
from lcm_scale.layouts.tables import people_of, people_table

PARTS = re.compile(r"\d+|[A-Za-z]+|[^A-Za-z\d]+")
MOST_WORDS = 12  # that a place in a name has, to be a condition


def looks_like(folder: Path) -> Found | None:
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    people = people_table(folder)
    files = [path for path in files if path != people]
    pattern = expression_of([path.stem for path in files])
    if pattern is None:
        return None
    regions, kind = regions_and_kind(files[0], files[1:])
    source = {"dir": shown(folder), "pattern": f"*{files[0].suffix}", "names": pattern}
    if kind != "series":
        source["kind"] = kind
    found, asked = people_of(folder, "joined by the number in the names")
    questions = [*kind_of_matrices(kind), *asked]
    if "(?P<condition>" in pattern:
        questions.append(Question("what is the word in the names? It is called condition here"))
    return Found(
        layout="files named by person",
        name=folder.absolute().name,
        reader="names",
        source=source | found,
        regions=regions,
        questions=tuple(questions),
    )


def expression_of(stems: Sequence[str]) -> str | None:
    """The regular expression of names that are alike in all but one number and at most one word.

    None where they are fewer than two, or differ otherwise.
    """
    split = [PARTS.findall(stem) for stem in stems]
    if len(split) < 2 or len({len(parts) for parts in split}) != 1:
        return None
    expression, numbers, words = "", 0, 0
    for place in zip(*split, strict=True):
        if len(set(place)) == 1:
            expression += re.escape(place[0])
        elif all(part.isdigit() for part in place):
            expression += "(?P<subject>[0-9]+)"
            numbers += 1
        elif all(part.isalpha() for part in place) and len(set(place)) <= MOST_WORDS:
            # The word is the run too, so that two states of a person are two scans.
            expression += "(?P<run>(?P<condition>[A-Za-z]+))"
            words += 1
        else:
            return None
    return expression if numbers == 1 and words <= 1 else None


def number_of(stems: Sequence[str]) -> str | None:
    """The expression that finds the person's number in names alike but for it; None where the whole
    name is the person."""
    expression = expression_of(stems)
    if expression is None or "condition" in expression:
        return None
    return expression.replace("?P<subject>", "")
