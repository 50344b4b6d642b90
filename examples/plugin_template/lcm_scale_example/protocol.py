"""A protocol: the people in two halves, each tested once by a model of the other half."""

from __future__ import annotations

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.folds import subject_folds
from lcm_scale.evaluation.protocols.plan import Plan
from lcm_scale.evaluation.questions import evaluated_set, questions_of


def plan(recipe: Recipe, sets: ShardSets) -> Plan:
    """Who trains, who chooses the epoch, who is tested, and how that is to be read."""
    scans = sets.scans_of([evaluated_set(recipe, sets)])
    seed = recipe.evaluate.seed
    folds = subject_folds(
        sets.together[scans], sets.subject_ranks, 2, seed, None, recipe.data.validation
    )
    return Plan(
        scans=scans,
        questions=tuple(questions_of(recipe, sets)),
        folds=tuple(folds),
        sentence=f"Two halves by person (seed {seed}), each tested by a model of the other half.",
        read_as="each predicted once, by a model of the other half of the people",
        optimistic="",  # say here why the numbers are too good, where they are
    )
