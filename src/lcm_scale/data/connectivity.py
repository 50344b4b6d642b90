"""A scan's region series to its connectivity matrices, one a window.

In: a `Recording`. Out: its matrices in the atlas's region order, with what was found on the way. By
default they are as published (docs/model.md, Data sets and protocols): plain Pearson, a diagonal of
1 (0 for a constant region), no Fisher z and no threshold; NaN and inf become 0. The published
padding (zeros on raw BOLD) turns a short window's matrix into almost all ones, so the default
correlates only the volumes that the window has. Other kinds are in `kinds.py`, what is done to the
series first in `cleaning.py`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import ConnectivityConfig, parameters
from lcm_scale.data.cleaning import Cleaned, check_cleaning, clean
from lcm_scale.data.kinds import check_kind, constant, matrix_of, pearson, summable
from lcm_scale.data.positive import remark_of
from lcm_scale.data.quality import spikes
from lcm_scale.data.readers.columns import indices_of
from lcm_scale.data.recordings import Recording, Skipped
from lcm_scale.errors import InputError
from lcm_scale.identity import normalised

TOLERANCE = 1e-3  # by which a ready matrix may miss symmetry or the range of a correlation
ROUNDING = 1e-9  # of the regions' median spread: a region below holds rounding alone
OF_READY = (
    "kind",
    "pad",
    "min_volumes",
    "accept_missing",
    "drop_regions",
)  # keys, or their default


@dataclass(frozen=True)
class Matrix:
    """The connectivity of one window of a scan.

    Attributes:
        values: float32 (R, R) in the atlas's order.
        window: its number within the scan.
        volumes: how many entered it, padding not counted; 0 where a ready matrix was given.
        constant: positions of the regions that never change, or are zero throughout a ready matrix.
        not_finite: positions of the regions with NaN or inf.
        scrubbed, empty: volumes that were left out of the scan (see `cleaning.Cleaned`).
        remark: what the reports say of it, '' nothing.
        spikes: volumes at which the series jump (see `quality.spikes`), -1 for a ready matrix.
    """

    values: np.ndarray
    window: int
    volumes: int
    constant: tuple[int, ...]
    not_finite: tuple[int, ...]
    scrubbed: int = 0
    empty: int = 0
    remark: str = ""
    spikes: int = -1

    @property
    def missing(self) -> tuple[int, ...]:
        """Positions of the regions without data, ascending: rows of zeros."""
        return tuple(sorted({*self.constant, *self.not_finite}))


def check_connectivity(config: ConnectivityConfig, atlas: Atlas) -> None:
    """Raises: InputError where two keys contradict each other, or a region is not the atlas's."""
    check_cleaning(config.clean)
    check_kind(config.kind)
    if config.window is None and (config.step or config.random_windows):
        key = "step" if config.step else "random_windows"
        raise InputError(f"connectivity.{key}: set connectivity.window, the length of a window")
    if config.step and config.random_windows:
        raise InputError("connectivity.step: windows at random places (random_windows) have none")
    if config.kind != "pearson" and config.pad == "reference":
        raise InputError(
            "connectivity.pad=reference: zeros on the raw signal, as published, are for "
            f"kind=pearson alone, not {config.kind}"
        )
    shortest = min(config.window or config.min_volumes, config.min_volumes)
    if config.kind == "lagged" and config.lag > shortest - 2:
        raise InputError(
            f"connectivity.lag={config.lag}: {shortest} volumes (window or min_volumes) have no "
            "pairs of volumes that far apart"
        )
    scrubs = config.clean.scrub_mm is not None or config.clean.strategy.name == "scrubbing"
    if config.kind == "lagged" and scrubs:
        raise InputError(
            "connectivity.clean: kind=lagged needs volumes in a row, and scrubbing leaves gaps"
        )
    for key in ("accept_missing", "drop_regions"):
        try:
            atlas.without(getattr(config, key))
        except InputError as error:
            raise InputError(f"connectivity.{key}: {error}") from error


