"""Recording: one scan as a reader hands it on; Skipped: one that it could not use, and why.

Readers yield these and know nothing of tensors, files written, or vocabularies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lcm_scale.errors import InputError

SIMULATED_MARKER = "SIMULATED.json"  # in a folder of raw files that a generator wrote


@dataclass(frozen=True)
class Recording:
    """One scan.

    Attributes:
        cohort: the study that gave the subject its id (``abide``): with `subject` it identifies a
            person.
        subject: the raw subject id. It is hashed before anything is written.
        source: the raw file, for the terminal and for errors only; it is never stored.
        series: (T, R) BOLD series of the regions, or None where `connectivity` is given.
        connectivity: (R, R) a ready matrix, or None.
        region_indices: atlas indices of the columns as the file names them, or None where the file
            does not.
        session, run: '' where there is only one.
        site: scanner or centre, '' where unknown.
        tr: repetition time in seconds, None where unknown.
        age: years, None where missing.  sex: 'M', 'F' or None.
        mean_fd: mean framewise displacement in mm, None where unknown.
        confounds: column of a confounds table -> (T,) its value at each volume, NaN missing; those
            that `cleaning.confound_columns` asks for, where the source has them.
        labels: label column -> category name or number as the table has it, or None where missing.
        row: the table's row that the labels come from, for errors; '' where there is none.
        remark: what every report must say of such a scan ('' nothing); equal ones are counted.
        simulated: true where no person was scanned.
    """

    cohort: str
    subject: str
    source: str
    series: np.ndarray | None = None
    connectivity: np.ndarray | None = None
    region_indices: tuple[int, ...] | None = None
    session: str = ""
    run: str = ""
    site: str = ""
    tr: float | None = None
    age: float | None = None
    sex: str | None = None
    mean_fd: float | None = None
    confounds: Mapping[str, np.ndarray] = field(default_factory=dict)
    labels: Mapping[str, str | None] = field(default_factory=dict)
    row: str = ""
    remark: str = ""
    simulated: bool = False

    def __post_init__(self) -> None:
        if (self.series is None) == (self.connectivity is None):
            raise InputError(
                f"{self.source}: a recording holds either region series or a ready matrix"
            )
        if not self.subject:
            raise InputError(f"{self.source}: no subject id")
        if self.sex not in ("M", "F", None):
            raise InputError(f"{self.source}: sex is '{self.sex}', expected M, F or missing")
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
