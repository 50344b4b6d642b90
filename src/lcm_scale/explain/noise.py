"""What of a map differs from the maps of models that were fitted on exchanged labels.

The memory is refitted with the tuning that the real labels chose, so that a permuted model smooths
as the real one does. A value is measured in standard deviations of the permuted ones about their
mean, the real one counted among them; p is the share whose *largest* value anywhere on the map is
at least as large, so that p < .05 anywhere happens to 5 % of the maps of noise (Westfall and Young
1993; Nichols and Holmes 2002).
Shapes: P permutations, V values of a map, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcm_scale.evaluation.permutation import TIED

CLEAR = 0.05  # p below which a value differs from noise


@dataclass(frozen=True)
class Tested:
    """A map on one level.

    Attributes:
        value: (V,) Haufe's pattern, a correlation's change where the score is one higher.
        beyond: (V,) the same less its mean over the permuted models, which know site and
            covariates.
        z: (V,) `beyond` in standard deviations of the permuted ones; NaN untested.
        p: (V,) corrected over the map and the target's tokens; NaN untested.
    """

    value: np.ndarray
    beyond: np.ndarray
    z: np.ndarray
    p: np.ndarray

    @property
    def differs(self) -> np.ndarray:
        """(V,) which differ from noise; none of an untested map."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.p < CLEAR)


def against_noise(covariance: np.ndarray, variance: np.ndarray) -> list[Tested]:
    """One a token.

    Args:
        covariance: (1 + P, T, V) of features and score, the real labels' first.
        variance: (T,) of the real score.
    """
    over = np.maximum(variance, 1e-300)[:, None]
    value = covariance[0] / over
    if len(covariance) == 1:
        nothing = np.full(value.shape[1], np.nan)
        return [Tested(each, each, nothing, nothing) for each in value]
    beyond = (covariance[0] - covariance[1:].mean(0)) / over
    spread = covariance.std(0)
    z = (covariance - covariance.mean(0)) / np.where(spread > 0, spread, np.inf)
    largest = np.sort(np.abs(z).max((1, 2)))
    at_least = len(largest) - np.searchsorted(largest, np.abs(z[0]) - TIED)
    p = at_least / len(largest)
    return [Tested(*each) for each in zip(value, beyond, z[0], p, strict=True)]
