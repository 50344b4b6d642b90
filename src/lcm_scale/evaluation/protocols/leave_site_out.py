"""Each site of the evaluated set is held out in turn: what a model is worth at a site, and on a
scanner, that it has never seen.

Sites of few people are held out together. Nobody is trained on who was scanned at the held-out
site, in any set, and no scan of the evaluated set that does not say where it is from.
"""

from __future__ import annotations

import numpy as np

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError
from lcm_scale.evaluation.folds import Fold
from lcm_scale.evaluation.protocols.left_out import asked_of, fold_of, require_two
from lcm_scale.evaluation.protocols.plan import Plan, several
from lcm_scale.evaluation.questions import evaluated_set, questions_of

LEAST_PEOPLE = 10  # of a site that is a fold of its own


def plan(recipe: Recipe, sets: ShardSets) -> Plan:
    """A fold a site of at least `LEAST_PEOPLE`, the smaller ones in one fold.

    Raises: InputError where the set does not name two sites that can be held out, or a target that
        the recipe names cannot be learnt without one of them.
    """
    name = evaluated_set(recipe, sets)
    own = np.isin(np.arange(sets.n_scans), sets.scans_of([name]))
    together, small = _sites_of_folds(sets, np.flatnonzero(own))
    folds = [_fold(recipe, sets, own, sites) for sites in together]
    require_two(folds, recipe, f"sites of set {name} can be held out ({LEAST_PEOPLE} people)")
    questions, notes = asked_of(recipe, sets, folds, questions_of(recipe, sets), "site")
    notes += _notes(sets, own, small, together)
    words = "; ".join(
        f"{number}: {' and '.join(sets.sites[s] for s in sites)} "
        f"({len(np.unique(sets.subject[fold.test]))} people)"
        for number, (sites, fold) in enumerate(zip(together, folds, strict=True), 1)
    )
    sentence = (
        f"Leave-site-out: each site of {name} is held out once and read by models that saw nobody "
        f"of it; {recipe.data.validation:.0%} of the training people choose the epoch."
        f"{several(recipe)} Baselines are tuned by inner cross-validation on the same training "
        f"people. Folds: {words}."
    )
    return Plan(np.arange(sets.n_scans), tuple(questions), tuple(folds), sentence, tuple(notes))


def _sites_of_folds(sets: ShardSets, own: np.ndarray) -> tuple[list[list[int]], list[int]]:
    """The sites of each fold, and those that are in none, because even together they are too few.

    Args: own: numbers of the evaluated set's scans.
    Raises: InputError where the set names no site.
    """
    numbers = np.unique(sets.site[own][sets.site[own] >= 0])
    if not len(numbers):
        raise InputError(
            "evaluate.protocol=leave-site-out: the evaluated set does not say at which sites its "
            "scans were made"
        )
    people = {int(n): len(np.unique(sets.subject[own[sets.site[own] == n]])) for n in numbers}
    few = [number for number, count in people.items() if count < LEAST_PEOPLE]
    folds = [[number] for number in people if number not in few]
    if sum(people[number] for number in few) >= LEAST_PEOPLE:
        return [*folds, few], []
    return folds, few


def _fold(recipe: Recipe, sets: ShardSets, own: np.ndarray, sites: list[int]) -> Fold:
    here = np.isin(sets.site, sites)
    test = np.flatnonzero(own & here)
    return fold_of(recipe, sets, test, here | (own & (sets.site < 0)), own)


def _notes(
    sets: ShardSets, own: np.ndarray, small: list[int], together: list[list[int]]
) -> list[str]:
    notes = []
    if small:
        notes.append(
            f"Never held out, since they have fewer than {LEAST_PEOPLE} people even together: "
            f"{', '.join(sets.sites[number] for number in small)}. They are trained on."
        )
    pooled = [sites for sites in together if len(sites) > 1]
    if pooled:
        names = ", ".join(sets.sites[number] for number in pooled[0])
        notes.append(
            f"Held out together, since each has fewer than {LEAST_PEOPLE} people: {names}."
        )
    unknown = int((own & (sets.site < 0)).sum())
    if unknown:
        notes.append(
            f"{unknown} scans do not say at which site they were made; they are neither tested nor "
            "trained on."
        )
    return notes
