"""Several runs of a person's task made one scan (`source.runs: average`).

Series: each region of each run is standardised over its volumes, and the runs are put one behind
the other, as XCP-D's --combine-runs puts them. The Pearson correlation of such a series is the mean
of the runs' correlations, each counting as its volumes do, and every other kind of matrix can be
made of it. Ready matrices: the mean of their Fisher z, turned back (Silver and Dunlap 1987;
nilearn's developers advise it, neurostars.org/t/20346), each run counting alike, since a matrix
does not say its volumes; covariances are averaged as they are. A region that is missing in a run
is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lcm_scale.data.recordings import ScanArrays
from lcm_scale.errors import InputError

OUTSIDE = 1e-3  # by which rounding may push a correlation out of -1..1
LARGEST = 1 - 1e-7  # correlation whose Fisher z is taken; that of 1 is infinite


def joined_runs(runs: Sequence[ScanArrays], paths: Sequence[Path], kind: str) -> ScanArrays:
    """One scan of several runs.

    Args: paths: of the runs, for errors.   kind: of ready matrices (`connectivity.kind`).
    Raises: InputError where the runs do not name the same regions, or a matrix is none of
        correlations.
    """
    first = runs[0]
    for run, path in zip(runs, paths, strict=True):
        if _regions(run) != _regions(first):
            raise InputError(f"{path}: its regions are not those of {paths[0]}, another run")
    if first.series is not None:
        pieces = [_standardised(run.series) for run in runs if run.series is not None]
        return replace(first, series=np.concatenate(pieces))
    matrices = [run.connectivity for run in runs if run.connectivity is not None]
    if kind == "covariance":
        return replace(first, connectivity=np.mean(matrices, axis=0))
    z = [_fisher_z(matrix, path) for matrix, path in zip(matrices, paths, strict=True)]
    mean = np.tanh(np.mean(z, axis=0))
    np.fill_diagonal(mean, np.mean([np.diag(matrix) for matrix in matrices], axis=0))
    return replace(first, connectivity=mean)


def _regions(run: ScanArrays) -> tuple[object, ...]:
    """What tells whether two runs' columns are the same."""
    values = run.series if run.series is not None else run.connectivity
    width = 0 if values is None else values.shape[1]
    return run.region_indices, run.columns, width


def _standardised(series: np.ndarray) -> np.ndarray:
    """(T, R) mean 0 and spread 1 over the volumes that have numbers; 0 where a region never
    changes."""
    filled = series[np.isfinite(series).any(1)]
    if not len(filled):
        return series
    spread = filled.std(axis=0)
    return np.asarray((series - filled.mean(axis=0)) / np.where(spread == 0, 1.0, spread))


def _fisher_z(matrix: np.ndarray, path: Path) -> np.ndarray:
    off_diagonal = np.where(np.eye(len(matrix), dtype=bool), 0.0, matrix)
    if (np.abs(off_diagonal[np.isfinite(off_diagonal)]) > 1 + OUTSIDE).any():
        raise InputError(
            f"{path}: holds numbers outside -1..1, so it is no matrix of correlations, and runs "
            "are not averaged (source.runs)"
        )
    return np.asarray(np.arctanh(np.clip(off_diagonal, -LARGEST, LARGEST)))
