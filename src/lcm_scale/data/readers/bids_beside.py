"""What lies beside a BIDS table: its JSON files, with inheritance, and tables of head motion."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.checked import read_object
from lcm_scale.data.readers.bids_names import SCAN, SUFFIX, BidsFile, parse
from lcm_scale.data.readers.phenotypes import read_rows
from lcm_scale.errors import InputError
from lcm_scale.limits import first_line

FD = "framewise_displacement"
LONGEST_TR = 30.0  # seconds; a larger number is milliseconds
IMAGE = "bold"  # the suffix of the image that a series comes from
MOTION = ("motion", "timeseries")  # XCP-D's, fMRIPrep's (desc-confounds)
MOTION_DESCRIBED = ("", "filtered", "confounds")  # desc-: filtered, XCP-D before 0.10


class Beside:
    """Looks at each folder once.

    Args: root: the data set's folder, None where it is not known.   derivatives: the pipeline's.
    """

    def __init__(self, root: Path | None, derivatives: Path) -> None:
        self._root = root
        self._derivatives = derivatives
        self._metadata = cache(read_object)
        self._in_folder = cache(_named_files)

    def repetition_time(self, file: BidsFile) -> float | None:
        """Seconds, None where no JSON file says it.  Raises: InputError where it is none."""
        for path in self._sidecars(file):
            value = self._metadata(path).get("RepetitionTime")
            if value is None:
                continue
            if not isinstance(value, int | float) or not 0 < value <= LONGEST_TR:
                raise InputError(
                    f"{path}: RepetitionTime is {str(value)[:40]}, expected seconds, at most "
                    f"{LONGEST_TR:g}"
                )
            return float(value)
        return None

    def table(self, file: BidsFile, suffix: str) -> Path | None:
        """The file's scan's table of that suffix in its folder (`outliers`)."""
        return next(iter(self._tables(file, (suffix,), ("",))), None)

    def motion(self, file: BidsFile) -> Path | None:
        """The table with its displacement, a row a volume of the image."""
        return next(iter(self._tables(file, MOTION, MOTION_DESCRIBED)), None)

    def mean_fd(self, file: BidsFile) -> float | None:
        """Mean framewise displacement, mm, over all volumes of the image."""
        table = self.motion(file)
        if table is not None and FD in header(table):
            known = column(table, FD)
            known = known[np.isfinite(known)]
            return float(known.mean()) if len(known) else None
        for path in self._sidecars(file):
            value: Any = self._metadata(path).get("FDMean")  # HALFpipe's
            if isinstance(value, int | float) and np.isfinite(value):
                return float(value)
        return None

    def _tables(
        self, file: BidsFile, suffixes: Iterable[str], described: Iterable[str]
    ) -> list[Path]:
        """The scan's tables in the file's folder; those of an atlas or a space are of regions."""
        there = self._in_folder(file.path.parent, ".tsv")
        return [
            other.path
            for suffix in suffixes
            for desc in described
            for other in there
            if other.entities[SUFFIX] == suffix
            and other.entities.get("desc", "") == desc
            and other.scan() == file.scan()
            and other.path != file.path
            and not {"space", "atlas"} & set(other.entities)
        ]

    def _sidecars(self, file: BidsFile) -> list[Path]:
        """JSON files that speak of a scan, the nearest first: its own, those of its suffix, those
        of the image, each from its folder up, then those of the raw data set.

        BIDS' inheritance: a file holds for all whose names have its entities. Here the entities
        that tell scans apart decide alone: the repetition time is the scan's, whatever the atlas.
        """
        own = file.path.with_name(file.path.name.partition(".")[0] + ".json")
        folders = list(_upwards(file.path.parent, self._derivatives))
        if self._root is not None:
            place = self._root / f"sub-{file.entities['sub']}"
            if "ses" in file.entities:
                place = place / f"ses-{file.entities['ses']}"
            folders += [f for f in _upwards(place / "func", self._root) if f not in folders]
        listed = [own] if own.is_file() else []
        for suffix in (file.entities[SUFFIX], IMAGE):
            for folder in folders:
                listed += [
                    other.path
                    for other in self._in_folder(folder, ".json")
                    if other.entities[SUFFIX] == suffix and _holds_for(other, file)
                ]
        return listed


def header(table: Path) -> list[str]:
    """The columns of a TSV."""
    return [name.strip() for name in first_line(table).split("\t")]


def column(table: Path, name: str) -> np.ndarray:
    """(T,) a column of a TSV, NaN where a cell is missing.

    Raises: InputError where there is no such column, or a cell is no number.
    """
    numbers = [row.number(name) for row in read_rows(table, (name,))]
    return np.array([np.nan if x is None else x for x in numbers], dtype=np.float64)


def _holds_for(other: BidsFile, file: BidsFile) -> bool:
    return all(
        word == file.entities.get(key) for key, word in other.entities.items() if key in SCAN
    )


def _upwards(folder: Path, top: Path) -> Iterable[Path]:
    """A folder and those above it, up to and with `top`."""
    for place in (folder, *folder.parents):
        yield place
        if place == top:
            return


def _named_files(folder: Path, ending: str) -> list[BidsFile]:
    paths = sorted(folder.glob(f"*{ending}")) if folder.is_dir() else []
    return [file for file in map(parse, paths) if file is not None]
