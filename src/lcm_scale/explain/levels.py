"""A map of edges as one of regions and one of pairs of networks, and the order in which matrices
are drawn.

A region's value is the mean of its edges, a pair's the mean of the edges between the two (or within
the one): both keep the sign and are linear in the map, so a permuted map is summed up alike.
Shapes: R regions, E edges, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from lcm_scale.atlas import Atlas

EDGES, REGIONS, PAIRS = "edges", "regions", "network pairs"
UNNAMED = "none"  # regions that belong to no network


@dataclass(frozen=True)
class Levels:
    """How edges are summed up.

    Attributes:
        atlas: in whose order the edges stand.   pairs: of networks, (a, b) with a <= b in order of
            their first regions; empty where the atlas knows no networks.
        to_regions: (R, E), rows sum to 1.   to_pairs: (P, E), likewise.
    """

    atlas: Atlas
    pairs: tuple[tuple[str, str], ...]
    to_regions: csr_matrix
    to_pairs: csr_matrix

    @classmethod
    def of(cls, atlas: Atlas) -> Levels:
        """Of an atlas, which may be without networks."""
        rows, columns = np.triu_indices(atlas.n_regions, 1)
        both, edge = np.r_[rows, columns], np.tile(np.arange(len(rows)), 2)
        regions = _means(both, edge, atlas.n_regions, len(rows))
        names = networks(atlas)
        if not names:
            return cls(atlas, (), regions, csr_matrix((0, len(rows))))
        own = np.array([names.index(n or UNNAMED) for n in atlas.networks])
        low, high = np.minimum(own[rows], own[columns]), np.maximum(own[rows], own[columns])
        kinds, pair = np.unique(np.stack([low, high]), axis=1, return_inverse=True)
        pairs = tuple((names[a], names[b]) for a, b in kinds.T)
        # NumPy 2.0 gave the inverse another shape.
        means = _means(pair.ravel(), np.arange(len(rows)), len(pairs), len(rows))
        return cls(atlas, pairs, regions, means)

    def of_map(self, edges: np.ndarray) -> dict[str, np.ndarray]:
        """A map (..., E) on every level, (..., R) and (..., P); pairs only where there are some."""
        flat = edges.reshape(-1, edges.shape[-1])
        found = {EDGES: edges}
        for name, means in ((REGIONS, self.to_regions), (PAIRS, self.to_pairs)):
            if means.shape[0]:
                found[name] = (means @ flat.T).T.reshape(*edges.shape[:-1], means.shape[0])
        return found

    def of_shares(self, edges: np.ndarray) -> dict[str, np.ndarray]:
        """Shares (E,) of a whole as those of regions, half of each edge's, and of pairs."""
        found = self.of_map(edges)
        found[REGIONS] = found[REGIONS] * np.diff(self.to_regions.indptr) / 2
        if PAIRS in found:
            found[PAIRS] = found[PAIRS] * np.diff(self.to_pairs.indptr)
        return found


def networks(atlas: Atlas) -> list[str]:
    """Names of the networks, or lobes, in the order of the atlas; regions of none come last."""
    named = list(dict.fromkeys(name for name in atlas.networks if name))
    return [*named, UNNAMED] if named and "" in atlas.networks else named


def network_order(atlas: Atlas) -> np.ndarray:
    """(R,) positions of regions, network by network, within one as in the atlas; as they are where
    there are no networks."""
    names = networks(atlas)
    if not names:
        return np.arange(atlas.n_regions)
    own = np.array([names.index(name or UNNAMED) for name in atlas.networks])
    return np.argsort(own, kind="stable")


def _means(row: np.ndarray, column: np.ndarray, n_rows: int, n_columns: int) -> csr_matrix:
    counts = np.bincount(row, minlength=n_rows)
    return csr_matrix((1 / counts[row], (row, column)), shape=(n_rows, n_columns))
