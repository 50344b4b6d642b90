"""Region series to connectivity matrices: plain Pearson per scan or per window.

In: a `Recording`. Out: its matrices in the atlas's region order, with what was found on the way. As
published (docs/model.md, Data sets and protocols), the diagonal is 1 (0 for a constant region),
there is no Fisher z and no threshold, and NaN and inf become 0. The published padding (zeros on raw
BOLD) turns a short window's matrix into almost all ones, so the default correlates only the volumes
that the window has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import ConnectivityConfig
from lcm_scale.data.recordings import Recording, Skipped
from lcm_scale.errors import InputError

TOLERANCE = 1e-3  # by which a ready matrix may miss symmetry or the range of a correlation
LARGEST = 1e300  # beyond it a value counts as inf: the sum of a longest series would become that


@dataclass(frozen=True)
class Matrix:
    """The connectivity of one window of a scan.

    Attributes:
        values: float32 (R, R) in the atlas's order.
        window: its number within the scan.
        volumes: how many entered it, padding not counted; 0 where a ready matrix was given.
        constant: positions of the regions that never change, or are zero throughout a ready matrix.
        not_finite: positions of the regions with NaN or inf.
    """

    values: np.ndarray
    window: int
    volumes: int
    constant: tuple[int, ...]
    not_finite: tuple[int, ...]


def connectivity_matrices(
    recording: Recording, config: ConnectivityConfig, atlas: Atlas
) -> list[Matrix | Skipped]:
    """The matrices of a scan, one a window, and what had to be left out.

    Raises: InputError where the scan is not of this atlas, or none of its regions changes.
    """
    if recording.connectivity is not None:
        return [_ready(recording, recording.connectivity, atlas)]
    series = arranged(recording, atlas)
    _refuse_dead(series, recording.source)
    if config.crop is not None and len(series) < config.crop:
        return [
            Skipped(
                recording.source,
                f"fewer than the {config.crop} volumes that connectivity.crop keeps",
            )
        ]
    series = series[: config.crop]
    if len(series) < config.min_volumes:
        return [
            Skipped(
                recording.source,
                f"fewer than {config.min_volumes} volumes (connectivity.min_volumes)",
            )
        ]
    return [
        _matrix(piece, number, config, recording.source)
        for number, piece in enumerate(windows(series, config.window))
    ]


def pearson(series: np.ndarray) -> np.ndarray:
    """Pearson correlation of the columns.

    Args: series: (T, R).
    Returns: float32 (R, R), computed in float64. Rows and columns of a constant region, or of one
        with NaN or inf, are 0, the diagonal included.
    """
    x = np.asarray(series, dtype=np.float64)
    usable = _finite(x) & ~_constant(x)
    x = np.where(usable, x, 0.0)
    x = x - x.mean(0)
    largest = np.abs(x).max(0)  # brings tiny and huge units to one size before squaring
    x = x / np.where(largest > 0, largest, 1.0)
    norm = np.sqrt((x * x).sum(0))
    x = x / np.where(norm > 0, norm, 1.0)
    matrix = np.clip(x.T @ x, -1.0, 1.0)
    np.fill_diagonal(matrix, usable)
    return matrix.astype(np.float32)


def windows(series: np.ndarray, length: int | None) -> list[np.ndarray]:
    """Non-overlapping pieces of `length` volumes, the last one as short as it is; None: the whole
    series."""
    if length is None:
        return [series]
    return [series[start : start + length] for start in range(0, len(series), length)]


def arranged(recording: Recording, atlas: Atlas) -> np.ndarray:
    """The series (T, R) with its columns in the atlas's order.

    Raises: InputError where their number, or the indices that the file names, are not the atlas's.
    """
    series = recording.series
    assert series is not None
    if len(series) == 0:
        raise InputError(f"{recording.source}: empty; expected one row a volume")
    _check_width(series.shape[1], recording.source, atlas)
    order = _order(recording, atlas)
    return series if order is None else series[:, order]


def _matrix(
    piece: np.ndarray, number: int, config: ConnectivityConfig, source: str
) -> Matrix | Skipped:
    volumes = len(piece)
    short = config.window is not None and volumes < config.window
    if short and config.pad == "drop":
        return Skipped(
            f"{source}, window {number}", "last window shorter than connectivity.window (pad: drop)"
        )
    if short and config.pad == "safe" and volumes < config.min_volumes:
        return Skipped(
            f"{source}, window {number}",
            f"last window under {config.min_volumes} volumes (pad: safe)",
        )
    finite = _finite(piece)
    if short and config.pad == "reference":
        padded = np.zeros((config.window or volumes, piece.shape[1]))
        padded[:volumes] = piece
        values = pearson(padded)
    else:
        values = pearson(piece)
    return Matrix(
        values=values,
        window=number,
        volumes=volumes,
        constant=_positions(finite & _constant(piece)),
        not_finite=_positions(~finite),
    )


def _ready(recording: Recording, given: np.ndarray, atlas: Atlas) -> Matrix:
    _check_width(len(given), recording.source, atlas)
    order = _order(recording, atlas)
    given = given if order is None else given[np.ix_(order, order)]
    finite = np.isfinite(given)
    values = np.where(finite, given, 0.0)
    row, column = np.unravel_index(np.abs(values).argmax(), values.shape)
    if abs(values[row, column]) > 1 + TOLERANCE:
        raise InputError(
            f"{recording.source}: {values[row, column]:.3g} at ({row + 1}, {column + 1}) is no "
            "correlation; expected -1..1, "
            "not Fisher z or covariance (source.kind=connectivity)"
        )
    if np.abs(values - values.T).max() > TOLERANCE:
        raise InputError(
            f"{recording.source}: the matrix is not symmetric, so it is no correlation matrix"
        )
    off_diagonal = values * (1 - np.eye(len(values)))
    if not off_diagonal.any():
        raise InputError(f"{recording.source}: every correlation is 0; the file holds no data")
    values = np.clip(values, -1.0, 1.0).astype(np.float32)
    return Matrix(
        values=values,
        window=0,
        volumes=0,
        constant=_positions(~off_diagonal.any(0) & finite.any(0)),
        not_finite=_positions(~finite.any(0)),
    )


def _check_width(width: int, source: str, atlas: Atlas) -> None:
    if width != atlas.n_regions:
        raise InputError(
            f"{source}: {width} columns, atlas {atlas.name} has {atlas.n_regions} regions; use the "
            "files of that atlas, or name theirs (recipe key 'atlas')"
        )


def _order(recording: Recording, atlas: Atlas) -> np.ndarray | None:
    """Where each region of the atlas stands in the file; None where they stand right, or the file
    does not say."""
    named = recording.region_indices
    if named is None or named == atlas.indices:
        return None
    if len(set(named)) != len(named):
        raise InputError(f"{recording.source}: a region index occurs twice in its header")
    strange = sorted(set(named) - set(atlas.indices))
    if strange:
        raise InputError(
            f"{recording.source}: region index {strange[0]} of its header is not in atlas "
            f"{atlas.name}"
        )
    place = {index: i for i, index in enumerate(named)}
    return np.array([place[index] for index in atlas.indices])


def _refuse_dead(series: np.ndarray, source: str) -> None:
    if (_constant(series) | ~_finite(series)).all():
        raise InputError(
            f"{source}: all-constant: no region changes over its {len(series)} volumes; the file "
            "holds no data"
        )


def _finite(series: np.ndarray) -> np.ndarray:
    """(R,) whether a column can be summed."""
    return np.asarray((np.abs(series) <= LARGEST).all(0))


def _constant(series: np.ndarray) -> np.ndarray:
    """(R,) whether a column is one value throughout: exact, because a mean of equal floats need not
    equal them."""
    return np.asarray((series == series[:1]).all(0))


def _positions(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())
