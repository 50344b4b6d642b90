"""What `inspect --html` says of a shard set, as plain values.

In: a folder. Its matrices go by a block at a time, so that a set of any size fits. Out: means of
edges by group and by site, a mean and a distance a scan, and what the index says of everybody.
Shapes: N scans, E edges, G groups of scans.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lcm_scale import progress
from lcm_scale.config import DataConfig
from lcm_scale.data.manifest import ScanIndex, ShardManifest, read_index
from lcm_scale.data.quality import distances, robust_z
from lcm_scale.data.quality_table import QualityTable, read_table
from lcm_scale.data.sets import ShardSets, open_sets
from lcm_scale.data.stream import read_block
from lcm_scale.vocabulary import NOT_APPLICABLE, Target

MOST_SITES = 12  # whose mean matrices are drawn, the largest
MOST_GROUPS = 6


@dataclass(frozen=True)
class MeanMatrix:
    """The mean of some scans: `edges` float64 (E,), 0 where nobody has data."""

    name: str
    scans: int
    edges: np.ndarray


@dataclass(frozen=True)
class SetFacts:
    """A set, looked at.

    Attributes:
        quality: its table, None in sets of older versions.
        group: the target whose groups are drawn, None where there is none.
        everybody, by_group, by_site: mean matrices; sites are the largest.
        mean_fc: (N,) mean of a scan's edges.   distance, distance_z: (N,) from the cohort's mean.
    """

    sets: ShardSets
    manifest: ShardManifest
    index: ScanIndex
    quality: QualityTable | None
    group: Target | None
    everybody: MeanMatrix
    by_group: tuple[MeanMatrix, ...]
    by_site: tuple[MeanMatrix, ...]
    mean_fc: np.ndarray
    distance: np.ndarray
    distance_z: np.ndarray


def look_at(folder: Path) -> SetFacts:
    """Raises: InputError where the folder holds no set, or a damaged one."""
    sets = open_sets(DataConfig(sets=[str(folder)]))
    manifest = sets.manifests[0]
    index = read_index(folder, manifest)
    quality = read_table(folder, manifest, index)
    group = next((t for t in sets.vocabulary.targets if t.kind == "group"), None)
    members = {"": np.ones(sets.n_scans, bool)}
    groups = _groups(sets, group)
    sites = _largest_sites(sets)
    for kind, named in (("group", groups), ("site", sites)):
        members |= {f"{kind} {name}": rows for name, rows in named.items()}
    passes = 3 if quality is None else 1
    with progress.stage(f"look at {manifest.name}", passes * sets.n_scans) as advance:

        def blocks() -> Iterator[np.ndarray]:
            for number in range(len(sets.blocks)):
                yield read_block(sets, number)
                advance(sets.blocks[number].record.scans)

        edges, mean_fc = _means(blocks(), np.stack(list(members.values())))
        if quality is None:
            counted = np.ones(sets.n_scans, bool)
            distance = distances(blocks, counted)
            z = robust_z(distance, counted)
        else:
            distance, z = quality.numbers["distance"], quality.numbers["distance_z"]
    means = {
        key: MeanMatrix(key.partition(" ")[2], int(rows.sum()), edges[place])
        for place, (key, rows) in enumerate(members.items())
    }
    return SetFacts(
        sets,
        manifest,
        index,
        quality,
        group,
        means[""],
        tuple(means[f"group {name}"] for name in groups),
        tuple(means[f"site {name}"] for name in sites),
        mean_fc,
        distance,
        z,
    )


def _groups(sets: ShardSets, target: Target | None) -> dict[str, np.ndarray]:
    """The commonest categories, in the vocabulary's order -> who is of each."""
    if target is None:
        return {}
    codes = sets.labels[:, sets.vocabulary.names.index(target.name)]
    named = {
        category: codes == code
        for code, category in enumerate(target.categories)
        if category != NOT_APPLICABLE and (codes == code).any()
    }
    largest = sorted(named, key=lambda name: -int(named[name].sum()))[:MOST_GROUPS]
    return {name: rows for name, rows in named.items() if name in largest}


def _largest_sites(sets: ShardSets) -> dict[str, np.ndarray]:
    named = {name: sets.site == number for number, name in enumerate(sets.sites)}
    largest = sorted(named, key=lambda name: -int(named[name].sum()))[:MOST_SITES]
    return {name: named[name] for name in largest if len(named) > 1}


def _means(blocks: Iterator[np.ndarray], members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(G, E) the mean of each group's edges, and (N,) of each scan's; edges of 0 have no data.

    Args: members: bool (G, N).
    """
    sums = counts = np.zeros(1)
    scan_means = []
    start = 0
    for block in blocks:
        x = block.astype(np.float64)
        there = x != 0
        own = members[:, start : start + len(x)].astype(np.float64)
        sums, counts = sums + own @ x, counts + own @ there
        scan_means.append(x.sum(1) / np.maximum(there.sum(1), 1))
        start += len(x)
    return sums / np.maximum(counts, 1), np.concatenate(scan_means)
