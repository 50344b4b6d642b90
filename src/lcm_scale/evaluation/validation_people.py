"""What may be fitted beside a fold's model on the people who choose its epoch: they did not train
it and are not held out, so that its answers about them are nearly those about strangers."""

from __future__ import annotations

import numpy as np

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError
from lcm_scale.evaluation.protocols.plan import Plan
from lcm_scale.evaluation.questions import Question
from lcm_scale.evaluation.units import check_unit


def require_validation(recipe: Recipe, plan: Plan, fixed: bool, key: str) -> None:
    """See, before anything is trained, that every fold has such people.

    Args: fixed: whether a model is evaluated as it is.   key: what would be fitted on them.
    Raises: InputError naming `key`.
    """
    if fixed:
        raise InputError(
            f"{key}: of a model that is evaluated as it is (evaluate.checkpoint) nobody is at hand "
            "who neither trained it nor is tested; leave one of the two out"
        )
    if plan.optimistic:
        raise InputError(
            f"{key}: evaluate.protocol={recipe.evaluate.protocol} chooses the epoch by the "
            "held-out people, on whom nothing more may be fitted; set another protocol"
        )
    for number, fold in enumerate(plan.folds, 1):
        if not len(fold.validation):
            raise InputError(
                f"{key}: fitted on the people who choose the epoch, and in fold {number} there are "
                f"none (data.validation={recipe.data.validation:g}); raise data.validation"
            )


def labelled_people(sets: ShardSets, plan: Plan, question: Question) -> list[int]:
    """How many of them have a label, one number a fold."""
    validation = [plan.scans[fold.validation] for fold in plan.folds]
    known = [scans[np.isfinite(question.truth(sets.labels[scans]))] for scans in validation]
    return [len(np.unique(sets.subject[scans])) for scans in known]


def least_people(alpha: float) -> int:
    """That a promise to miss a share of at most `alpha` takes: with fewer it would be to answer
    everything."""
    return int(np.ceil(1 / alpha - 1 - 1e-9))


def check_conformal(recipe: Recipe, sets: ShardSets, plan: Plan) -> None:
    """See, before anything is trained, that the headline's promise can be made in every fold.

    Raises: InputError.
    """
    alpha, question = recipe.evaluate.conformal, plan.questions[0]
    scans = np.unique(np.concatenate([plan.scans[fold.validation] for fold in plan.folds]))
    check_unit(recipe.evaluate.unit, sets, scans, plan.questions)
    for number, people in enumerate(labelled_people(sets, plan, question), 1):
        if people < least_people(alpha):
            raise InputError(
                f"evaluate.conformal={alpha:g}: target {question.target.name}, fold {number}: "
                f"{people} people who choose the epoch have a label, and a promise of "
                f"{100 * (1 - alpha):g} % takes {least_people(alpha)}; raise data.validation or "
                "evaluate.conformal"
            )