def connectivity_matrices(
    recording: Recording, config: ConnectivityConfig, atlas: Atlas
) -> list[Matrix | Skipped]:
    """The matrices of a scan, one a window, and what had to be left out.

    Args:
        atlas: of the files; regions of `config.drop_regions` are left out of the matrices.
    Raises: InputError where the scan is not of this atlas, none of its regions changes, or the
        recipe asks for something that it does not have.
    """
    if recording.connectivity is not None:
        return [_ready(recording, recording.connectivity, config, atlas)]
    series = _kept(arranged(recording, atlas), atlas, config)
    _refuse_dead(series, recording.source)
    if config.crop is not None and len(series) < config.crop:
        return [
            Skipped(
                recording.source,
                f"fewer than the {config.crop} volumes that connectivity.crop keeps",
            )
        ]
    cleaned = clean(_without_rounding(series[: config.crop]), recording, config.clean)
    if isinstance(cleaned, Skipped):
        return [cleaned]
    if len(cleaned.series) < config.min_volumes:
        after = " after scrubbing" if cleaned.scrubbed else ""
        return [
            Skipped(
                recording.source,
                f"fewer than {config.min_volumes} volumes{after} (connectivity.min_volumes)",
            )
        ]
    if config.random_windows is not None:
        pieces = _random_pieces(cleaned.series, config, recording)
    else:
        pieces = windows(cleaned.series, config.window, config.step)
    return [
        _matrix(piece, number, config, recording.source, cleaned)
        for number, piece in enumerate(pieces)
    ]


def windows(series: np.ndarray, length: int | None, step: int | None = None) -> list[np.ndarray]:
    """Pieces of `length` volumes, `step` from start to start (None: none overlap), the last one as
    short as it is; length None: the whole series."""
    if length is None:
        return [series]
    pieces = []
    for start in range(0, len(series), step or length):
        pieces.append(series[start : start + length])
        if start + length >= len(series):
            break
    return pieces


def _random_pieces(
    series: np.ndarray, config: ConnectivityConfig, recording: Recording
) -> list[np.ndarray]:
    """Windows at random places, ascending and all different, the same for equal scans, recipe and
    ids: fewer than asked for where a scan does not have so many, one short one where it is shorter
    than a window."""
    assert config.window is not None and config.random_windows is not None
    places = len(series) - config.window + 1
    if places < 1:
        return [series]
    scan = [recording.cohort, normalised(recording.subject), recording.session, recording.run]
    digest = hashlib.sha256("\n".join(scan).encode()).digest()
    draw = np.random.default_rng([config.random_seed, int.from_bytes(digest[:8], "little")])
    starts = draw.choice(places, min(config.random_windows, places), replace=False)
    return [series[start : start + config.window] for start in np.sort(starts)]


def arranged(recording: Recording, atlas: Atlas) -> np.ndarray:
    """The series (T, R) with its columns in the atlas's order; NaN for a region that the file,
    which names its regions, does not have.

    Raises: InputError where their number, or the indices that the file names, are not the atlas's.
    """
    series = recording.series
    assert series is not None
    if len(series) == 0:
        raise InputError(f"{recording.source}: empty; expected one row a volume")
    order = _order(recording, series.shape[1], atlas)
    if order is None:
        return series
    series = series[:, order]
    return np.where(order < 0, np.nan, series) if (order < 0).any() else series


def _kept(series: np.ndarray, atlas: Atlas, config: ConnectivityConfig) -> np.ndarray:
    """The columns of the regions that are not dropped."""
    if not config.drop_regions:
        return series
    return series[:, [index not in config.drop_regions for index in atlas.indices]]


