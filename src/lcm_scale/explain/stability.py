"""How well maps agree: of models of different folds or seeds, and of two halves of the people.

Agreement is the Pearson correlation of two maps over the edges. Models of two folds share most of
their people, so even maps of noise agree: what they reach with exchanged labels stands beside.
Halves share nobody's label and nobody's scan but the tangent space's reference (and the unlabelled
bank of K2), so that they say what another sample of that size would.
Shapes: M models, P permutations, T tokens, E edges, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from lcm_scale.explain.memory import Refitted, maps

DRAWS = 2000  # of the models, for the interval
SPLITS = 20  # into halves, over all models


@dataclass(frozen=True)
class Agreement:
    """How well maps agree.

    Attributes:
        of: whose maps, in words.   mean: correlation over the pairs.
        low, high: 95 % of the draws of the models, or of the halves, lie between them.
        pairs: how many.
        noise: mean with exchanged labels.   noise_high: 95 % of those are below it.
        p: the share of them, the real one counted, that agree as well; NaN untested.
    """

    of: str
    mean: float
    low: float
    high: float
    pairs: int
    noise: float = np.nan
    noise_high: float = np.nan
    p: float = np.nan


def between_models(maps: np.ndarray, fold: Sequence[int], seed: int) -> Agreement | None:
    """Of models of different folds, or of different seeds where there is one fold; None of one.

    Args: maps: (M, 1 + P, E), the real labels' first.   fold: of each.   seed: of the draws.
    """
    pairs = [(a, b) for a, b in combinations(range(len(fold)), 2) if fold[a] != fold[b]]
    of = "folds"
    if not pairs:
        pairs, of = list(combinations(range(len(fold)), 2)), "seeds"
    if not pairs:
        return None
    unit = _unit(maps)
    each = np.einsum("kpe,kpe->kp", unit[[a for a, _ in pairs]], unit[[b for _, b in pairs]])
    square = np.full((len(fold), len(fold)), np.nan)
    for (a, b), r in zip(pairs, each[:, 0], strict=True):
        square[a, b] = square[b, a] = r
    groups = [np.flatnonzero(np.array(fold) == f) for f in np.unique(fold)]
    groups = groups if of == "folds" else [np.array([m]) for m in range(len(fold))]
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        chosen = np.concatenate([groups[g] for g in rng.integers(len(groups), size=len(groups))])
        if np.isfinite(own := square[np.ix_(chosen, chosen)]).any():
            drawn.append(np.nanmean(own))
    return _against(of, each.mean(0), np.array(drawn), len(pairs))


def between_halves(found: np.ndarray) -> Agreement:
    """Of halves of the people.  Args: found: (D, 1 + P) correlations."""
    return _against("halves", found.mean(0), found[:, 0], len(found))


def split_halves(
    again: Refitted, target: str, wanted: np.ndarray, splits: int, seed: int
) -> np.ndarray:
    """(splits, 1 + P, T) correlations of the maps of two halves of a model's people.

    Args: wanted: (N, 1 + P, T) as for `memory.maps`.
    """
    labelled = again.questions[target].labelled
    subject = again.subject[labelled]
    codes = again.questions[target].codes
    found = []
    for number in range(splits):
        splitter = (GroupKFold if codes is None else StratifiedGroupKFold)(
            2, shuffle=True, random_state=seed + number
        )
        both = []
        for half in next(iter(splitter.split(subject, codes, subject))):
            own = maps(again, target, wanted, labelled[half])
            both.append(_unit(own.covariance))
        found.append((both[0] * both[1]).sum(-1))
    return np.array(found)


def _against(of: str, means: np.ndarray, drawn: np.ndarray, pairs: int) -> Agreement:
    """Args: means: (1 + P,) the real labels' first.   drawn: (D,) of the real labels'."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    values = (of, float(means[0]), float(low), float(high), pairs)
    if len(means) == 1:
        return Agreement(*values)
    noise = means[1:]
    p = float((means >= means[0]).mean())
    return Agreement(*values, float(noise.mean()), float(np.percentile(noise, 95)), p)


def _unit(maps: np.ndarray) -> np.ndarray:
    """Maps (..., E) such that products are correlations."""
    centred = maps - maps.mean(-1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-30))
