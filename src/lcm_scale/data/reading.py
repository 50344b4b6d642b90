"""One scan's file to what the store keeps of it: opened, correlated, brought to the store's type.

In: an `Unread`. Out: a `ScanRead`, a thousandth of the file's numbers. Nothing here depends on
another scan, so files can be read in any process (`pool.py`), and what was read can be kept
(`journal.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe
from lcm_scale.data.connectivity import Matrix, connectivity_matrices
from lcm_scale.data.quality import mean_abs_r
from lcm_scale.data.readers.columns import are_names
from lcm_scale.data.recordings import Recording, Skipped, Unread
from lcm_scale.errors import InputError


@dataclass(frozen=True)
class Piece:
    """A matrix as the store has it: `triangle` (E,) in the recipe's dtype; the rest as of
    `connectivity.Matrix`, and its mean absolute correlation."""

    triangle: np.ndarray
    window: int
    volumes: int
    constant: tuple[int, ...]
    not_finite: tuple[int, ...]
    spikes: int
    mean_abs_r: float
    remark: str


@dataclass(frozen=True)
class ScanRead:
    """A scan that has been read.

    Attributes:
        digest: SHA-256 of its numbers as the file has them.
        named: whether its columns have names.   ready: whether it came as a matrix.
        remarks: what the reports say of its file.
        scrubbed, empty: volumes that were left out (see `cleaning.Cleaned`).
        pieces: its windows, and those that were left out.
    """

    digest: bytes
    named: bool
    ready: bool
    remarks: tuple[str, ...]
    scrubbed: int
    empty: int
    pieces: tuple[Piece | Skipped, ...]


def read(scan: Unread, recipe: ShardRecipe, atlas: Atlas) -> ScanRead | Skipped:
    """A scan's file opened and correlated.

    Args: atlas: of the files.
    Raises: InputError where it cannot be used, but where `source.on_error` is skip. The reasons are
        few and name nothing, since they enter the manifest; what the terminal says is the error.
    """
    why = "file that cannot be read"
    try:
        recording = scan.read()
        why = "file that holds no usable scan"
        matrices = connectivity_matrices(recording, recipe.connectivity, atlas)
    except InputError as error:
        if recipe.source.on_error == "stop":
            raise
        return Skipped(str(error), f"{why} (source.on_error: skip)", reported=True)
    # Volumes are left out of a scan, whatever its number of windows.
    whole = next((matrix for matrix in matrices if isinstance(matrix, Matrix)), None)
    return ScanRead(
        digest=_digest(recording),
        named=are_names(recording.columns) or bool(recording.region_indices),
        ready=recording.connectivity is not None,
        remarks=recording.file_remarks,
        scrubbed=whole.scrubbed if whole else 0,
        empty=whole.empty if whole else 0,
        pieces=tuple(
            matrix if isinstance(matrix, Skipped) else _piece(matrix, recipe.dtype, scan.source)
            for matrix in matrices
        ),
    )


def _digest(recording: Recording) -> bytes:
    values = recording.series if recording.series is not None else recording.connectivity
    return hashlib.sha256(np.ascontiguousarray(values).data).digest()


def _piece(matrix: Matrix, dtype: str, source: str) -> Piece:
    """Raises: InputError where a number does not fit the type."""
    triangle = matrix.values[_above_diagonal(len(matrix.values))]
    largest = float(np.abs(triangle).max())
    if largest > float(np.finfo(dtype).max):
        raise InputError(f"{source}: {largest:.3g} does not fit dtype={dtype}; set dtype=float32")
    return Piece(
        triangle.astype(dtype),
        matrix.window,
        matrix.volumes,
        matrix.constant,
        matrix.not_finite,
        matrix.spikes,
        mean_abs_r(matrix.values, matrix.missing),
        matrix.remark,
    )


@cache
def _above_diagonal(n_regions: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(n_regions, 1)
