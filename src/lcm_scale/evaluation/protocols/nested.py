"""The default: outer folds by person, an inner validation split chooses the epoch, each held-out
scan is read once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.folds import Fold, require_classes, subject_folds
from lcm_scale.evaluation.protocols.plan import Plan, several
from lcm_scale.evaluation.questions import Question, evaluated_set, questions_of


def plan(recipe: Recipe, sets: ShardSets) -> Plan:
    """Folds of the evaluated set.  Raises: InputError as `folds_of`."""
    scans = sets.scans_of([evaluated_set(recipe, sets)])
    questions = tuple(questions_of(recipe, sets))
    folds = folds_of(recipe, sets, scans, questions)
    return Plan(scans, questions, tuple(folds), _sentence(recipe))


def folds_of(
    recipe: Recipe, sets: ShardSets, scans: np.ndarray, questions: Sequence[Question]
) -> list[Fold]:
    """The folds of the evaluated scans.

    Args:
        scans: their numbers.   questions: the headline first.
    Raises: InputError where there are too few people, or a fold lacks a class of the headline.
    """
    config = recipe.evaluate
    stratify = None
    if config.stratify == "site" and "site" not in sets.vocabulary.names:
        stratify = sets.site[scans]
    elif config.stratify:
        column = sets.vocabulary.names.index(sets.vocabulary[config.stratify].name)
        stratify = np.nan_to_num(sets.labels[scans, column], nan=-1).astype(np.int64)
    folds = subject_folds(
        sets.together[scans],
        sets.subject_ranks,
        config.folds,
        config.seed,
        stratify,
        recipe.data.validation,
    )
    head = questions[0]
    if head.target.is_class:
        codes = np.nan_to_num(head.truth(sets.labels[scans]), nan=-1)
        for number, fold in enumerate(folds):
            require_classes(
                fold, codes, head.target.name, head.categories, sets.subject[scans], number + 1
            )
    return folds


def _sentence(recipe: Recipe) -> str:
    config = recipe.evaluate
    spread = f", spread evenly over {config.stratify}" if config.stratify else ""
    return (
        f"Nested cross-validation: {config.folds} outer folds by person{spread} (seed "
        f"{config.seed}); in each, "
        f"{recipe.data.validation:.0%} of the training people choose the epoch, and the held-out "
        f"people are read once.{several(recipe)} "
        "Baselines are tuned by inner cross-validation on the same training people."
    )
