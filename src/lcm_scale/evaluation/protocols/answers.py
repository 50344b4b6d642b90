"""Which of a target's answers can be asked: those that somebody is trained on where they are
tested.

A category that is tested and was never seen in training would be wrong of every model alike, so it
is left out of the question, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError
from lcm_scale.evaluation.folds import MIN_TRAINING_SUBJECTS
from lcm_scale.evaluation.questions import Question
from lcm_scale.vocabulary import NOT_APPLICABLE


@dataclass(frozen=True)
class Refusal:
    """Head and end of a message about a target that the training side does not know."""

    head: str
    advice: str


def asked(
    recipe: Recipe,
    sets: ShardSets,
    test: np.ndarray,
    found: Sequence[Question],
    learnt: Callable[[Question], Collection[str]],
    refusal: Refusal,
) -> tuple[list[Question], list[str]]:
    """The questions with those of their answers that were learnt, and what is to be said of the
    others.

    Args:
        test: numbers of the tested scans.   found: what the recipe asks, the headline first.
        learnt: of a question the categories that the training side knows; of a scalar its name.
    Raises: InputError where a target that the recipe names cannot be asked, or none can.
    """
    named = {recipe.evaluate.target, *recipe.evaluate.targets}
    questions, notes = [], []
    for question in found:
        name, known = question.target.name, learnt(question)
        kept = [place for place, c in enumerate(question.categories) if c in known]
        if len(kept) < (2 if question.kind == "class" else 1):
            if name in named:
                answers = ", ".join(question.categories)
                raise InputError(f"{refusal.head} {name} ({answers}); {refusal.advice}")
            notes.append(f"{name} is not evaluated: the training side does not know its answers.")
            continue
        questions.append(_only(question, kept))
        notes += _notes_of_answers(question, questions[-1], sets, test, known)
    if not questions:
        names = ", ".join(question.target.name for question in found)
        raise InputError(f"{refusal.head} any target that is asked ({names}); {refusal.advice}")
    return questions, notes


def _only(question: Question, kept: list[int]) -> Question:
    """The question with some of its answers.  Args: kept: their places."""
    if question.kind == "scalar":
        return question
    return replace(
        question,
        categories=tuple(question.categories[place] for place in kept),
        codes=tuple(question.codes[place] for place in kept),
    )


def _notes_of_answers(
    whole: Question, narrow: Question, sets: ShardSets, test: np.ndarray, known: Collection[str]
) -> list[str]:
    notes, name = [], whole.target.name
    dropped = [c for c in whole.categories if c not in narrow.categories]
    if dropped:
        truth, left = whole.truth(sets.labels[test]), narrow.truth(sets.labels[test])
        count = int((np.isfinite(truth) & np.isnan(left)).sum())
        notes.append(
            f"{name}: {', '.join(dropped)} ({count} scans) have nobody in training where they "
            "are tested; they are not asked, and those scans are not scored."
        )
    further = [c for c in known if c not in whole.categories]
    if further and whole.kind == "class":
        notes.append(
            f"{name}: {', '.join(further)} stand on the training side alone; they are no answers "
            "here, and no baseline is trained on them."
        )
    return notes


def require_two_classes(headline: Question, sets: ShardSets, test: np.ndarray) -> None:
    """Raises: InputError where the tested scans hold one class of the headline, or none."""
    truth = headline.truth(sets.labels[test])
    present = np.unique(truth[np.isfinite(truth)])
    if headline.kind == "class" and len(present) < 2:
        known = f"only '{headline.categories[int(present[0])]}'" if len(present) else "no label"
        raise InputError(
            f"target {headline.target.name}: {known} occurs among the tested scans, of the answers "
            f"that the training side knows ({', '.join(headline.categories)}); at least two are "
            "needed"
        )


def learnable(question: Question, sets: ShardSets, train: np.ndarray) -> list[str]:
    """Categories of the target that enough training people have, those beyond the question's
    included."""
    column, subject = sets.labels[train, question.column], sets.subject[train]
    if question.kind == "scalar":
        known = len(np.unique(subject[np.isfinite(column)]))
        return [question.target.name] if known >= MIN_TRAINING_SUBJECTS else []
    return [
        category
        for code, category in enumerate(question.target.categories)
        if category != NOT_APPLICABLE
        and len(np.unique(subject[column == code])) >= MIN_TRAINING_SUBJECTS
    ]
