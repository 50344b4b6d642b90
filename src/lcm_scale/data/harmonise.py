"""Sites' effects taken out of matrices: centring and ComBat, fitted on training scans alone.

In: edges as stored, each scan's site, and covariates whose effect is to stay. Out: a `Harmoniser`,
plain arrays that bring any scan of a site it knows to the training scans' common level. Bounded
matrices are moved on Fisher's scale, so that they stay within -1..1. A site is known where two
people or more of it are in training; scans of all others are left exactly as they are. A region
without data (a row of zeros) enters nothing and stays a row of zeros.

ComBat is that of Johnson et al. 2007 for imaging (Fortin et al. 2017): a location and a scale for
each site and edge, shrunk by an empirical prior over the edges of the site. docs/log.md says why it
is not a package's; tests hold it equal to neuroCombat's.

Legend: n scans, S sites, C covariates, E edges R(R-1)/2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcm_scale.data.kinds import MAX_FISHER
from lcm_scale.data.manifest import read_index
from lcm_scale.data.sets import ShardSets
from lcm_scale.vocabulary import AGE, SEX

COVARIATES = (AGE, SEX)
LEAST_PEOPLE = 2  # of a site: the spread about one person's mean is nothing
SETTLED = 1e-6  # relative change of the posterior's last step
MOST_STEPS = 1000
SMALLEST = 1e-12  # a variance below it is rounding


@dataclass(frozen=True)
class Harmoniser:
    """What was fitted. A scan x of site s with covariates c becomes
    scale[s] x + offset[s] + (1 - scale[s]) (c - centre) @ slopes.

    Attributes:
        sites: int (S,) the numbers that it knows, ascending.
        scale, offset: float32 (S, E).   slopes: float32 (C, E).   centre: (C,) training means,
            which stand for what is missing.
        fisher: whether x is the Fisher z of an edge.
    """

    sites: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    slopes: np.ndarray
    centre: np.ndarray
    fisher: bool

    def apply(self, edges: np.ndarray, site: np.ndarray, covariates: np.ndarray) -> np.ndarray:
        """Bring scans to the common level.

        Args: edges: (n, E) as stored.   site: (n,), -1 unknown.   covariates: (n, C), NaN missing.
        Returns: float32 (n, E).
        """
        out = edges.astype(np.float32)
        lost = _without_data(edges)
        filled = _filled(covariates, self.centre).astype(np.float32)
        for number, known in enumerate(self.sites):
            rows = np.flatnonzero(site == known)
            if not len(rows):
                continue
            raw, scale = out[rows], self.scale[number]
            moved = scale * _on_scale(raw, self.fisher) + self.offset[number]
            moved += (1 - scale) * (filled[rows] @ self.slopes)
            out[rows] = np.where(lost[rows], 0, np.tanh(moved) if self.fisher else moved)
        return out


def known_sites(site: np.ndarray, subject: np.ndarray) -> np.ndarray:
    """The sites (S,), ascending, of which there are enough people to say what they do.

    Args: site: (n,) of training scans, -1 unknown.   subject: (n,).
    """
    people = np.unique(np.stack([site, subject]), axis=1)[0]
    numbers, counts = np.unique(people[people >= 0], return_counts=True)
    return numbers[counts >= LEAST_PEOPLE]


def fit_harmoniser(
    method: str,
    edges: np.ndarray,
    site: np.ndarray,
    subject: np.ndarray,
    covariates: np.ndarray,
    fisher: bool,
) -> Harmoniser:
    """Fit on training scans; those of sites that cannot be known are left out.

    Args:
        method: ``site-centre`` (each site's mean becomes the mean of all; covariates take no part)
            or ``combat``.
        edges: (n, E) as stored.   site: (n,), -1 unknown.   subject: (n,).
        covariates: (n, C) effects to keep, NaN missing.
        fisher: whether the edges lie in -1..1.
    Returns: the harmoniser; where no site is known, one that leaves all as they are. It takes about
        32 bytes an edge.
    """
    sites = known_sites(site, subject)
    if not len(sites):
        none = np.zeros((0, edges.shape[1]), np.float32)
        return Harmoniser(sites, none, none, none, np.zeros(0), fisher)
    rows = np.flatnonzero(np.isin(site, sites))
    place = np.searchsorted(sites, site[rows])
    z = _on_scale(edges[rows].astype(np.float64), fisher)
    _fill_gaps(z, _without_data(edges[rows]), place, len(sites))
    if method == "site-centre":
        means = np.stack([z[place == s].mean(0) for s in range(len(sites))])
        scale, offset, slopes = np.ones_like(means), z.mean(0) - means, np.zeros((0, z.shape[1]))
        centre = np.zeros(0)
    else:
        centre = np.nan_to_num(_mean(covariates[rows]))
        scale, offset, slopes = _combat(z, place, len(sites), _filled(covariates[rows], centre))
    arrays = [array.astype(np.float32) for array in (scale, offset, slopes)]
    return Harmoniser(sites, arrays[0], arrays[1], arrays[2], centre, fisher)


@dataclass(frozen=True)
class SiteEffects:
    """How features are harmonised that are not edges as stored, for a model that tunes itself.

    Attributes:
        method: as `fit_harmoniser`.
        site, subject: (n,), covariates: (n, C): of scans in the features' order.
    """

    method: str
    site: np.ndarray
    subject: np.ndarray
    covariates: np.ndarray

    def of(self, rows: np.ndarray) -> SiteEffects:
        """For some of the scans, in this order."""
        return SiteEffects(self.method, self.site[rows], self.subject[rows], self.covariates[rows])

    def removed(self, features: np.ndarray, n_fitted: int) -> np.ndarray:
        """Features (n, F) without the sites' effects, float64, fitted on the first `n_fitted`."""
        some = self.of(np.arange(n_fitted))
        fitted = fit_harmoniser(
            self.method,
            features[:n_fitted],
            some.site,
            some.subject,
            some.covariates,
            fisher=False,
        )
        return fitted.apply(features, self.site, self.covariates).astype(np.float64)


def covariates_of(sets: ShardSets, names: tuple[str, ...]) -> np.ndarray:
    """(N, len(names)) age in years and sex as 0 or 1, as the sets hold them, NaN missing: also
    where the run's targets leave them out.

    Args: names: some of `COVARIATES`.
    """
    parts = []
    for folder, manifest in zip(sets.folders, sets.manifests, strict=True):
        bei, own = read_index(folder, manifest).bei, manifest.vocabulary.names
        part = np.full((manifest.scans, len(names)), np.nan)
        for column, name in enumerate(names):
            if name in own:
                part[:, column] = bei[:, own.index(name)]
        parts.append(part)
    return np.concatenate(parts)


# -- ComBat ----------------------------------------------------------------------------------------


def _combat(
    z: np.ndarray, place: np.ndarray, n_sites: int, covariates: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale (S, E), offset (S, E) and slopes (C, E).

    Args: z: (n, E).   place: (n,) site from 0.   covariates: (n, C), about their means.
    """
    design = np.hstack([np.eye(n_sites)[place], covariates])
    # The shortest solution, so that a covariate that is the site, or constant, has no slope.
    weights = np.linalg.lstsq(design, z, rcond=None)[0]
    mean = np.bincount(place) @ weights[:n_sites] / len(z)
    slopes = weights[n_sites:]
    variance = ((z - design @ weights) ** 2).mean(0)
    spread = np.sqrt(np.where(variance < SMALLEST, 1.0, variance))
    standard = (z - mean - covariates @ slopes) / spread
    scale, offset = np.empty((2, n_sites, z.shape[1]))
    for number in range(n_sites):
        shift, variance = _posterior(standard[place == number])
        scale[number] = 1 / np.sqrt(variance)
        offset[number] = mean * (1 - scale[number]) - scale[number] * spread * shift
    return scale, offset, slopes


def _posterior(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A site's shift and variance at each edge (E,), shrunk towards what its edges have in common:
    the shift's prior is normal, the variance's inverse gamma, both fitted by their moments.

    Args: own: (n, E) standardised scans of the site, at least two.
    """
    n, shifts, variances = len(own), own.mean(0), own.var(0, ddof=1)
    variances = np.where(variances < SMALLEST, 1.0, variances)
    free = min(1, len(shifts) - 1)  # an atlas of two regions has one edge
    common, between = shifts.mean(), shifts.var(ddof=free)
    level, spread = variances.mean(), max(float(variances.var(ddof=free)), SMALLEST)
    shape, rate = 2 + level**2 / spread, level + level**3 / spread
    shift, variance = shifts, variances
    for _ in range(MOST_STEPS):
        before = shift, variance
        shift = (between * n * shifts + variance * common) / (between * n + variance)
        squares = (n - 1) * variances + n * (shifts - shift) ** 2
        variance = (squares / 2 + rate) / (n / 2 + shape - 1)
        if np.allclose((shift, variance), before, rtol=SETTLED, atol=SMALLEST):
            break
    return shift, variance


# -- edges -----------------------------------------------------------------------------------------


def _on_scale(edges: np.ndarray, fisher: bool) -> np.ndarray:
    return np.arctanh(np.clip(edges, -MAX_FISHER, MAX_FISHER)) if fisher else edges


def _filled(covariates: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(n, C) about their training means, 0 where missing."""
    used = covariates[:, : len(centre)]
    return np.where(np.isfinite(used), used - centre, 0.0)


def _without_data(edges: np.ndarray) -> np.ndarray:
    """(n, E) whether an edge is of a region whose row is all zeros."""
    n_regions = int((1 + np.sqrt(1 + 8 * edges.shape[1])) / 2)
    rows, columns = np.triu_indices(n_regions, 1)
    lost = np.zeros(edges.shape, bool)
    for scan in np.flatnonzero((edges == 0).sum(1) >= n_regions - 1):
        there = np.flatnonzero(edges[scan])
        empty = np.ones(n_regions, bool)
        empty[rows[there]] = empty[columns[there]] = False
        lost[scan] = empty[rows] | empty[columns]
    return lost


def _fill_gaps(z: np.ndarray, lost: np.ndarray, place: np.ndarray, n_sites: int) -> None:
    """Put the site's mean, or that of all where the whole site lacks an edge, where a region has no
    data: it then moves neither."""
    if not lost.any():
        return
    z[lost] = np.nan
    everybody = np.nan_to_num(_mean(z))
    for number in range(n_sites):
        rows = np.flatnonzero(place == number)
        own = _mean(z[rows])
        level = np.where(np.isnan(own), everybody, own)
        z[rows] = np.where(np.isnan(z[rows]), level, z[rows])


def _mean(z: np.ndarray) -> np.ndarray:
    """The columns' means of what is there, NaN where nothing is."""
    there = ~np.isnan(z)
    counts = there.sum(0)
    total = np.where(there, z, 0).sum(0)
    return np.divide(total, counts, out=np.full(len(total), np.nan), where=counts > 0)
