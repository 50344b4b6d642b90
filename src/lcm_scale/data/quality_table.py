"""`quality.csv` beside a manifest: a row for each scan that was read, those left out included, in
the order of the set.

It holds hashed ids and no raw name. The manifest has its SHA-256; sets of older versions have none.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lcm_scale import checked
from lcm_scale.csv_text import csv_text
from lcm_scale.data.manifest import ScanIndex, ShardManifest
from lcm_scale.data.quality import Judged
from lcm_scale.data.store import ScanFacts
from lcm_scale.errors import InputError
from lcm_scale.files import inside
from lcm_scale.limits import read_text

TABLE = "quality.csv"
WORDS = ("scan", "subject", "session", "run", "window", "site")
NUMBERS = (
    *("volumes", "tr", "mean_fd", "constant_regions", "broken_regions", "spikes", "mean_abs_r"),
    *("distance", "distance_z"),
)
WHY = "left_out"  # the reason, '' where the scan is in the set
DIGITS = 6  # significant ones: what two machines may add up differently is not written


@dataclass(frozen=True)
class QualityTable:
    """The scans of a set, in its order.

    Attributes:
        scans: hashed ids (N,).   numbers: column of `NUMBERS` -> float64 (N,), NaN unknown.
        left_out: how many scans were left out.
    """

    scans: tuple[str, ...]
    numbers: dict[str, np.ndarray]
    left_out: int


def table_text(facts: Sequence[ScanFacts], judged: Judged, order: Sequence[int]) -> str:
    """The file.  Args: facts: of the store.   order: its rows as they are to be written."""

    def row(i: int) -> dict[str, object]:
        fact = facts[i]
        measured = {
            **{name: getattr(fact, name) for name in NUMBERS[:-2]},
            "distance": judged.distance[i],
            "distance_z": judged.distance_z[i],
        }
        measured["spikes"] = fact.spikes if fact.spikes >= 0 else np.nan
        return {
            **{name: getattr(fact, name) for name in WORDS},
            **{name: _digits(float(value)) for name, value in measured.items()},
            WHY: judged.reasons[i],
        }

    return csv_text((row(i) for i in order), (*WORDS, *NUMBERS, WHY))


def _digits(value: float) -> str:
    return f"{value:.{DIGITS}g}" if np.isfinite(value) else ""


def read_table(folder: Path, manifest: ShardManifest, index: ScanIndex) -> QualityTable | None:
    """The table of a set, None where an older version wrote it.

    Raises: InputError where it is missing, damaged, or of other scans than the index.
    """
    if not manifest.quality_sha256:
        return None
    path = inside(folder, TABLE)
    text = read_text(path)
    if hashlib.sha256(text.encode()).hexdigest() != manifest.quality_sha256:
        raise InputError(
            f"{path}: SHA-256 differs from the manifest's; the file is damaged, shard the data "
            "again"
        )
    with checked.damage_named(path, "not what the manifest says", "shard the data again"):
        try:
            rows = list(csv.DictReader(io.StringIO(text), restval=""))
        except csv.Error as error:
            raise InputError(str(error)) from error
        if rows and not {*WORDS, *NUMBERS, WHY} <= set(rows[0]):
            raise InputError(f"expected the columns {', '.join((*WORDS, *NUMBERS, WHY))}")
        kept = [row for row in rows if not row[WHY]]
        if [row["subject"] for row in kept] != [manifest.subjects[s] for s in index.subject]:
            raise InputError("its scans are not those of the index")
        numbers = {
            name: np.array([_number(row[name], name) for row in kept], np.float64)
            for name in NUMBERS
        }
    return QualityTable(tuple(row["scan"] for row in kept), numbers, len(rows) - len(kept))


def _number(cell: str, name: str) -> float:
    try:
        value = float(cell) if cell else np.nan
    except ValueError:
        value = np.inf
    if np.isinf(value):
        raise InputError(f"{name}: expected a number, found '{cell[:40]}'")
    return value
