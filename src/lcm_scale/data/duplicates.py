"""A recipe's answers where one person is in the data twice: ids that are one person
(`source.same_person`), scans that are left out (`source.leave_out`).

In: scans as readers list them. Out: those that stay, under the ids that count. Ids are compared as
`identity.normalised` spells them; none of them is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lcm_scale.config import SourceConfig
from lcm_scale.data.recordings import Skipped, Unread
from lcm_scale.errors import InputError, nearest
from lcm_scale.identity import normalised

LEFT_OUT = "left out by the recipe (source.leave_out)"
Labels = Mapping[str, str | None]


def check_same_person(source: SourceConfig) -> None:
    """Raises: InputError for a group of fewer than two ids, or an id that is named twice."""
    for group in source.same_person:
        if len(group) < 2:
            raise InputError(
                f"source.same_person: [{', '.join(group)}]: expected two ids of one person or more"
            )
    named = Counter(normalised(one) for group in source.same_person for one in group)
    twice = next((one for one, count in named.items() if count > 1), None)
    if twice is not None:
        raise InputError(
            f"source.same_person: {twice} is named twice; all ids of a person stand in one list"
        )


def left_out(scans: Sequence[Unread], names: Sequence[str]) -> tuple[list[Unread], list[Skipped]]:
    """The scans that stay, and those that the recipe leaves out.

    Args: names: subject ids, or files by their names or by the ends of their paths.
    Raises: InputError for a name that no scan has.
    """
    left: set[int] = set()
    for name in names:
        found = {i for i, scan in enumerate(scans) if _is(scan, name)}
        if not found:
            known = [word for scan in scans for word in (scan.subject, Path(scan.source).name)]
            raise InputError(
                f"source.leave_out: no scan is of subject or file '{name}'{nearest(name, known)}"
            )
        left |= found
    stay = [scan for i, scan in enumerate(scans) if i not in left]
    return stay, [Skipped(scans[i].source, LEFT_OUT, reported=True) for i in sorted(left)]


def _is(scan: Unread, name: str) -> bool:
    parts = Path(name).parts
    of_file = bool(parts) and Path(scan.source).parts[-len(parts) :] == parts
    return of_file or normalised(scan.subject) == normalised(name)


def joined(
    scans: Sequence[Unread], labels: Sequence[Labels], groups: Sequence[Sequence[str]]
) -> tuple[list[Unread], dict[str, list[str]]]:
    """The scans of each group's ids under its first one; the other ids' scans become runs of their
    own, so that no two are one.

    Args: labels: group or scalar -> label, a scan.   groups: ids of one person each.
    Returns: the scans in their order, and what every report must say, with raw examples for the
        terminal.  Raises: InputError for an id that no scan has.
    """
    if not groups:
        return list(scans), {}
    known = [scan.subject for scan in scans]
    there = set(map(normalised, known))
    place = {normalised(one): (group, n) for group in groups for n, one in enumerate(group)}
    for group in groups:
        for one in group:
            if normalised(one) not in there:
                raise InputError(
                    f"source.same_person: no scan is of subject '{one}'{nearest(one, known)}"
                )
    renamed = []
    for scan in scans:
        group, number = place.get(normalised(scan.subject), ((), 0))
        if number:
            run = "-".join(filter(None, [scan.run, f"id{number + 1}"]))
            scan = replace(scan, subject=group[0], run=run)
        renamed.append(scan)
    note = f"Joined by the recipe (source.same_person): {len(place)} ids are {len(groups)} people"
    differ = _differences(renamed, labels, groups)
    if differ:
        listed = ", ".join(f"{what} ({n})" for what, n in sorted(differ.items()))
        note += f", whose tables differ in {listed}"
    return renamed, {f"{note}.": [" = ".join(group) for group in groups]}


def _differences(
    scans: Sequence[Unread], labels: Sequence[Labels], groups: Sequence[Sequence[str]]
) -> Counter[str]:
    """Of how many people a fact is not the same in all scans."""
    differ: Counter[str] = Counter()
    for group in groups:
        said: dict[str, set[object]] = {}
        for scan, own in zip(scans, labels, strict=True):
            if normalised(scan.subject) == normalised(group[0]):
                for what, value in {"sex": scan.sex, "age": scan.age, **own}.items():
                    said.setdefault(what, set()).update([value] if value is not None else [])
        differ.update(what for what, values in said.items() if len(values) > 1)
    return differ
