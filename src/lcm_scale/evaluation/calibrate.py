"""The model's probabilities calibrated inside each fold, by the people who choose its epoch.

In: what a fold's model answers of those people, and their labels. Out: a map that never falls, for
its answers of the held-out people. Of two classes it keeps who is ranked before whom; isotonic
makes ties. Nothing of a held-out scan enters it.
Shapes: n scans, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression

from lcm_scale.evaluation.held_out import Answers
from lcm_scale.evaluation.prepare import PreparedEvaluation
from lcm_scale.evaluation.questions import Question

NONE, TEMPERATURE, ISOTONIC = "none", "temperature", "isotonic"
UNCALIBRATED = "LCM, not calibrated"  # its row in the tables
# People with a label who choose the epoch: one number needs few, a curve with steps many.
LEAST_PEOPLE = {TEMPERATURE: 10, ISOTONIC: 50}
LARGEST = 20.0  # temperature, and one over the smallest
LEAST_PROBABILITY = 1e-12

Map = Callable[[np.ndarray], np.ndarray]


def temperature(scores: np.ndarray, truth: np.ndarray) -> Map:
    """Logits over one number, at which the truth is likeliest.

    Args: scores: (n, C) probabilities.   truth: (n,) codes.
    """
    logits = _logits(scores)
    rows = np.arange(len(truth))

    def cost(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scaled[rows, truth].mean())

    ends = (-np.log(LARGEST), np.log(LARGEST))
    found = float(np.exp(minimize_scalar(cost, bounds=ends, method="bounded").x))
    return lambda given: np.asarray(softmax(_logits(given) / found, axis=1))


def isotonic(scores: np.ndarray, truth: np.ndarray) -> Map:
    """Of two classes, the rising steps with the smallest squared error; none is nearer to 0 or 1
    than one person among n + 2.

    Args: scores: (n, 2) probabilities.   truth: (n,) codes.
    """
    least = 1 / (len(truth) + 2)
    curve = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
    curve.fit(scores[:, 1], truth)

    def apply(given: np.ndarray) -> np.ndarray:
        up = curve.predict(given[:, 1])
        return np.stack([1 - up, up], axis=1)

    return apply


MAPS: dict[str, Callable[[np.ndarray, np.ndarray], Map]] = {
    TEMPERATURE: temperature,
    ISOTONIC: isotonic,
}


def calibrated(
    prepared: PreparedEvaluation,
    number: int,
    ours: Sequence[Answers],
    watched: Sequence[np.ndarray],
    model: str,
) -> list[Answers]:
    """A fold's answers, one a question, those of `model` by the fold's map; as they were they stand
    beside it.

    Args:
        number: the fold's, from 0.   watched: what the model answers of the people who choose its
            epoch, one a question.
    """
    found = []
    for question, answers, given in zip(prepared.questions, ours, watched, strict=True):
        if question.kind != "class":
            found.append(answers)
            continue
        truth, known, kind = _asked(prepared, question, number)
        plain = answers[model]
        change = MAPS[kind](given[known], truth[known].astype(np.int64)) if kind in MAPS else None
        found.append({**answers, model: change(plain) if change else plain, UNCALIBRATED: plain})
    return found


def calibration_notes(prepared: PreparedEvaluation) -> list[str]:
    """Which map each target has in how many folds, and why where it is another than asked for."""
    wanted = prepared.recipe.evaluate.calibration
    if wanted == NONE:
        return []
    words = []
    folds = range(len(prepared.folds))
    for question in prepared.questions:
        if question.kind == "class":
            counted = Counter(_asked(prepared, question, number)[2] for number in folds)
            parts = [f"{kind} in {n} of {len(folds)} folds" for kind, n in counted.items()]
            words.append(f"{question.target.name} {', '.join(parts)}")
    return [
        f"The model's probabilities are calibrated (asked: {wanted}) by a map fitted in each fold "
        f"on the people who choose its epoch, never on held-out ones: {'; '.join(words)}. Isotonic "
        f"takes two classes and {LEAST_PEOPLE[ISOTONIC]} such people with a label, else it is the "
        f"temperature, which takes {LEAST_PEOPLE[TEMPERATURE]} of two classes, else none. '"
        f"{UNCALIBRATED}' is the model without it."
    ]


def _asked(
    prepared: PreparedEvaluation, question: Question, number: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Labels of the people who choose a fold's epoch, whether each is known, and the map that they
    are enough for."""
    sets = prepared.opened.sets
    scans = prepared.scans[prepared.folds[number].validation]
    truth = question.truth(sets.labels[scans])
    known = np.isfinite(truth)
    people = len(np.unique(sets.subject[scans][known]))
    kind = prepared.recipe.evaluate.calibration
    if kind == ISOTONIC and (len(question.categories) > 2 or people < LEAST_PEOPLE[ISOTONIC]):
        kind = TEMPERATURE
    if people < LEAST_PEOPLE[TEMPERATURE] or len(np.unique(truth[known])) < 2:
        kind = NONE
    return truth, known, kind


def _logits(scores: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(scores.astype(np.float64), LEAST_PROBABILITY))
