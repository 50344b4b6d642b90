"""What may be fitted beside a fold's model on the people who choose its epoch: they did not train
it and are not held out, so that its answers about them are nearly those about strangers."""

from __future__ import annotations

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation.protocols.plan import Plan


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
