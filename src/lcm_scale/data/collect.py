"""Raw files to the store: every recording read, correlated, checked and appended, its ids hashed.

In: a shard recipe and its atlas. Out: the HDF5 store of `store.py` on disk, and a `ReadSummary`:
what the shards need beyond the store. Raw subject ids are needed to put the scans in order; they
stay in this summary, in memory, and enter no file.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import GroupConfig, ScalarConfig, ShardRecipe
from lcm_scale.data import store
from lcm_scale.data.connectivity import Matrix, connectivity_matrices
from lcm_scale.data.readers import READERS
from lcm_scale.data.recordings import Recording, Skipped
from lcm_scale.data.store import ScanFacts
from lcm_scale.errors import InputError, nearest
from lcm_scale.identity import hash_scan, hash_subject, normalised, project_salt

CHUNK = 256  # scans appended to the store at once


@dataclass
class ReadSummary:
    """What was seen while the raw files went by.

    Attributes:
        keys: (raw subject id, session, run, window) of each scan, in the order of the store.
        source_of: key -> the file it came from, so that a second one of that key can name both.
        skipped: what was left out, and why.   constant: region -> scans in which it never changes.
        not_finite: scans with NaN or inf.   simulated: whether any recording is.
        remarks: what readers remarked -> the number of scans.
        first_with: digest of a scan's numbers -> the subject who had them first, and where.
    """

    keys: list[tuple[str, str, str, int]] = field(default_factory=list)
    source_of: dict[tuple[str, str, str, int], str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    constant: Counter[int] = field(default_factory=Counter)
    not_finite: int = 0
    simulated: bool = False
    remarks: Counter[str] = field(default_factory=Counter)
    first_with: dict[bytes, tuple[str, str]] = field(default_factory=dict)

    def quality(self, atlas: Atlas) -> dict[str, Any]:
        """What the manifest says of the scans: how many, what was skipped, what was odd."""
        return {
            "scans": len(self.keys),
            "skipped": dict(sorted(Counter(skip.why for skip in self.skipped).items())),
            "constant regions, in scans": {
                atlas.label(r): n for r, n in sorted(self.constant.items())
            },
            "scans with NaN or inf": self.not_finite,
        }

    def notes(self) -> list[str]:
        """What every report of the set must say beside the recipe's own notes."""
        left_out = Counter(skip.why for skip in self.skipped if skip.reported)
        return [
            *(f"Left out, {n}: {why}." for why, n in sorted(left_out.items())),
            *(f"{n} of {len(self.keys)} scans: {why}." for why, n in sorted(self.remarks.items())),
        ]


def fill_store(recipe: ShardRecipe, atlas: Atlas, path: Path) -> ReadSummary:
    """Append the matrices and labels of all raw files to a new store, in the order of reading.

    Raises: InputError for a file that cannot be used, a scan that occurs twice, an unknown label,
        or where no scan is usable.
    """
    salt = project_salt()
    summary = ReadSummary()
    targets = [group.name for group in recipe.groups]
    targets += [scalar.name for scalar in recipe.scalars]
    provenance = {
        "name": recipe.name,
        "atlas": json.dumps(atlas.to_json()),
        "connectivity": json.dumps(asdict(recipe.connectivity)),
    }
    store.create(path, atlas.n_edges, recipe.dtype, targets, provenance)
    rows, columns_of_edges = np.triu_indices(atlas.n_regions, 1)
    triangles: list[np.ndarray] = []
    facts: list[ScanFacts] = []
    labels: list[Mapping[str, str | None]] = []

    def flush() -> None:
        if triangles:
            store.append(path, np.stack(triangles), facts, labels)
        triangles.clear()
        facts.clear()
        labels.clear()

    for recording in READERS[recipe.reader](recipe, atlas):
        if isinstance(recording, Skipped):
            summary.skipped.append(recording)
            continue
        _refuse_one_scan_of_two_people(summary, recording)
        labels_of_scan = _labels(recording, recipe)
        summary.simulated |= recording.simulated
        for matrix in connectivity_matrices(recording, recipe.connectivity, atlas):
            if isinstance(matrix, Skipped):
                summary.skipped.append(matrix)
                continue
            _remember(summary, recording, matrix)
            triangles.append(matrix.values[rows, columns_of_edges].astype(recipe.dtype))
            facts.append(_facts(recording, matrix, salt))
            labels.append(labels_of_scan)
        if len(triangles) >= CHUNK:
            flush()
    flush()
    if not summary.keys:
        reasons = Counter(s.why for s in summary.skipped)
        raise InputError(
            f"{recipe.name}: no usable scan "
            f"({'; '.join(f'{n} {why}' for why, n in reasons.items()) or 'no files'})"
        )
    return summary


