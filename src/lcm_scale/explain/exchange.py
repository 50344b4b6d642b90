"""Labels exchanged between people, so that a model can be fitted that knows nothing.

All scans of a person move together, or labels move among the scans of each person where these carry
different ones; within a set, and within a site where asked. What covariates (motion, age, sex) say
of a label stays where it is: the rest alone is exchanged (Freedman and Lane 1983; Winkler et al.
2014, doi 10.1016/j.neuroimage.2014.01.060), so that a permuted model still knows them, and what
differs from it differs beyond them.
Shapes: P permutations, N scans of the sets, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError
from lcm_scale.evaluation.confounds import Covariate, covariates
from lcm_scale.evaluation.permutation import exchanged

SITE, SET = "site", "set"  # within which labels are exchanged
ADJUSTED = ("motion", "length", "age", "sex")  # what may be held fixed


def check_names(within: str, adjust: Sequence[str]) -> None:
    """Raises: InputError where `--within` or `--adjust` names what there is not."""
    if within not in (SITE, SET):
        raise InputError(f"--within {within}: expected {SITE} or {SET}")
    for name in adjust:
        if name not in ADJUSTED:
            raise InputError(f"--adjust {name}: expected some of {', '.join(ADJUSTED)}, or none")


@dataclass(frozen=True)
class Exchange:
    """A target's labels, and whose label everybody gets.

    Attributes:
        truth: (N,) codes or values, NaN missing.
        sources: (P, N) the scan whose label each gets, its own where it has none.
        design: (N, D) covariates about their strata's means, whose part of a label stays (a
            stratum's mean stays anyhow); None: there are none.
        within: `SITE` or `SET`.   beyond: names of the covariates.
    """

    truth: np.ndarray
    sources: np.ndarray
    design: np.ndarray | None
    within: str
    beyond: tuple[str, ...]

    def wanted(self, classes: Sequence[int], log: bool) -> np.ndarray:
        """(N, 1 + P, T) as a ridge is asked for them, the real labels first; 0 where missing.

        Args: classes: codes of the T tokens, -1 / +1 each; none: a scalar, its logarithm with
            `log`.
        """
        known = np.isfinite(self.truth)
        real = np.where(known, self.truth, 1.0)[:, None]
        if classes:
            real = np.where(real == np.array(classes), 1.0, -1.0)
        elif log:
            real = np.log(real)
        real[~known] = 0
        stays = np.zeros_like(real)
        if self.design is not None:
            own = self.design[known]
            stays[known] = own @ np.linalg.lstsq(own, real[known], rcond=None)[0]
        rest = (real - stays)[self.sources]  # (P, N, T)
        return np.concatenate([real[:, None], stays[:, None] + rest.swapaxes(0, 1)], axis=1)


def exchange(
    target: str,
    truth: np.ndarray,
    sets: ShardSets,
    permutations: int,
    seed: int,
    within: str,
    adjust: Sequence[str],
) -> Exchange:
    """Draw it.

    A label that is the same in each whole site, as the site itself is, is exchanged within sets. A
    covariate that is the target, or of which nothing is known, is left out.

    Args: truth: (N,) of all scans.   within: `SITE` or `SET`.   adjust: of `ADJUSTED`.
    """
    known = np.flatnonzero(np.isfinite(truth))
    for asked in dict.fromkeys((within, SET)):
        within = asked
        unit, stratum, first = _units(truth[known], sets, known, within)
        labels = truth[known][first]
        if any(len(np.unique(labels[stratum == each])) > 1 for each in np.unique(stratum)):
            break
    sources = np.tile(np.arange(len(truth)), (permutations, 1))
    for number, drawn in enumerate(exchanged(np.arange(len(first)), stratum, permutations, seed)):
        sources[number, known] = known[first[drawn[unit]]]
    columns, beyond = [], []
    for each in covariates(sets, [name for name in adjust if name != target]):
        own = each.values[known]
        if len(np.unique(own[np.isfinite(own)])) > 1:
            columns.append(_column(each, known, stratum[unit]))
            beyond.append(each.name)
    design = np.concatenate(columns, axis=1) if columns else None
    return Exchange(truth, sources, design, within, tuple(beyond))


def _column(covariate: Covariate, known: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """(N, columns) of a covariate about its strata's means: a category each, or a number; 0 of
    scans where it is not known.

    Args: known: the n scans with a label.   stratum: (n,) of them.
    """
    there = np.isfinite(covariate.values[known])
    own, stratum = covariate.values[known][there], stratum[there]
    columns = (own[:, None] == np.unique(own)[1:]) if covariate.is_class else own[:, None]
    found = np.zeros((len(covariate.values), columns.shape[1]))
    counts = np.bincount(stratum)
    for number, column in enumerate(columns.T.astype(float)):
        means = np.bincount(stratum, column) / np.maximum(counts, 1)
        found[known[there], number] = column - means[stratum]
    return found


def _units(
    truth: np.ndarray, sets: ShardSets, scans: np.ndarray, within: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each scan (n,) the unit that carries its label; of each unit (U,) its stratum and its
    first scan."""
    own_set = sets.set_number[scans]
    # A person of several sets is several units: labels of two sets are not exchanged.
    person = np.unique(sets.subject[scans] * len(sets.names) + own_set, return_inverse=True)[1]
    first = np.unique(person, return_index=True)[1]
    if (truth != truth[first][person]).any():
        every = np.arange(len(truth))
        return every, person, every
    stratum = own_set[first]
    if within == SITE:
        stratum = stratum * (len(sets.sites) + 1) + sets.site[scans][first] + 1
    return person, np.unique(stratum, return_inverse=True)[1], first
