"""Answers with a promise: sets of classes and intervals of numbers that hold a stranger's truth at
least 1 - alpha of the time (split conformal prediction; Vovk et al. 2005, Sadinle et al. 2019).

In each fold the promise is made from the people who choose its epoch: how wrong the model is about
them says how far an answer must be widened. It holds where they are to the model what the held-out
people are, each counting once. They chose the epoch, so it is nearly so; what came of it is
measured on the held-out people.
Shapes: n people who choose the epoch, m held-out units, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lcm_scale.evaluation.calibrate import UNCALIBRATED
from lcm_scale.evaluation.held_out import Answers, predictions_of, together
from lcm_scale.evaluation.intervals import interval, weightings
from lcm_scale.evaluation.metrics import Metric, Predictions
from lcm_scale.evaluation.prepare import PreparedEvaluation
from lcm_scale.evaluation.questions import Question
from lcm_scale.evaluation.validation_people import labelled_people, least_people


@dataclass(frozen=True)
class Promise:
    """One target's sets or intervals, of held-out units.

    Attributes:
        alpha: the share that may be missed.   unit: of a scalar, in words.
        predictions: of the model, not calibrated.
        low, high: (m,) ends of a scalar's interval; None of classes.
        held: bool (m, C) which classes are in each set; None of a scalar.
        covered: bool (m,).   people: fewest that a fold's promise is made from.
        coverage, size: with intervals over people; size is that of sets, or the width.
        by_class: class -> coverage of those who have it.
    """

    target: str
    alpha: float
    unit: str
    predictions: Predictions
    low: np.ndarray | None
    high: np.ndarray | None
    held: np.ndarray | None
    covered: np.ndarray
    people: int
    coverage: Metric
    size: Metric
    by_class: dict[str, Metric]


def widened(wrong: np.ndarray, alpha: float) -> float:
    """The smallest of the n errors below which a stranger's lies at least 1 - alpha of the time:
    the ceil((n + 1)(1 - alpha))-th; infinite where n is too small.

    Args: wrong: (n,) each person's error.
    """
    rank = int(np.ceil((len(wrong) + 1) * (1 - alpha) - 1e-9))
    return float(np.sort(wrong)[rank - 1]) if rank <= len(wrong) else np.inf


def promises(
    prepared: PreparedEvaluation,
    answers: Sequence[Sequence[Answers]],
    watched: Sequence[Sequence[np.ndarray]],
    model: str,
) -> tuple[Promise, ...]:
    """Of every target that has enough people who choose the epoch.

    Args:
        answers: of the held-out scans, one a fold and question.
        watched: what `model` answers of the people who choose the epoch, alike.
    """
    if not prepared.recipe.evaluate.conformal:
        return ()
    found = []
    for place, question in enumerate(prepared.questions):
        people = min(labelled_people(prepared.opened.sets, prepared.plan, question))
        if people < least_people(prepared.recipe.evaluate.conformal):
            continue
        own = [{model: f[place].get(UNCALIBRATED, f[place][model])} for f in answers]
        given = [{model: f[place]} for f in watched]
        found.append(_promise(prepared, question, own, given, model, people))
    return tuple(found)


def _promise(
    prepared: PreparedEvaluation,
    question: Question,
    own: Sequence[Answers],
    given: Sequence[Answers],
    model: str,
    people: int,
) -> Promise:
    alpha = prepared.recipe.evaluate.conformal
    p = predictions_of(prepared, question, own)[model].once()
    limit = np.zeros(len(p.truth))
    for number, fold in enumerate(prepared.folds):
        aside = replace(prepared.plan, folds=(replace(fold, test=fold.validation),))
        known = predictions_of(replace(prepared, plan=aside), question, [given[number]])[model]
        first = np.unique(known.subject, return_index=True)[1]  # each person counts once
        limit[p.fold == number + 1] = widened(_wrong(known.of(first), question), alpha)
    low = high = held = None
    if question.kind == "class":
        held = 1 - p.scores <= limit[:, None]
        covered, size = held[np.arange(len(limit)), p.truth], held.sum(1).astype(np.float64)
    else:
        centre = np.log(p.scores) if question.target.log else p.scores
        low, high = centre - limit, centre + limit
        if question.target.log:
            low, high = np.exp(low), np.exp(high)
        covered, size = (low <= p.truth) & (p.truth <= high), high - low
    everybody = np.ones(len(covered), bool)
    names = question.categories if question.kind == "class" else ()
    asked = [(covered, everybody), (size, everybody)]
    asked += [(covered, p.truth == code) for code in range(len(names))]
    coverage, mean_size, *of_classes = _means(prepared, p, asked)
    return Promise(
        target=question.target.name,
        alpha=alpha,
        unit=question.target.measured_in,
        predictions=p,
        low=low,
        high=high,
        held=held,
        covered=covered,
        people=people,
        coverage=coverage,
        size=mean_size,
        by_class=dict(zip(names, of_classes, strict=True)),
    )


def _wrong(p: Predictions, question: Question) -> np.ndarray:
    """(n,) one less the probability of the truth, or the distance from it (of logarithms)."""
    if question.kind == "class":
        return np.asarray(1 - p.scores[np.arange(len(p.truth)), p.truth])
    if question.target.log:
        return np.abs(np.log(p.truth) - np.log(p.scores))
    return np.abs(p.truth - p.scores)


def _means(
    prepared: PreparedEvaluation, p: Predictions, asked: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[Metric]:
    """Means with intervals over people.  Args: asked: (m,) values, and bool (m,) whose."""
    config = prepared.recipe.evaluate
    here = np.stack([who for _, who in asked], axis=1).astype(np.float64)
    values = np.stack([value for value, _ in asked], axis=1) * here
    drawn = []
    for weights in weightings(p, config.bootstrap, config.seed, together(prepared.opened.sets, p)):
        total = weights @ here
        empty = np.full(total.shape, np.nan)
        drawn.append(np.divide(weights @ values, total, out=empty, where=total > 0))
    found = []
    for mean, (_, who) in zip(np.concatenate(drawn).T, asked, strict=True):
        people = len(np.unique(p.subject[who]))
        found.append(Metric("mean", float(mean[0]), *interval(mean), int(who.sum()), people))
    return found


def conformal_notes(prepared: PreparedEvaluation) -> Iterator[str]:
    """Of the targets that no promise is made for."""
    alpha = prepared.recipe.evaluate.conformal
    for question in prepared.questions if alpha else ():
        people = min(labelled_people(prepared.opened.sets, prepared.plan, question))
        if people < least_people(alpha):
            yield (
                f"{question.target.name} has no sets or intervals with a promise of "
                f"{100 * (1 - alpha):g} %: in some fold {people} people who choose the epoch have "
                f"a label, and it takes {least_people(alpha)}."
            )
