"""Predictions of windows averaged back to their scan or person, who is then scored once.

The bootstrap draws people either way; what changes is how much a scan with many windows, or a
person with many scans, counts, and that one answer is given for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.questions import Question

# What a prediction is scored for -> which rows (n,) of the sets belong together; None: each alone.
UNITS: dict[str, Callable[[ShardSets], np.ndarray] | None] = {
    "window": None,
    "scan": lambda sets: sets.scan,
    "person": lambda sets: sets.subject,
}


def check_unit(
    unit: str, sets: ShardSets, scans: np.ndarray, questions: Iterable[Question]
) -> None:
    """See, before anything is trained, that predictions of these scans can be averaged.

    Raises: InputError as `averaged`.
    """
    number = _units_of(unit, sets, scans)
    if number is None:
        return
    for question in questions:
        truth = question.truth(sets.labels[scans])
        known = np.isfinite(truth)
        _, first, of = np.unique(number[known], return_index=True, return_inverse=True)
        if question.kind == "class":
            _refuse_two_answers(unit, question.target.name, truth[known], first, of)


def averaged(p: Predictions, unit: str, sets: ShardSets) -> Predictions:
    """One prediction a unit, the mean of its windows' probabilities or values; a scalar's truth is
    the mean as well.

    Args:
        p: of windows; `scan` holds their numbers in `sets`.   unit: one of `UNITS`.
    Raises: InputError where the set does not say which windows are of one scan, or a unit has two
        classes.
    """
    number = _units_of(unit, sets, p.scan)
    if number is None:
        return p
    # Of several divisions into folds each answers once.
    fold = np.unique(p.fold, return_inverse=True)[1]
    number = number * (fold.max(initial=0) + 1) + fold
    _, first, of = np.unique(number, return_index=True, return_inverse=True)
    counts = np.bincount(of)

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.zeros((len(counts), *values.shape[1:]))
        np.add.at(total, of, values)
        return total / counts.reshape(-1, *[1] * (values.ndim - 1))

    if p.kind == "class":
        _refuse_two_answers(unit, p.target, p.truth, first, of)
    return replace(
        p,
        truth=p.truth[first] if p.kind == "class" else mean(p.truth),
        scores=mean(p.scores),
        subject=p.subject[first],
        fold=p.fold[first],
        scan=p.scan[first],
    )


def _units_of(unit: str, sets: ShardSets, scans: np.ndarray) -> np.ndarray | None:
    """(n,) the number of each row's unit; None where each row is one of its own."""
    grouping = UNITS[unit]
    if grouping is None:
        return None
    number = grouping(sets)[scans]
    if (number < 0).any():
        raise InputError(
            "evaluate.unit=scan: the set was written by a version that did not say which windows "
            "are of one scan; shard it again, or set evaluate.unit=person"
        )
    return number


def _refuse_two_answers(
    unit: str, target: str, truth: np.ndarray, first: np.ndarray, of: np.ndarray
) -> None:
    """Args: truth: (n,) classes.   first: a row of each unit.   of: (n,) each row's unit."""
    if (truth != truth[first][of]).any():
        raise InputError(
            f"evaluate.unit={unit}: a {unit} has scans of different {target}, so one answer "
            "cannot be right for all; set evaluate.unit=scan, or choose evaluate.targets"
        )
