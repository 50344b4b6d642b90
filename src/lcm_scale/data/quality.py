"""How good a scan is: spikes in its series, the size of its correlations, its distance from the
cohort; and which scans a recipe's thresholds leave out.

In: a scan's series and matrix while files are read, then the whole store. Out: numbers a scan, and
the reason for which it is left out. The distance is known only when everybody has been read, so
thresholds are applied to the store, in its order: how files were read changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lcm_scale.config import QualityConfig
from lcm_scale.data.kinds import constant, summable
from lcm_scale.data.store import ScanFacts, Store
from lcm_scale.errors import InputError

WHISKER = 1.5  # interquartile ranges above the upper quartile: where a box plot's outliers begin
NORMAL = 1.4826  # by which the median absolute deviation of a normal law is its standard deviation
LEAST_JUMPS = 4  # of which quartiles are taken
NUMBERS_AT_ONCE = 2**23  # edges in memory


def spikes(series: np.ndarray) -> int:
    """Volumes at which the series jump: DVARS (Power et al. 2012), the root mean square over
    regions of the change from the volume before, above its upper quartile by more than 1.5
    interquartile ranges, which is the default rule of FSL's `fsl_motion_outliers --dvars`.

    Each region counts in units of its own standard deviation, so that units do not matter.
    Args: series: (T, R); regions without data take no part.
    """
    x = np.asarray(series, dtype=np.float64)
    x = x[:, summable(x) & ~constant(x)]
    if len(x) <= LEAST_JUMPS or not x.shape[1]:
        return 0
    x = x / np.abs(x).max(0)  # huge and tiny units, before squaring
    spread = x.std(0)
    jumps = np.diff(x[:, spread > 0] / spread[spread > 0], axis=0)
    dvars = np.sqrt((jumps**2).mean(1)) if jumps.size else np.zeros(1)
    low, high = np.percentile(dvars, [25, 75])
    return int((dvars > high + WHISKER * (high - low)).sum())


def mean_abs_r(matrix: np.ndarray, missing: Sequence[int]) -> float:
    """Mean absolute value of the edges between regions with data, NaN where there are none.

    Args: matrix: (R, R).   missing: positions of regions without data.
    """
    there = np.setdiff1d(np.arange(len(matrix)), missing)
    if len(there) < 2:
        return float("nan")
    absolute = np.abs(matrix[np.ix_(there, there)].astype(np.float64))
    n = len(there)
    return float((absolute.sum() - np.trace(absolute)) / (n * (n - 1)))


# -- distance from the cohort ----------------------------------------------------------------------


def distances(blocks: Callable[[], Iterator[np.ndarray]], counted: np.ndarray) -> np.ndarray:
    """Of each scan, one minus the correlation of its edges with the mean of the counted scans.

    An edge of exactly 0 is one of a region without data, and takes no part.
    Args: blocks: the edges (b, E) in order, anew at each call.   counted: bool (N,) who makes the
        mean.
    Returns: float64 (N,), NaN where a scan has no edges that differ.
    """
    total: np.ndarray | None = None
    start = 0
    for block in blocks():
        chosen = block[counted[start : start + len(block)]].astype(np.float64)
        sums = np.stack([chosen.sum(0), (chosen != 0).sum(0)])
        total = sums if total is None else total + sums
        start += len(block)
    assert total is not None
    mean = total[0] / np.maximum(total[1], 1)
    return np.concatenate([distance_from(block.astype(np.float64), mean) for block in blocks()])


def distance_from(x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(b,) one minus the correlation of each scan's edges (b, E) with mean edges (E,), NaN where a
    scan has no edges that differ."""
    there = x != 0
    n = np.maximum(there.sum(1), 1)
    m = np.where(there, mean, 0.0)
    xm = (x * m).sum(1) - x.sum(1) * m.sum(1) / n
    xx = (x * x).sum(1) - x.sum(1) ** 2 / n
    mm = (m * m).sum(1) - m.sum(1) ** 2 / n
    size = np.sqrt(np.maximum(xx, 0) * np.maximum(mm, 0))
    return 1 - np.divide(xm, size, out=np.full(len(x), np.nan), where=size > 1e-9 * n)


def without_data(edges: np.ndarray) -> np.ndarray:
    """Bool (n, R) whether a region has no data in a scan: all its edges (n, E) are 0."""
    n_regions = int((1 + np.sqrt(1 + 8 * edges.shape[1])) / 2)
    rows, columns = np.triu_indices(n_regions, 1)
    found = np.zeros((len(edges), n_regions), dtype=bool)
    for scan in np.flatnonzero((edges == 0).any(1)):  # few, so that the others cost nothing
        there = np.zeros(n_regions, dtype=bool)
        there[rows[edges[scan] != 0]] = there[columns[edges[scan] != 0]] = True
        found[scan] = ~there
    return found


