"""What the plain models beside the LCM answer, a fold at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lcm_scale import progress
from lcm_scale.data.given import given
from lcm_scale.data.harmonise import SiteEffects
from lcm_scale.evaluation.baselines import fit_predict
from lcm_scale.evaluation.harmonise import site_effects
from lcm_scale.evaluation.held_out import Answers
from lcm_scale.evaluation.prepare import PreparedEvaluation
from lcm_scale.evaluation.protocols.label_counts import Labelled
from lcm_scale.evaluation.questions import Question


@dataclass(frozen=True)
class Beside:
    """What is known already of the plain models' answers, where several processes asked them.

    Attributes:
        baselines: of each fold, one a question.
        told: the same of what tells labels without a matrix (`confounds.answers_of_fold`).
        draws: of each draw of few labels, to the headline.
    """

    baselines: Sequence[Sequence[Answers]]
    told: Sequence[Sequence[Answers]]
    draws: Sequence[Answers]


def baselines_of_fold(
    prepared: PreparedEvaluation, number: int, edges: np.ndarray
) -> list[Answers]:
    """What every baseline answers of a fold's held-out scans, one a question.

    The targets of a fold follow each other, so that they share the features.

    Args:
        number: the fold's, from 0.   edges: (n, E) of the evaluated scans.
    """
    sets, config = prepared.opened.sets, prepared.recipe.evaluate
    fold = prepared.folds[number]
    names = [question.target.name for question in prepared.questions]
    effects = site_effects(config.harmonise, sets, prepared.scans, names)
    found: list[Answers] = []
    label = f"fold {number + 1}/{len(prepared.folds)}: baselines"
    with progress.stage(label, len(prepared.questions) * len(prepared.baselines)) as advance:
        for question in prepared.questions:
            truth = question.truth(sets.labels[prepared.scans])
            train = fold.fitted[np.isfinite(truth[fold.fitted])]
            sites = effects and effects.of(np.concatenate([train, fold.test]))
            left_out = question.target.name in prepared.plan.without_baselines
            found.append(
                {}
                if left_out
                else fitted_baselines(prepared, question, number, train, edges, advance, sites)
            )
    return found


def baselines_of_draw(
    prepared: PreparedEvaluation, drawn: Labelled, edges: np.ndarray, label: str
) -> Answers:
    """What every baseline answers to the headline when only those people's labels are known."""
    train = np.searchsorted(prepared.scans, drawn.kept)
    with progress.stage(f"{label}: baselines", len(prepared.baselines)) as advance:
        return fitted_baselines(prepared, prepared.questions[0], drawn.fold, train, edges, advance)


def fitted_baselines(
    prepared: PreparedEvaluation,
    question: Question,
    number: int,
    train: np.ndarray,
    edges: np.ndarray,
    advance: Callable[..., None],
    sites: SiteEffects | None = None,
) -> Answers:
    """What every baseline answers to one question about a fold's held-out scans.

    Args:
        number: the fold's, from 0.   train: positions of the scans that it is fitted on, whose
            label is known.   edges: (n, E).   sites: of those scans, then of the held-out ones.
    """
    sets, fold, target = prepared.opened.sets, prepared.folds[number], question.target
    truth = question.truth(sets.labels[prepared.scans])
    told = given(prepared.context, sets, prepared.scans).without(target.name)
    known = told.of(np.concatenate([train, fold.test]))
    found: Answers = {}
    for baseline in prepared.baselines:
        found[baseline] = fit_predict(
            baseline,
            edges[train],
            truth[train],
            sets.together[prepared.scans[train]],
            edges[fold.test],
            question.kind,
            len(question.categories),
            prepared.recipe.evaluate.seed,
            sets.kinds_of(prepared.scans),
            sites,
            target.log,
            known,
        )
        advance(1, note=f"{target.name}: {baseline}")
    return found
