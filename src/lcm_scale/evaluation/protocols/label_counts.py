"""Who keeps the headline's label where only some people may: draws of a fold's training people.

Each draw keeps every class in its proportion, and at fewer labels the people are among those at
more. A share of them chooses the epoch, as in the whole fold; everybody else's label of the
headline is hidden, of training people, of those who choose the epoch, and of other sets. Scans and
other labels stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcm_scale.config import Recipe
from lcm_scale.config.run import ALL_LABELS
from lcm_scale.data.sets import ShardSets, in_drawn_order
from lcm_scale.errors import InputError
from lcm_scale.evaluation.folds import MIN_TRAINING_SUBJECTS
from lcm_scale.evaluation.labelled import keeping, with_label
from lcm_scale.evaluation.protocols.plan import Plan
from lcm_scale.evaluation.questions import Question
from lcm_scale.vocabulary import NOT_APPLICABLE

ALLOWED = ("nested", "leave-site-out", "leave-set-out", "external")
STREAM = 7  # of `mix`, so that other draws of the same people are others


@dataclass(frozen=True)
class Labelled:
    """A draw of a fold's people.

    Attributes:
        count: people who keep the label.   draw, fold: from 0.
        kept: numbers of their scans, ascending; all are training or validation scans of the fold.
    """

    count: int
    draw: int
    fold: int
    kept: np.ndarray


def draws_of(recipe: Recipe, sets: ShardSets, plan: Plan) -> list[Labelled]:
    """Every count, draw and fold that the recipe asks for; none where it asks for all labels.

    Raises: InputError where a fold has too few labelled people, or a draw too few of a class.
    """
    config = recipe.evaluate
    counts = sorted({int(count) for count in config.label_counts if count != ALL_LABELS})
    if config.label_counts:
        _check_allowed(recipe)
    return [
        _draw(recipe, sets, plan, count, draw, fold)
        for count in counts
        for draw in range(config.label_draws)
        for fold in range(len(plan.folds))
    ]


def hidden(sets: ShardSets, question: Question, kept: np.ndarray) -> np.ndarray:
    """The labels (N, C) where only some scans keep the question's; N/A says that a set does not
    have it, and stays."""
    labels = sets.labels.copy()
    away = np.ones(len(labels), dtype=bool)
    away[kept] = False
    if NOT_APPLICABLE in question.target.categories:
        code = question.target.categories.index(NOT_APPLICABLE)
        away &= labels[:, question.column] != code
    labels[away, question.column] = np.nan
    return labels


def _check_allowed(recipe: Recipe) -> None:
    config = recipe.evaluate
    if config.checkpoint:
        raise InputError(
            "evaluate.label_counts and evaluate.checkpoint exclude each other: a fixed model "
            "learns from no labels any more"
        )
    if config.protocol not in ALLOWED:
        raise InputError(
            f"evaluate.label_counts: not under evaluate.protocol={config.protocol} (one of "
            f"{', '.join(ALLOWED)})"
        )
    if config.harmonise != "none":
        raise InputError(
            "evaluate.label_counts and evaluate.harmonise exclude each other: a few labelled "
            "people do not show the effect of their sites"
        )


def _draw(
    recipe: Recipe, sets: ShardSets, plan: Plan, count: int, draw: int, fold: int
) -> Labelled:
    question, one = plan.questions[0], plan.folds[fold]
    where = f"evaluate.label_counts={count}: fold {fold + 1}"
    parts = [plan.scans[part] for part in (one.validation, one.train)]
    there = [with_label(question, sets, part) for part in parts]
    share = recipe.data.validation if len(there[0]) else 0.0
    choosing = min(round(share * count), len(there[0]))
    if count > len(there[1]) + choosing:
        raise InputError(
            f"{where} has {len(there[0]) + len(there[1])} training people with a label of "
            f"{question.target.name}, {len(there[0])} of whom choose the epoch; ask for fewer, or "
            f"for {ALL_LABELS}"
        )
    people: list[np.ndarray] = []
    for scans, able, wanted in zip(parts, there, (choosing, count), strict=True):
        wanted -= sum(map(len, people))  # of the second part what the first left
        people.append(_chosen(recipe, sets, question, scans, able, max(wanted, 0), draw))
    everybody = np.concatenate(people)
    both = np.concatenate(parts)
    kept = np.sort(both[np.isin(sets.subject[both], everybody)])
    trained = kept[np.isin(kept, parts[1])]
    _require(question, sets, trained, f"{where}, draw {draw + 1}")
    return Labelled(count, draw, fold, kept)


def _chosen(
    recipe: Recipe,
    sets: ShardSets,
    question: Question,
    scans: np.ndarray,
    able: np.ndarray,
    count: int,
    draw: int,
) -> np.ndarray:
    """So many of the people, in the order that the draw gives them, by class."""
    if not count:
        return able[:0]
    ordered = in_drawn_order(sets, able, recipe.evaluate.seed + draw, STREAM)
    return keeping(question, sets, scans, ordered, count / len(ordered))


def _require(question: Question, sets: ShardSets, trained: np.ndarray, where: str) -> None:
    """See that a model and a tuned baseline can be trained.

    Args: trained: numbers of the labelled scans that do not choose the epoch.
    """
    truth, subject = question.truth(sets.labels[trained]), sets.subject[trained]
    if question.kind == "scalar":
        return
    counts = {
        name: len(np.unique(subject[truth == code]))
        for code, name in enumerate(question.categories)
    }
    counts = {name: count for name, count in counts.items() if count}
    rarest = min(counts, key=counts.__getitem__)
    if len(counts) < 2 or counts[rarest] < MIN_TRAINING_SUBJECTS:
        raise InputError(
            f"{where}: of the labelled people who do not choose the epoch {counts[rarest]} are "
            f"'{rarest}', and a class needs {MIN_TRAINING_SUBJECTS}; ask for more labels"
        )
