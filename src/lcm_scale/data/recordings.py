"""Unread: one scan as a reader lists it; Recording: the same with its numbers; Skipped: one that
cannot be used, and why.

Readers know nothing of tensors, files written, or vocabularies. They list scans without opening
their files: so tables and people are checked before the first file is read, one damaged file need
not stop the others, and files can be read in any process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields

import numpy as np

from lcm_scale.errors import InputError

SIMULATED_MARKER = "SIMULATED.json"  # in a folder of raw files that a generator wrote


@dataclass(frozen=True)
class ScanArrays:
    """A scan's numbers.

    Attributes:
        series: (T, R) BOLD series of the regions, or None where `connectivity` is given.
        connectivity: (R, R) a ready matrix, or None.
        region_indices: atlas indices of the columns as the file names them, or None where the file
            does not.
        confounds: column of a confounds table -> (T,) its value at each volume, NaN missing; those
            that `cleaning.confound_columns` asks for, where the source has them.
        regressors: (T, C) what `connectivity.clean.strategy` regresses out, None without one.
        outliers: (T,) whether a volume is to be left out as that strategy says, or None.
        columns: the columns' names as the file has them, empty where it has none; what they mean
            is found out by `readers.columns` where the indices do not say it.
        file_remarks: what was left out or taken for something, for the reports.
    """

    series: np.ndarray | None
    connectivity: np.ndarray | None
    region_indices: tuple[int, ...] | None
    confounds: Mapping[str, np.ndarray] = field(default_factory=dict)
    regressors: np.ndarray | None = None
    outliers: np.ndarray | None = None
    columns: tuple[str, ...] = ()
    file_remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scan:
    """What tables and names say of a scan.

    Attributes:
        cohort: the study that gave the subject its id (``abide``): with `subject` it identifies a
            person.
        subject: the raw subject id. It is hashed before anything is written.
        source: the raw file, for the terminal and for errors only; it is never stored.
        session, run: '' where there is only one.
        site: scanner or centre, '' where unknown.
        tr: repetition time in seconds, None where unknown.
        age: years, None where missing.  sex: 'M', 'F' or None.
        mean_fd: mean framewise displacement in mm, None where unknown.
        labels: label column -> category name or number as the table has it, or None where missing.
        row: the table's row that the labels come from, for errors; '' where there is none.
        remarks: what every report must say of such a scan; equal ones are counted.
        simulated: true where no person was scanned.
    """

    cohort: str
    subject: str
    source: str
    _: KW_ONLY
    session: str = ""
    run: str = ""
    site: str = ""
    tr: float | None = None
    age: float | None = None
    sex: str | None = None
    mean_fd: float | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    row: str = ""
    remarks: tuple[str, ...] = ()
    simulated: bool = False

    def __post_init__(self) -> None:
        if not self.subject:
            raise InputError(f"{self.source}: no subject id")
        if self.sex not in ("M", "F", None):
            raise InputError(f"{self.source}: sex is '{self.sex}', expected M, F or missing")


@dataclass(frozen=True)
class Recording(Scan):
    """A scan with its numbers (see `ScanArrays`)."""

    series: np.ndarray | None = None
    connectivity: np.ndarray | None = None
    region_indices: tuple[int, ...] | None = None
    confounds: Mapping[str, np.ndarray] = field(default_factory=dict)
    regressors: np.ndarray | None = None
    outliers: np.ndarray | None = None
    columns: tuple[str, ...] = ()
    file_remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.series is None) == (self.connectivity is None):
            raise InputError(
                f"{self.source}: a recording holds either region series or a ready matrix"
            )
        if self.series is not None and self.series.ndim != 2:
            raise InputError(
                f"{self.source}: region series of shape {self.series.shape}, expected (time, "
                "regions)"
            )
        if self.connectivity is not None:
            shape = self.connectivity.shape
            if len(shape) != 2 or shape[0] != shape[1]:
                raise InputError(
                    f"{self.source}: a connectivity matrix of shape {shape}, expected (regions, "
                    "regions)"
                )


@dataclass(frozen=True, kw_only=True)
class Unread(Scan):
    """A scan whose file is still to be opened.

    Attributes: load: opens it; a `functools.partial` of a function at the top of a module, so that
        the scan can be sent to another process.
    """

    load: Callable[[], ScanArrays]

    def read(self) -> Recording:
        """Raises: InputError where the file cannot be read."""
        known = {each.name: getattr(self, each.name) for each in fields(Scan)}
        arrays = self.load()
        return Recording(
            **known, **{each.name: getattr(arrays, each.name) for each in fields(ScanArrays)}
        )


@dataclass(frozen=True)
class Skipped:
    """A row or file that holds no usable scan: counted and listed on the terminal, never silently
    dropped.

    Attributes:
        what: the row or file, on the terminal only.   why: the reason; equal ones are counted.
        reported: whether every report must say how many there were.
    """

    what: str
    why: str
    reported: bool = False
