"""Cleaning of region series by recipe (`connectivity.clean`), in one fixed order.

step (1) volumes without a number in any region, those above the displacement threshold, and those
that a strategy for fMRIPrep's confounds leaves out are marked
step (2) where a trend or frequencies are taken out, marked volumes between others are bridged by a
cubic spline, in series and confounds alike; those at the ends are cut off
step (3) detrend, then band-pass, series and confounds alike (nilearn)
step (4) marked volumes are left out
step (5) the confounds are regressed out (nilearn)

This is the order that nilearn's `signal.clean` has after Lindquist et al. 2019. It is asked for
steps 3 and 5 alone: its own bridging leaves marked volumes in whose mirror image in time is marked
too (docs/log.md). By default only volumes without any number are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lcm_scale.config import CleanConfig
from lcm_scale.data.kinds import constant, summable
from lcm_scale.data.recordings import Recording, Skipped
from lcm_scale.errors import InputError, not_installed

# What may be said of a strategy beside its name (nilearn's table in `load_confounds_strategy`).
TAKES = {
    "none": (),
    "simple": ("motion", "wm_csf", "global_signal"),
    "scrubbing": (
        *("motion", "wm_csf", "global_signal"),
        *("scrub", "fd_threshold", "std_dvars_threshold"),
    ),
    "compcor": ("motion", "global_signal", "compcor", "n_compcor"),
    "ica_aroma": ("wm_csf", "global_signal"),
}
FILTER_VOLUMES = 34  # the least that the band-pass (Butterworth of order 5, both ways) can take
GONE = 1e-9  # of its spread before: what is left of a region that was trend or confound alone


@dataclass(frozen=True)
class Cleaned:
    """A scan's series (T, R) after cleaning.

    Attributes:
        scrubbed: volumes above the displacement threshold, or that the strategy leaves out.
        empty: volumes without a number in any region.
    """

    series: np.ndarray
    scrubbed: int = 0
    empty: int = 0


def confound_columns(config: CleanConfig) -> tuple[str, ...]:
    """The columns of a scan's confounds table that a recipe asks for."""
    motion = (config.fd_column,) if config.scrub_mm is not None else ()
    return tuple(dict.fromkeys((*motion, *config.nuisance)))


def check_cleaning(config: CleanConfig) -> None:
    """Raises: InputError where two keys contradict each other, or a library is missing."""
    low, high = config.low_pass, config.high_pass
    if low is not None and high is not None and high >= low:
        raise InputError(
            f"connectivity.clean.high_pass={high:g} is not below low_pass={low:g}: the band (Hz) "
            "that is kept lies between them"
        )
    _check_strategy(config)
    strategy = config.strategy.name != "none"
    if config.detrend or config.nuisance or strategy or _filters(config):
        _nilearn_clean()


def _check_strategy(config: CleanConfig) -> None:
    """Raises: InputError for a parameter that the strategy does not take, and for what would be
    done twice."""
    key, name = "connectivity.clean.strategy", config.strategy.name
    for parameter in fields(config.strategy):
        given = getattr(config.strategy, parameter.name) is not None
        if parameter.name != "name" and given and parameter.name not in TAKES[name]:
            taken = ", ".join(TAKES[name]) or "nothing; set its name first"
            raise InputError(f"{key}.{parameter.name}: name={name} takes {taken}")
    if name == "none":
        return
    if config.high_pass is not None:
        raise InputError(
            "connectivity.clean.high_pass: fMRIPrep's cosines, which clean.strategy regresses out, "
            "take out slow changes already; leave one of the two out"
        )
    if config.nuisance:
        raise InputError(
            f"connectivity.clean.nuisance: clean.strategy.name={name} chooses the confounds; leave "
            "one of the two out"
        )
    if config.scrub_mm is not None and name == "scrubbing":
        raise InputError(
            "connectivity.clean.scrub_mm: clean.strategy.name=scrubbing leaves volumes out already "
            "(strategy.fd_threshold)"
        )


def clean(series: np.ndarray, recording: Recording, config: CleanConfig) -> Cleaned | Skipped:
    """The series of a scan, cleaned.

    Args:
        series: (T, R), its regions in the atlas's order; volumes may have been cut off its end.
    Returns: constant regions and those with NaN or inf as they are, the others cleaned.
    Raises: InputError where the recipe asks for something that the scan does not have.
    """
    given = {name: _confound(name, recording)[: len(series)] for name in confound_columns(config)}
    empty = ~np.isfinite(series).any(1)
    moved = np.zeros(len(series), dtype=bool)
    if config.scrub_mm is not None:
        moved = ~empty & (given[config.fd_column] > config.scrub_mm)
    regressors = [given[name] for name in config.nuisance]
    if config.strategy.name != "none":
        chosen, outliers = _chosen(recording, config.strategy.name)
        regressors = list(chosen[: len(series)].T)
        moved |= ~empty & outliers[: len(series)]
    keep = ~(empty | moved)
    if keep.sum() < 2:
        return Skipped(recording.source, "no two volumes are left (connectivity.clean)")
    kept = series if keep.all() else series[keep]
    if config.detrend or _filters(config) or regressors:
        usable = summable(kept) & ~constant(kept)
        x = _cleaned(series[:, usable], regressors, keep, recording, config)
        if isinstance(x, Skipped):
            return x
        # What was trend or confound alone is rounding now; a region of zeros is known as one.
        left = np.ptp(x, 0) > GONE * np.ptp(kept[:, usable], 0)
        kept = kept.astype(np.float64)
        kept[:, usable] = np.where(left, x, 0.0)
    return Cleaned(kept, int(moved.sum()), int(empty.sum()))


