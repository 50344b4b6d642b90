"""Folds that leave a whole group of scans out, a site or a set: who trains, and what can be
asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets, split_subjects
from lcm_scale.errors import InputError
from lcm_scale.evaluation.folds import Fold
from lcm_scale.evaluation.protocols.answers import Refusal, asked, learnable
from lcm_scale.evaluation.questions import Question


def fold_of(
    recipe: Recipe, sets: ShardSets, test: np.ndarray, apart: np.ndarray, choosing: np.ndarray
) -> Fold:
    """The fold that tests some scans, in numbers of scans.

    Args:
        test: numbers, ascending.
        apart: bool (N,) scans that nobody may be trained on, beside those of tested people.
        choosing: bool (N,) scans whose people may choose the epoch.
    """
    pool = np.flatnonzero(~apart & ~np.isin(sets.together, sets.together[test]))
    able = pool[choosing[pool]]
    _, validation = split_subjects(sets, able, recipe.data.validation, recipe.evaluate.seed)
    train = pool[~np.isin(sets.together[pool], sets.together[validation])]
    return Fold(train, validation, test)


def asked_of(
    recipe: Recipe,
    sets: ShardSets,
    folds: Sequence[Fold],
    found: Sequence[Question],
    what: str,
) -> tuple[list[Question], list[str]]:
    """The questions with those answers that some fold tests and is trained on, and what is to be
    said of the others.

    Args:
        folds: in numbers of scans.   found: what the recipe asks.   what: is left out, in words.
    Raises: InputError as `asked`, or where a fold cannot learn the headline.
    """
    refusal = Refusal(
        f"evaluate.protocol={recipe.evaluate.protocol}: without the {what} that is tested, "
        "training does not know",
        "leave it out of evaluate.targets, or use the nested protocol",
    )
    tested = np.unique(np.concatenate([fold.test for fold in folds]))
    return asked(
        recipe, sets, tested, found, lambda question: _learnt(question, sets, folds), refusal
    )


def _learnt(question: Question, sets: ShardSets, folds: Sequence[Fold]) -> list[str]:
    """Its categories that some fold tests and is trained on; none where some fold's training people
    do not suffice for it."""
    found: set[str] = set()
    for fold in folds:
        known = [c for c in learnable(question, sets, fold.train) if c in question.categories]
        if len(known) < (2 if question.kind == "class" else 1):
            return []
        truth = question.truth(sets.labels[fold.test])
        present = np.unique(truth[np.isfinite(truth)])
        if question.kind == "scalar":
            found |= {*known} if len(present) else set()
        else:
            found |= {*known} & {question.categories[int(code)] for code in present}
    return [c for c in question.categories if c in found]


def require_two(folds: Sequence[Fold], recipe: Recipe, what: str) -> None:
    """Raises: InputError where there is one fold, or none."""
    if len(folds) < 2:
        raise InputError(
            f"evaluate.protocol={recipe.evaluate.protocol}: {len(folds)} {what}, and it takes two"
        )
