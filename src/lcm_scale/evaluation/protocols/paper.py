"""The published protocol, whose numbers are too good: the epoch is chosen on the fold that is
reported.

Ten folds by person (shuffled, seed 142857, not stratified, people in the order of their ids), of
which the first five are trained and reported; windows are the units; of every target the epoch is
taken that does best on the reported fold (docs/model.md, Data sets and protocols). Baselines stand
on the same folds and windows, fitted and tuned on training people alone: they have no such choice.
"""

from __future__ import annotations

from dataclasses import replace

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError
from lcm_scale.evaluation.folds import subject_folds
from lcm_scale.evaluation.protocols.answers import require_two_classes
from lcm_scale.evaluation.protocols.plan import BRACKETS, Plan
from lcm_scale.evaluation.questions import evaluated_set, questions_of

FOLDS, REPORTED = 10, 5
OPTIMISTIC = (
    "Optimistic: of each target the epoch was chosen on the very people that are reported, a "
    "choice that the baselines did not have. The numbers are too good and no lead can be read from "
    "them; evaluate.protocol=nested gives honest ones."
)


def plan(recipe: Recipe, sets: ShardSets) -> Plan:
    """The first five of ten folds, whose held-out people choose the epoch too.

    Raises: InputError where there are fewer than ten people, the tested ones have one class of the
        headline, or the recipe asks for what was not published so.
    """
    _check(recipe)
    name = evaluated_set(recipe, sets)
    scans = sets.scans_of([name])
    questions = tuple(questions_of(recipe, sets))
    subject, seed = sets.together[scans], recipe.evaluate.seed
    folds = tuple(
        replace(fold, validation=fold.test)
        for fold in subject_folds(subject, sets.subject_ranks, FOLDS, seed, None, 0.0)[:REPORTED]
    )
    made = Plan(
        scans,
        questions,
        folds,
        sentence=(
            f"The published protocol: {FOLDS} folds by person (seed {seed}), the first {REPORTED} "
            "of them trained and reported, windows as units, and of each target the epoch that did "
            "best on the reported fold: optimistic. Baselines are fitted and tuned on the training "
            "people of the same folds."
        ),
        brackets=f"{BRACKETS} Nor do they cover that the epoch was chosen on these people.",
        read_as="each predicted once, by the epoch that did best on its fold",
        optimistic=OPTIMISTIC,
    )
    require_two_classes(questions[0], sets, made.tested)
    return made


def _check(recipe: Recipe) -> None:
    """Raises: InputError for keys that would make another protocol of it."""
    wrong = {
        "evaluate.stratify": bool(recipe.evaluate.stratify) and "the published folds are not",
        "evaluate.unit": recipe.evaluate.unit != "window" and "the published units are windows",
        "evaluate.harmonise": recipe.evaluate.harmonise != "none" and "nothing was harmonised",
        # It would be fitted on those who choose the epoch, and they are the reported ones.
        "model.people_memory": recipe.model.people_memory != "none"
        and "it learns from who chooses the epoch, which here are the reported people",
    }
    for key, why in wrong.items():
        if why:
            raise InputError(f"evaluate.protocol=paper and {key} exclude each other: {why}")
