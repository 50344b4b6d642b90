"""A fold's answers to one question put together as predictions of the held-out scans, and measured
as the protocol says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.corrected import FoldValues, by_fold
from lcm_scale.evaluation.intervals import Draws, resampled
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.prepare import PreparedEvaluation
from lcm_scale.evaluation.questions import Question
from lcm_scale.evaluation.units import averaged

# model, part of it or baseline -> (m, answers) or (m,) of a fold's test scans
Answers = dict[str, np.ndarray]


def predictions_of(
    prepared: PreparedEvaluation, question: Question, answers: Sequence[Answers]
) -> dict[str, Predictions]:
    """Of every model, of the held-out scans whose label is known.  Args: answers: one a fold."""
    sets, folds, config = prepared.opened.sets, prepared.folds, prepared.recipe.evaluate
    truth = question.truth(sets.labels[prepared.scans])
    tested = np.concatenate([fold.test for fold in folds])
    fold_of = np.repeat(np.arange(1, len(folds) + 1), [len(fold.test) for fold in folds])
    known = np.isfinite(truth[tested])
    codes = truth[tested][known]
    scans = prepared.scans[tested][known]
    return {
        model: averaged(
            Predictions(
                model=model,
                target=question.target.name,
                kind=question.kind,
                categories=question.categories,
                truth=codes.astype(np.int64) if question.target.is_class else codes,
                scores=np.concatenate([of_fold[model] for of_fold in answers])[known],
                subject=np.array(sets.subjects)[sets.subject[scans]],
                fold=fold_of[known],
                scan=scans,
            ),
            config.unit,
            sets,
        )
        for model in answers[0]
    }


def measured(prepared: PreparedEvaluation, p: Predictions) -> Draws | FoldValues:
    """Every metric, so that intervals cover what the protocol says."""
    config = prepared.recipe.evaluate
    if not prepared.plan.rounds:
        return resampled(p, config.bootstrap, config.seed, together(prepared.opened.sets, p))
    subject = prepared.opened.sets.subject[prepared.scans]
    tested, trained = (
        np.mean([len(np.unique(subject[getattr(fold, part)])) for fold in prepared.folds])
        for part in ("test", "fitted")
    )
    return by_fold(p, float(tested / trained))


def together(sets: ShardSets, p: Predictions) -> np.ndarray | None:
    """(N,) who is drawn together in a bootstrap; None: a person's scans, and no more."""
    return None if sets.groups is None else sets.groups[p.scan]
