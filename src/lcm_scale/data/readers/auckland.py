"""The Auckland collection (doi 10.17608/k6.auckland.21397377), in its own folders: one a person,
with the matrices and region series of several atlases.

    taowu/sub-control032057/sub-control032057_AAL116_correlation_matrix.mat      key data, (R, R)
                            sub-control032057_AAL116_features_timeseries.mat     key data, (T, R)
    taowu_metadata.csv      Subject, Group, Sex, Age; ABIDE and PPMI: several rows a person

Recipe keys: source.dir (the set's folder), source.kind (connectivity reads the matrices, which are
Ledoit-Wolf-shrunk and not Pearson; series the other files), source.pattern (default: of AAL116),
source.table (default: the folder's own metadata CSV, in it or beside it), source.tr. Labels: group,
as the folder's name says it (control, patient, prodromal, swedd), and the table's columns. Where
the table contradicts the folder's name the set is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, expand
from lcm_scale.data.readers.files import matching
from lcm_scale.data.readers.names import refuse_strangers, scan_of
from lcm_scale.data.readers.people import Entry, People, read_people
from lcm_scale.data.recordings import Skipped, Unread
from lcm_scale.errors import InputError
from lcm_scale.identity import normalised

FILES = {
    "connectivity": "**/*_AAL116_correlation_matrix.mat",
    "series": "**/*_AAL116_features_timeseries.mat",
}
NAME = re.compile(r"sub-(?P<group>[a-z]+)(?P<subject>\d+)_")
OWN_WORDS = ("control", "prodromal", "swedd")  # groups that name and table call alike


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """The scans of source.dir, in the order of their paths; then the table's people who have none.

    Raises: InputError for a missing folder or files, a file that cannot be read, or a person whose
        group the table contradicts.
    """
    source = recipe.source
    folder = expand(source.dir or "")
    if not source.dir or not folder.is_dir():
        raise InputError(
            f"source.dir: {source.dir or 'not set'}: no such folder; name the set's own, as taowu/"
        )
    pattern = source.pattern or FILES[source.kind]
    files = matching(folder, pattern)
    if not files:
        raise InputError(f"{folder}: no file fits '{pattern}' (source.kind, source.pattern)")
    table = expand(source.table) if source.table else _table(folder)
    wanted = recipe.label_columns()
    people = read_people(table, source, wanted, _number) if table else People()
    named = [name["subject"] for path in files if (name := NAME.match(path.name))]
    refuse_strangers(people, files, named, str(table))
    left = dict(people.entries)
    for path in files:
        name = NAME.match(path.name)
        if name is None:
            yield Skipped(path.name, "file name without a group and a number")
        else:
            entry = people.of(name["subject"])
            _refuse_contradiction(name["group"], entry, path)
            left.pop(normalised(name["subject"]), None)
            yield scan_of(recipe, path, name.groupdict(), entry, atlas)
    for subject in left:
        yield Skipped(f"row of subject {subject}", "metadata row without a file")


def _table(folder: Path) -> Path | None:
    """The metadata CSV that is called after the folder, in it or beside it; None where there is
    none."""
    wanted = f"{folder.absolute().name}_metadata.csv".lower()
    for place in (folder, folder.absolute().parent):
        for path in sorted(place.glob("*.csv")):
            if path.name.lower() == wanted:
                return path
    return None


def _number(subject: str) -> str:
    """`control032057` and `032057` as the files' names have them: the number alone."""
    return subject.strip().lstrip("abcdefghijklmnopqrstuvwxyz-")


def _refuse_contradiction(word: str, entry: Entry, path: Path) -> None:
    """`patient` is whatever the set is about, the other words name their group."""
    group = (entry.person.labels.get("Group") or "").lower()
    if group and word != group and (word in OWN_WORDS or group in OWN_WORDS):
        raise InputError(
            f"{path}: the name says '{word}', {entry.row} says '{entry.person.labels['Group']}'"
        )