def robust_z(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Distances (N,) from the median of the counted ones, in median absolute deviations scaled to
    standard deviations; 0 where those do not differ at all."""
    own = values[counted & np.isfinite(values)]
    if not len(own):
        return np.full(len(values), np.nan)
    centre = float(np.median(own))
    spread = NORMAL * float(np.median(np.abs(own - centre)))
    return np.where(np.isfinite(values), (values - centre) / spread if spread else 0.0, np.nan)


def edges_of(content: Store) -> Callable[[], Iterator[np.ndarray]]:
    """The blocks of a store's matrices, for `distances`."""
    step = max(1, NUMBERS_AT_ONCE // content.fc.shape[1])

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(content.fc), step):
            yield content.fc[start : start + step]

    return blocks


# -- thresholds ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """The scans of a store, in its order.

    Attributes:
        distance, distance_z: float64 (N,) from the mean of the scans that the other thresholds
            leave in, NaN unknown.
        reasons: why a scan is left out, '' where it stays.
    """

    distance: np.ndarray
    distance_z: np.ndarray
    reasons: tuple[str, ...]


def judge(name: str, content: Store, limits: QualityConfig) -> Judged:
    """What is known of each scan at the end of reading, and who is left out.

    Args: name: of the set.
    Raises: InputError where nobody is left, or a threshold is of something that no scan has.
    """
    _refuse_unknown(name, content.facts, limits)
    reasons = [_reason(fact, limits) for fact in content.facts]
    stays = np.array([not why for why in reasons])
    _refuse_empty(name, reasons)
    distance = distances(edges_of(content), stays)
    z = robust_z(distance, stays)
    if limits.max_distance is not None:
        why = (
            f"farther than {limits.max_distance:g} robust standard deviations from the cohort's "
            "mean matrix (quality.max_distance)"
        )
        far = z > limits.max_distance
        reasons = [own or (why if out else "") for own, out in zip(reasons, far, strict=True)]
        _refuse_empty(name, reasons)
    return Judged(distance, z, tuple(reasons))


def _reason(fact: ScanFacts, limits: QualityConfig) -> str:
    """The first threshold of a scan's own that it is above; what is not known is above none."""
    missing = fact.constant_regions + fact.broken_regions
    if _above(fact.mean_fd, limits.max_mean_fd):
        return f"mean framewise displacement above {limits.max_mean_fd:g} mm (quality.max_mean_fd)"
    if _above(missing, limits.max_missing_regions):
        return (
            f"more than {limits.max_missing_regions} regions without data "
            "(quality.max_missing_regions)"
        )
    if _above(fact.spikes, limits.max_spikes):
        return f"more than {limits.max_spikes} spikes (quality.max_spikes)"
    if _above(fact.mean_abs_r, limits.max_mean_abs_r):
        return f"mean |r| above {limits.max_mean_abs_r:g} (quality.max_mean_abs_r)"
    return ""


def _above(value: float, limit: float | None) -> bool:
    """The store holds single precision, in which .3 is a little more than .3."""
    return limit is not None and value > float(np.float32(limit))


def _refuse_empty(name: str, reasons: Sequence[str]) -> None:
    if all(reasons):
        listed = "; ".join(f"{reasons.count(why)} {why}" for why in dict.fromkeys(reasons))
        raise InputError(f"{name}: no scan is left ({listed})")


def _refuse_unknown(name: str, facts: Sequence[ScanFacts], limits: QualityConfig) -> None:
    """A threshold that can leave nobody out looks like one that everybody passed."""
    if limits.max_mean_fd is not None and all(np.isnan(fact.mean_fd) for fact in facts):
        raise InputError(
            f"{name}: quality.max_mean_fd={limits.max_mean_fd:g}: no scan has a mean framewise "
            "displacement; give it in the table (mean_fd), or leave the threshold out"
        )
    if limits.max_spikes is not None and all(fact.spikes < 0 for fact in facts):
        raise InputError(
            f"{name}: quality.max_spikes={limits.max_spikes}: spikes are counted in series, and "
            "these are ready matrices; leave the threshold out"
        )


def unknown_notes(facts: Sequence[ScanFacts], limits: QualityConfig) -> list[str]:
    """What every report says of scans that a threshold could not judge."""
    unknown = {
        "max_mean_fd": sum(bool(np.isnan(fact.mean_fd)) for fact in facts),
        "max_spikes": sum(fact.spikes < 0 for fact in facts),
    }
    return [
        f"Kept although unknown, {count}: scans without what quality.{key} is about."
        for key, count in unknown.items()
        if count and getattr(limits, key) is not None
    ]
