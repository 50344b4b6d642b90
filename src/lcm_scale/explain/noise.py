"""What of a map differs from the maps of models that were fitted on exchanged labels.

Labels are exchanged between people (all scans of one move together), or between the scans of each
person where these carry different ones; within a set, and within a site where asked. The memory is
refitted with the tuning that the real labels chose, so that a permuted model smooths as the real
one does. A value is measured in standard deviations of the permuted ones about their mean, the real
one counted among them; p is the share whose *largest* value anywhere on the map is at least as
large, so that p < .05 anywhere happens to 5 % of the maps of noise (Westfall and Young 1993;
Nichols and Holmes 2002).
Shapes: P permutations, N scans, V values of a map, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.permutation import TIED, exchanged

CLEAR = 0.05  # p below which a value differs from noise
SITE, SET = "site", "set"  # within which labels are exchanged


@dataclass(frozen=True)
class Tested:
    """A map on one level.

    Attributes:
        value: (V,) Haufe's pattern, a correlation's change where the score is one higher.
        z: (V,) standard deviations from the permuted ones; NaN untested.
        p: (V,) corrected over the map and the target's tokens; NaN untested.
    """

    value: np.ndarray
    z: np.ndarray
    p: np.ndarray

    @property
    def differs(self) -> np.ndarray:
        """(V,) which differ from noise; none of an untested map."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.p < CLEAR)


def permuted_labels(
    truth: np.ndarray, sets: ShardSets, permutations: int, seed: int, within: str
) -> np.ndarray:
    """(P, N) labels, NaN where they are missing, as they are in a stratum of one.

    Args: truth: (N,) of all scans.   within: `SITE` or `SET`.
    """
    known = np.flatnonzero(np.isfinite(truth))
    labels, unit, stratum = _units(truth[known], sets, known, within)
    found = np.full((permutations, len(truth)), np.nan)
    for number, drawn in enumerate(exchanged(labels, stratum, permutations, seed)):
        found[number, known] = drawn[unit]
    return found


def strata_of(truth: np.ndarray, sets: ShardSets, within: str) -> str:
    """`within`, but `SET` for a label that is the same in each whole site, as the site itself is:
    nothing could be exchanged.  Args: truth: (N,) of all scans."""
    known = np.flatnonzero(np.isfinite(truth))
    labels, _, stratum = _units(truth[known], sets, known, within)
    moves = any(len(np.unique(labels[stratum == each])) > 1 for each in np.unique(stratum))
    return within if moves else SET


def _units(
    truth: np.ndarray, sets: ShardSets, scans: np.ndarray, within: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and strata (U,) of what carries a label, and which one each scan has (n,)."""
    own_set = sets.set_number[scans]
    # A person of several sets is several units: labels of two sets are not exchanged.
    _, person = np.unique(sets.subject[scans] * len(sets.names) + own_set, return_inverse=True)
    _, first = np.unique(person, return_index=True)
    if (truth != truth[first][person]).any():
        return truth, np.arange(len(truth)), person
    stratum = own_set[first]
    if within == SITE:
        stratum = stratum * (len(sets.sites) + 1) + sets.site[scans][first] + 1
    return truth[first], person, stratum


def against_noise(covariance: np.ndarray, value: np.ndarray) -> list[Tested]:
    """One a token.

    Args:
        covariance: (1 + P, T, V) of features and score, the real labels' first.
        value: (T, V) the pattern that is shown.
    """
    if len(covariance) == 1:
        nothing = np.full(value.shape[1], np.nan)
        return [Tested(each, nothing, nothing) for each in value]
    spread = covariance.std(0)
    z = (covariance - covariance.mean(0)) / np.where(spread > 0, spread, np.inf)
    largest = np.sort(np.abs(z).max((1, 2)))
    at_least = len(largest) - np.searchsorted(largest, np.abs(z[0]) - TIED)
    p = at_least / len(largest)
    return [Tested(*each) for each in zip(value, z[0], p, strict=True)]