def _matrix(
    piece: np.ndarray, number: int, config: ConnectivityConfig, source: str, cleaned: Cleaned
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
    finite = summable(piece)
    if short and config.pad == "reference":
        padded = np.zeros((config.window or volumes, piece.shape[1]))
        padded[:volumes] = piece
        values = pearson(padded)
    else:
        values = matrix_of(piece, config.kind, config.lag)
    return Matrix(
        values=values,
        window=number,
        volumes=volumes,
        constant=_positions(finite & constant(piece)),
        not_finite=_positions(~finite),
        scrubbed=cleaned.scrubbed,
        empty=cleaned.empty,
        spikes=spikes(piece),
    )


def _ready(
    recording: Recording, given: np.ndarray, config: ConnectivityConfig, atlas: Atlas
) -> Matrix:
    """A matrix that the recipe says the kind of."""
    _refuse_keys_of_series(recording.source, config)
    order = _order(recording, len(given), atlas)
    if order is not None:
        absent = order < 0
        given = np.where(absent | absent[:, None], np.nan, given[np.ix_(order, order)])
    given = _kept(_kept(given, atlas, config).T, atlas, config).T
    if config.kind != "covariance" and np.isinf(np.diag(given)).any():
        raise InputError(
            f"{recording.source}: its diagonal is infinite, so it holds Fisher z and no "
            "correlations; expected tanh of it (source.kind=connectivity)"
        )
    finite = np.isfinite(given)
    values = np.where(finite, given, 0.0)
    if config.kind == "covariance":
        values = values / _mean_variance(values, recording.source)
        bound = np.inf
    else:
        bound = 1 + TOLERANCE
    row, column = np.unravel_index(np.abs(values).argmax(), values.shape)
    if abs(values[row, column]) > bound:
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
    if config.kind != "covariance":
        values = np.clip(values, -1.0, 1.0)
    return Matrix(
        values=values.astype(np.float32),
        window=0,
        volumes=0,
        constant=_positions(~off_diagonal.any(0) & finite.any(0)),
        not_finite=_positions(~finite.any(0)),
        remark=remark_of(values, finite, config.kind, recording.source),
    )


def _refuse_keys_of_series(source: str, config: ConnectivityConfig) -> None:
    """A ready matrix has no volumes to clean or to cut."""
    usual = parameters(ConnectivityConfig())
    for key, value in parameters(config).items():
        if key not in (*OF_READY, "lag") and value != usual.get(key):
            raise InputError(
                f"{source}: a ready matrix: connectivity.{key} is for series (source.kind)"
            )


def _mean_variance(covariance: np.ndarray, source: str) -> float:
    """Raises: InputError where the diagonal holds no variances."""
    variances = np.diag(covariance)
    if (variances < 0).any() or not variances.any():
        raise InputError(
            f"{source}: the diagonal of a covariance matrix holds variances, and this one's does "
            "not (connectivity.kind=covariance)"
        )
    return float(variances[variances > 0].mean())


def _order(recording: Recording, width: int, atlas: Atlas) -> np.ndarray | None:
    """Where each region of the atlas stands in the file, -1 where nowhere; None where all stand
    right, or the file does not say.

    Args: width: columns of the file.
    """
    named = recording.region_indices
    if named is None:
        named = indices_of(recording.columns, atlas, recording.source)
    if width != atlas.n_regions and not (named and set(named) <= set(atlas.indices)):
        raise InputError(
            f"{recording.source}: {width} columns, atlas {atlas.name} has {atlas.n_regions} "
            "regions; use the files of that atlas, or name theirs (recipe key 'atlas')"
        )
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
    if 2 * len(named) < atlas.n_regions:
        raise InputError(
            f"{recording.source}: its header names {len(named)} of the {atlas.n_regions} regions "
            f"of atlas {atlas.name}"
        )
    place = {index: i for i, index in enumerate(named)}
    return np.array([place.get(index, -1) for index in atlas.indices])


def _refuse_dead(series: np.ndarray, source: str) -> None:
    filled = series[np.isfinite(series).any(1)]
    if not len(filled) or (constant(filled) | ~summable(filled)).all():
        raise InputError(
            f"{source}: all-constant: no region changes over its {len(series)} volumes; the file "
            "holds no data"
        )


def _without_rounding(series: np.ndarray) -> np.ndarray:
    """The series with regions of nothing but rounding, as a filter leaves of zeros, set to 0: they
    are constant, and known as such."""
    with np.errstate(invalid="ignore", over="ignore"):
        spread = np.ptp(series[np.isfinite(series).any(1)], axis=0)
    known = spread[np.isfinite(spread) & (spread > 0)]
    rounding = (spread > 0) & (spread < ROUNDING * np.median(known if len(known) else 0.0))
    return np.where(rounding & np.isfinite(series), 0.0, series) if rounding.any() else series


def _positions(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())