def _refuse_one_scan_of_two_people(summary: ReadSummary, recording: Recording) -> None:
    """Equal to the last bit: a file listed twice, or copied. Both people would be free to stand one
    in training and one in the test."""
    values = recording.series if recording.series is not None else recording.connectivity
    digest = hashlib.sha256(np.ascontiguousarray(values).data).digest()
    where = recording.source if not recording.row else f"{recording.row} ({recording.source})"
    person, place = summary.first_with.setdefault(digest, (recording.subject, where))
    if normalised(person) != normalised(recording.subject):
        raise InputError(
            f"{where}: subject {recording.subject} has the very numbers of subject {person} in "
            f"{place}; a scan is of one person, leave one of them out"
        )


def _remember(summary: ReadSummary, recording: Recording, matrix: Matrix) -> None:
    key = (normalised(recording.subject), recording.session, recording.run, matrix.window)
    if key in summary.source_of:
        raise InputError(
            f"{recording.source}: the same subject, session and run as {summary.source_of[key]}; "
            "tell them apart by session or run, or leave one out"
        )
    summary.keys.append(key)
    summary.source_of[key] = recording.source
    summary.constant.update(matrix.constant)
    summary.not_finite += bool(matrix.not_finite)
    summary.remarks.update([recording.remark] if recording.remark else [])


def _facts(recording: Recording, matrix: Matrix, salt: bytes) -> ScanFacts:
    def number(value: float | None) -> float:
        return float("nan") if value is None else float(value)

    r = recording
    return ScanFacts(
        scan=hash_scan(salt, r.cohort, r.subject, r.session, r.run, matrix.window),
        subject=hash_subject(salt, r.cohort, r.subject),
        session=r.session,
        run=r.run,
        site=r.site,
        window=matrix.window,
        volumes=matrix.volumes,
        tr=number(r.tr),
        age=number(r.age),
        sex=r.sex or "",
        mean_fd=number(r.mean_fd),
        constant_regions=len(matrix.constant),
    )


def _labels(recording: Recording, recipe: ShardRecipe) -> dict[str, str | None]:
    """Group or scalar -> its label, mapped and checked as the recipe says.

    Raises: InputError for a column that is not there, a label that the recipe does not know, or a
        scalar that is no number.
    """
    where = recording.row or recording.source
    labels: dict[str, str | None] = {}
    for group in recipe.groups:
        column = group.column or group.name
        value = _cell(recording, column, f"group '{group.name}'")
        labels[group.name] = None if value is None else _category(value, column, group, where)
    for scalar in recipe.scalars:
        column = scalar.column or scalar.name
        value = _cell(recording, column, f"scalar '{scalar.name}'")
        labels[scalar.name] = None if value is None else _number(value, column, scalar, where)
    return labels


def _cell(recording: Recording, column: str, wanted_for: str) -> str | None:
    if column not in recording.labels:
        raise InputError(
            f"{recording.row or recording.source}: no label column '{column}' for "
            f"{wanted_for}{nearest(column, recording.labels)} "
            f"(there: {', '.join(sorted(recording.labels))})"
        )
    return recording.labels[column]


def _category(value: str, column: str, group: GroupConfig, where: str) -> str | None:
    if group.map:
        if value not in group.map:
            raise InputError(
                f"{where}: {column} is '{value}'{nearest(value, group.map)}; the map of the "
                f"recipe's group '{group.name}' knows {', '.join(group.map)} (to '': missing)"
            )
        return group.map[value] or None
    if group.labels and value not in group.labels:
        raise InputError(
            f"{where}: {column} is '{value}'{nearest(value, group.labels)}; the recipe's group "
            f"'{group.name}' lists {', '.join(group.labels)}"
        )
    return value


def _number(value: str, column: str, scalar: ScalarConfig, where: str) -> str | None:
    try:
        number = float(value)
    except ValueError:
        raise InputError(
            f"{where}: {column} is '{value}', expected a number (scalar '{scalar.name}')"
        ) from None
    return value if math.isfinite(number) and number not in scalar.missing else None


def report_skipped(skipped: Sequence[Skipped]) -> None:
    """Everything that was left out, on the terminal only: these are raw names."""
    by_reason: dict[str, list[str]] = {}
    for skip in skipped:
        by_reason.setdefault(skip.why, []).append(skip.what)
    for why, names in by_reason.items():
        print(f"skipped {len(names)}, {why}: {', '.join(names)}", file=sys.stderr)
