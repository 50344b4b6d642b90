"""Whether what tables and names say of all scans together can be true, before a file is opened.

In: the scans that a reader lists and their labels. Out: what is odd and must be said, with raw
examples for the terminal; what cannot be is refused.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from lcm_scale.config import GroupConfig, ShardRecipe
from lcm_scale.data.readers.people import both
from lcm_scale.data.recordings import Scan
from lcm_scale.delimited import is_number
from lcm_scale.errors import InputError
from lcm_scale.identity import normalised

Labels = Sequence[Mapping[str, str | None]]

LONGEST_STUDY = 25  # years between a person's scans; beyond that a reused id is likelier
ONE_SESSION = 1.0  # years by which a person's age may differ within a session: rounding
FEW_CLASSES = 8  # so many different numbers or fewer may always be classes
MANY_CLASSES = 30  # more different numbers are a score, however many people have them
SHARE_OF_PEOPLE = 0.5  # as many different numbers, of the people who have one, are a score too
UNIQUE = "if these are different people, make their ids unique, as in A_01"


def check_cohort(
    recipe: ShardRecipe, scans: Sequence[Scan], labels: Labels
) -> dict[str, list[str]]:
    """What every report must say of the people, each with raw examples for the terminal.

    Args: labels: group or scalar -> label, a scan.
    Raises: InputError for a scan that is listed twice, a person of two sexes or of ages that are no
        one's, or a group that is a score.
    """
    of_person: dict[str, list[int]] = defaultdict(list)
    for number, scan in enumerate(scans):
        of_person[normalised(scan.subject)].append(number)
    several = {person: rows for person, rows in of_person.items() if len(rows) > 1}
    said: dict[str, list[str]] = {}
    younger, moved = [], []
    for rows in several.values():
        own = [scans[row] for row in rows]
        _refuse_two_people(own)
        younger += _younger_later(own)
        moved += _two_sites(own)
    if younger:
        said[f"{len(younger)} people are younger in a later session than before."] = younger
    if moved:
        said[f"{len(moved)} people have scans at more than one site; {UNIQUE}."] = moved
    for group in recipe.groups:
        words = [each[group.name] for each in labels]
        _refuse_score(group, words, [normalised(scan.subject) for scan in scans])
        said |= _spelled_alike(group, words)
        said |= _changed(group, words, several, scans)
    return said


def place(scan: Scan) -> str:
    """Where a scan is listed, for a message."""
    return scan.row or scan.source


def _refuse_two_people(scans: Sequence[Scan]) -> None:
    """One person's scans.  Raises: InputError where they are two people's, or one is twice."""
    first_of: dict[tuple[str, str], Scan] = {}
    for scan in scans:
        first = first_of.setdefault((scan.session, scan.run), scan)
        if first is not scan:
            raise InputError(
                f"{scan.source}: the same subject, session and run as {first.source}; tell them "
                f"apart by session or run, or leave one out; {UNIQUE}"
                f"{_how_they_differ(first, scan)}"
            )
    for what in ("sex", "age"):
        known = [scan for scan in scans if getattr(scan, what) is not None]
        for one, other in pairwise(known):
            a, b = getattr(one, what), getattr(other, what)
            if a != b and (what == "sex" or _no_ages_of_one(one, other)):
                raise InputError(
                    f"{both(place(one), place(other))} are both {other.subject} and differ in "
                    f"{what} ({_short(a)}, {_short(b)}); mend the table, or {UNIQUE}"
                )


def _how_they_differ(one: Scan, other: Scan) -> str:
    differ = [
        f"{what} ({_short(getattr(one, what))}, {_short(getattr(other, what))})"
        for what in ("site", "sex", "age")
        if getattr(one, what)
        and getattr(other, what)
        and getattr(one, what) != getattr(other, what)
    ]
    return f": they differ in {', '.join(differ)}" if differ else ""


def _no_ages_of_one(one: Scan, other: Scan) -> bool:
    assert one.age is not None and other.age is not None
    apart = abs(one.age - other.age)
    return apart > (ONE_SESSION if one.session == other.session else LONGEST_STUDY)


def _younger_later(scans: Sequence[Scan]) -> list[str]:
    """By sessions that are numbered, since words have no order."""
    numbered: dict[int, Scan] = {}
    for scan in scans:
        number = re.fullmatch(r"\D*(\d+)\D*", scan.session)
        if number and scan.age is not None:
            numbered.setdefault(int(number[1]), scan)
    ordered = [numbered[number] for number in sorted(numbered)]
    for one, other in pairwise(ordered):
        if (other.age or 0) < (one.age or 0):
            ages = f"{_short(one.age)} in session {one.session}, {_short(other.age)}"
            return [f"{other.subject} ({ages} in {other.session}, {place(other)})"]
    return []


def _two_sites(scans: Sequence[Scan]) -> list[str]:
    sites = list(dict.fromkeys(scan.site for scan in scans if scan.site))
    return [f"{scans[0].subject} ({', '.join(sites)})"] if len(sites) > 1 else []


def _refuse_score(group: GroupConfig, words: Sequence[str | None], people: Sequence[str]) -> None:
    """Raises: InputError where a group's words are a person's numbers, and the recipe does not list
    them as classes."""
    known = {(person, word) for person, word in zip(people, words, strict=True) if word is not None}
    found = {word for _, word in known}
    if group.labels or group.map or len(found) <= FEW_CLASSES:
        return
    owners = len({person for person, _ in known})
    numbers = all(is_number(word) for word in found)
    fractions = numbers and not all(float(word).is_integer() for word in found)
    many = len(found) > MANY_CLASSES or len(found) > SHARE_OF_PEOPLE * owners
    each_own = len(found) > 0.8 * owners
    if (numbers and (many or fractions)) or each_own:
        column = group.column or group.name
        advice = "leave it out"
        if numbers:
            advice = f"declare it as a number: scalars: [{{name: {group.name}, column: {column}}}]"
        raise InputError(
            f"group '{group.name}': {column} has {len(found)} values among {owners} people, so "
            f"it is no group; {advice} (where they are classes, list them: groups.labels)"
        )


def _spelled_alike(group: GroupConfig, words: Sequence[str | None]) -> dict[str, list[str]]:
    """Categories that are probably one."""
    counts = Counter(word for word in words if word is not None)
    alike: dict[str, list[str]] = defaultdict(list)
    for word in counts:
        alike["".join(word.casefold().split())].append(word)
    for word in counts:
        if is_number(word):
            same = [other for other in counts if is_number(other) and float(other) == float(word)]
            alike[f"number {float(word)}"] = same
    said: dict[str, list[str]] = {}
    for spellings in alike.values():
        if len(spellings) > 1:
            listed = " and ".join(f"{word} ({counts[word]})" for word in sorted(spellings))
            said[
                f"Group '{group.name}': {listed} differ by spelling only and are classes of their "
                "own; a map in the recipe makes them one."
            ] = []
    return said


def _changed(
    group: GroupConfig,
    words: Sequence[str | None],
    several: Mapping[str, Sequence[int]],
    scans: Sequence[Scan],
) -> dict[str, list[str]]:
    """People whose label changes from scan to scan. Where it does so in most of them it is a state,
    such as eyes open and closed, and nothing is odd."""
    changed, compared = [], 0
    for rows in several.values():
        own = list(dict.fromkeys(words[row] for row in rows if words[row] is not None))
        compared += sum(words[row] is not None for row in rows) > 1
        if len(own) > 1:
            listed = ", ".join(str(word) for word in own)
            changed.append(f"{scans[rows[0]].subject} ({listed}, {place(scans[rows[-1]])})")
    if not changed or 2 * len(changed) > compared > 1:
        return {}
    return {
        f"Group '{group.name}' changes between the scans of {len(changed)} of {compared} people "
        "with several.": changed
    }


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:64]