def _cleaned(
    x: np.ndarray,
    regressors: Sequence[np.ndarray],
    keep: np.ndarray,
    recording: Recording,
    config: CleanConfig,
) -> np.ndarray | Skipped:
    """Steps 2 to 5 of regions (T, U) that have data: (volumes that are kept, U)."""
    nuisance = np.stack(regressors, 1) if regressors else None
    if config.detrend or _filters(config):
        first, last = np.flatnonzero(keep)[[0, -1]]
        part = slice(first, last + 1)
        if _filters(config) and last + 1 - first < FILTER_VOLUMES:
            return Skipped(
                recording.source,
                f"fewer than the {FILTER_VOLUMES} volumes that a band-pass takes "
                "(connectivity.clean.high_pass, low_pass)",
            )
        here = keep[part]
        x = _filtered(_bridged(x[part], here), recording, config)[here]
        if nuisance is not None:
            nuisance = _filtered(_bridged(nuisance[part], here), recording, config)[here]
    else:
        x = x[keep]
        nuisance = None if nuisance is None else nuisance[keep]
    if nuisance is None:
        return x
    if len(x) < nuisance.shape[1] + 3:
        return Skipped(
            recording.source,
            f"too few volumes for {nuisance.shape[1]} confounds (connectivity.clean)",
        )
    return np.asarray(_nilearn_clean()(x, detrend=False, standardize=None, confounds=nuisance))


def _filters(config: CleanConfig) -> bool:
    return config.low_pass is not None or config.high_pass is not None


def _confound(name: str, recording: Recording) -> np.ndarray:
    """(T,) a column of the scan's confounds, 0 where its first volume has none: displacement and
    derivatives begin with the second.

    Raises: InputError where the scan has no such column, or a value within it is missing.
    """
    if name not in recording.confounds:
        raise InputError(
            f"{recording.source}: connectivity.clean asks for the confound '{name}', and the "
            "reader gives this scan none of that name (reader table: a column 'confounds' that "
            "names a file a scan)"
        )
    values = np.array(recording.confounds[name], dtype=np.float64)
    assert recording.series is not None
    if len(values) != len(recording.series):
        raise InputError(
            f"{recording.source}: {len(recording.series)} volumes, but {len(values)} rows of "
            f"confounds ('{name}')"
        )
    if not np.isfinite(values[0]):
        values[0] = 0.0
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
        raise InputError(f"{recording.source}: confound '{name}' has no value at volume {row}")
    return values


def _chosen(recording: Recording, strategy: str) -> tuple[np.ndarray, np.ndarray]:
    """A scan's regressors (T, C) and outliers (T,).  Raises: InputError where it has none."""
    regressors, outliers = recording.regressors, recording.outliers
    if regressors is None or outliers is None:
        raise InputError(
            f"{recording.source}: connectivity.clean.strategy.name={strategy} is for images with "
            "fMRIPrep's confounds beside them (reader fmriprep)"
        )
    assert recording.series is not None
    if len(regressors) != len(recording.series):
        raise InputError(
            f"{recording.source}: {len(recording.series)} volumes, but {len(regressors)} rows of "
            "confounds"
        )
    return regressors, outliers


def _bridged(x: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """(T, C) with the volumes that are not kept between those that are."""
    if keep.all():
        return x
    from scipy.interpolate import CubicSpline  # a quarter of a second, for who scrubs alone

    times = np.arange(len(x))
    return np.where(keep[:, None], x, CubicSpline(times[keep], x[keep])(times))


def _filtered(x: np.ndarray, recording: Recording, config: CleanConfig) -> np.ndarray:
    band: dict[str, Any] = {}
    if _filters(config):
        band = {
            "low_pass": config.low_pass,
            "high_pass": config.high_pass,
            "t_r": _repetition_time(recording, config),
        }
    return np.asarray(_nilearn_clean()(x, detrend=config.detrend, standardize=None, **band))


def _repetition_time(recording: Recording, config: CleanConfig) -> float:
    """Seconds.  Raises: InputError where it is unknown, or too long for the band."""
    tr = recording.tr
    if tr is None or not tr > 0:
        raise InputError(
            f"{recording.source}: connectivity.clean.high_pass and low_pass need the repetition "
            "time; give it in seconds (source.tr, or the table's column tr)"
        )
    for key in ("high_pass", "low_pass"):
        edge = getattr(config, key)
        if edge is not None and edge >= 0.5 / tr:
            raise InputError(
                f"{recording.source}: connectivity.clean.{key}={edge:g} Hz: with a repetition time "
                f"of {tr:g} s there is nothing above {0.5 / tr:.3g} Hz"
            )
    return float(tr)


def _nilearn_clean() -> Any:
    try:
        from nilearn.signal import clean as nilearn_clean  # two seconds, for who cleans alone
    except ImportError as error:
        raise not_installed("connectivity.clean", "nilearn", "imaging") from error
    return nilearn_clean
