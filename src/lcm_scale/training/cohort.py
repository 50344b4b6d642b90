"""The cohort of a run's people, fitted on the scans that train it or choose its epoch.

A person's own distance is taken from the mean of the others, so that the threshold holds for a
person whom the model has not seen. Held-out people of an evaluation are in none of it.
Shapes: n scans, E edges.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from lcm_scale.data.manifest import read_index, read_manifest
from lcm_scale.data.quality import NUMBERS_AT_ONCE, distance_from, without_data
from lcm_scale.data.quality_table import read_table
from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError
from lcm_scale.linear.landmarks import draw_landmarks
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.weights.cohort import PERCENTS, STORED, Cohort, Range

AT_ONCE = 128  # scans
MOST_SCANS = 4000
MOST_NUMBERS = 2**26  # edges in memory; 10,000 scans of 116 regions, 134 of 1,000


def cohort_of(prepared: PreparedRun) -> Cohort | None:
    """None where there is no second person, or no scan whose edges differ."""
    sets = prepared.opened.sets
    scans = np.sort(np.concatenate([prepared.train, prepared.validation]))
    most = min(MOST_SCANS, max(2, MOST_NUMBERS // sets.atlas.n_edges))
    scans = scans[draw_landmarks(sets.subject[scans], (), most, prepared.recipe.seed)]
    if not len(scans):
        return None
    person = np.unique(sets.together[scans], return_inverse=True)[1]
    # Some at a time: a streamed source holds every block that one request touches.
    parts = (scans[start : start + AT_ONCE] for start in range(0, len(scans), AT_ONCE))
    edges = np.concatenate([prepared.opened.source.gather(part) for part in parts])
    distance = own_distances(edges, person)
    known = distance[np.isfinite(distance)]
    if not len(known) or person.max() == 0:
        return None
    volumes, seconds = _lengths(sets, scans)
    size = np.array([np.abs(row[row != 0]).mean() if row.any() else 0.0 for row in edges])
    missing = without_data(edges).any(0)
    return Cohort(
        scans=len(scans),
        people=len(np.unique(sets.subject[scans])),
        mean=_mean(edges).astype(STORED).tobytes(),
        distances=tuple(float(q) for q in np.quantile(known, np.linspace(0, 1, PERCENTS)).round(6)),
        size=(float(size.min()), float(size.max())),
        volumes=_range(volumes[volumes > 0]),
        seconds=_range(seconds[np.isfinite(seconds)]),
        missing=tuple(sorted(sets.atlas.indices[r] for r in np.flatnonzero(missing))),
        studies=tuple(sorted({manifest.cohort for manifest in sets.manifests})),
    )


def own_distances(edges: np.ndarray, person: np.ndarray) -> np.ndarray:
    """(n,) of each scan from the mean edges of all other people's; an edge of exactly 0 is one of a
    region without data, and takes no part.

    Args: edges: (n, E).   person: (n,) numbers from 0.
    """
    total, count = _sums(edges)
    order = np.argsort(person, kind="stable")
    people = np.split(order, np.flatnonzero(np.diff(person[order])) + 1)
    step = max(1, NUMBERS_AT_ONCE // edges.shape[1])
    found = np.full(len(edges), np.nan)
    for own in people:
        s, c = _sums(edges[own])
        mean = (total - s) / np.maximum(count - c, 1)
        for start in range(0, len(own), step):
            part = own[start : start + step]
            found[part] = distance_from(edges[part].astype(np.float64), mean)
    return found


def _sums(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return edges.sum(0, dtype=np.float64), np.count_nonzero(edges, axis=0)


def _mean(edges: np.ndarray) -> np.ndarray:
    total, count = _sums(edges)
    return total / np.maximum(count, 1)


def _range(values: np.ndarray) -> Range | None:
    return (float(values.min()), float(values.max())) if len(values) else None


def _lengths(sets: ShardSets, scans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) volumes, 0 of a ready matrix, and (n,) repetition times, NaN unknown."""
    volumes, seconds = zip(*(_of_set(folder) for folder in sets.folders), strict=True)
    return np.concatenate(volumes)[scans], np.concatenate(seconds)[scans]


@lru_cache(maxsize=16)
def _of_set(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Every fold asks the same."""
    manifest = read_manifest(folder)
    index = read_index(folder, manifest)
    try:
        table = read_table(folder, manifest, index)
    except InputError:  # no reason to stop a run that is about to save
        table = None
    return index.volumes, table.numbers["tr"] if table else np.full(manifest.scans, np.nan)
