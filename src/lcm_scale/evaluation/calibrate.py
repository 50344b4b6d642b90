"""The model's probabilities calibrated inside each fold, by the people who choose its epoch.

In: what a fold's model answers of those people, and their labels. Out: a map that never falls, for
its answers of the held-out people. The model trained on everybody gets one in the same way, which
is stored beside its weights. Of two classes it keeps who is ranked before whom; isotonic
makes ties. Nothing of a held-out scan enters it.
Shapes: n scans, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.isotonic import IsotonicRegression

from lcm_scale.evaluation.held_out import Answers
from lcm_scale.evaluation.prepare import PreparedEvaluation
from lcm_scale.evaluation.questions import Question
from lcm_scale.inference.predictor import Predictor
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.weights import checkpoints
from lcm_scale.weights.calibration import LARGEST, Calibration, logits

NONE, TEMPERATURE, ISOTONIC = "none", "temperature", "isotonic"
UNCALIBRATED = "LCM, not calibrated"  # its row in the tables
# People with a label who choose the epoch: one number needs few, a curve with steps many.
LEAST_PEOPLE = {TEMPERATURE: 10, ISOTONIC: 50}


def temperature(scores: np.ndarray, truth: np.ndarray) -> Calibration:
    """Logits over one number, at which the truth is likeliest.

    Args: scores: (n, C) probabilities.   truth: (n,) codes.
    """
    own = logits(scores)
    rows = np.arange(len(truth))

    def cost(log_temperature: float) -> float:
        scaled = log_softmax(own / np.exp(log_temperature), axis=1)
        return -float(scaled[rows, truth].mean())

    ends = (-np.log(LARGEST), np.log(LARGEST))
    found = float(np.exp(minimize_scalar(cost, bounds=ends, method="bounded").x))
    return Calibration(min(max(found, 1 / LARGEST), LARGEST))


def isotonic(scores: np.ndarray, truth: np.ndarray) -> Calibration:
    """Of two classes, the rising steps with the smallest squared error; none is nearer to 0 or 1
    than one person among n + 2.

    Args: scores: (n, 2) probabilities.   truth: (n,) codes.
    """
    least = 1 / (len(truth) + 2)
    curve = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
    curve.fit(scores[:, 1].astype(np.float64), truth)
    ends = zip(curve.X_thresholds_.tolist(), curve.y_thresholds_.tolist(), strict=True)
    return Calibration(steps=tuple(ends))


MAPS: dict[str, Callable[[np.ndarray, np.ndarray], Calibration]] = {
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
        scans = prepared.scans[prepared.folds[number].validation]
        change = _fitted(prepared, question, scans, given)
        plain = answers[model]
        found.append({**answers, model: change(plain) if change else plain, UNCALIBRATED: plain})
    return found


def calibrate_final(prepared: PreparedEvaluation, run: PreparedRun, folder: Path) -> None:
    """Store in the checkpoint of a model trained on everybody the maps that the people who chose
    its epoch give; nothing where they are stored.

    Args: folder: of the run, which is done.  Raises: InputError where it cannot be written.
    """
    if prepared.recipe.evaluate.calibration == NONE:
        return
    final = checkpoints.load(folder)
    if final.calibration:
        return
    unseen = final.path.with_name(checkpoints.UNSEEN)
    model = checkpoints.load(unseen) if unseen.is_file() else final
    predictor = Predictor(run.opened.sets, run.opened.source, run.recipe)
    asked = [question for question in prepared.questions if question.kind == "class"]
    given = predictor.answers(model, run.validation, [question.asked for question in asked])
    maps = {}
    for question, of_question in zip(asked, given, strict=True):
        change = _fitted(prepared, question, run.validation, of_question)
        # Where a question leaves categories out, a map of the others is no map of all.
        if change and question.categories == model.vocabulary[question.target.name].labels:
            maps[question.target.name] = change
    if maps:
        checkpoints.add_calibration(final.path, maps)


def maps_used(prepared: PreparedEvaluation) -> dict[str, dict[str, int]]:
    """Class target -> map, or none -> in how many folds; empty where none was asked for."""
    if prepared.recipe.evaluate.calibration == NONE:
        return {}
    watching = [prepared.scans[fold.validation] for fold in prepared.folds]
    return {
        question.target.name: dict(
            Counter(_asked(prepared, question, scans)[2] for scans in watching)
        )
        for question in prepared.questions
        if question.kind == "class"
    }


def calibration_notes(prepared: PreparedEvaluation) -> list[str]:
    """Which map each target has in how many folds, and why where it is another than asked for."""
    wanted = prepared.recipe.evaluate.calibration
    if wanted == NONE:
        return []
    words = []
    for target, counted in maps_used(prepared).items():
        parts = [f"{kind} in {n} of {len(prepared.folds)} folds" for kind, n in counted.items()]
        words.append(f"{target} {', '.join(parts)}")
    return [
        f"The model's probabilities are calibrated (asked: {wanted}) by a map fitted in each fold "
        f"on the people who choose its epoch, never on held-out ones: {'; '.join(words)}. Isotonic "
        f"takes two classes and {LEAST_PEOPLE[ISOTONIC]} such people with a label, else it is the "
        f"temperature, which takes {LEAST_PEOPLE[TEMPERATURE]} of two classes, else none. '"
        f"{UNCALIBRATED}' is the model without it."
    ]


def _fitted(
    prepared: PreparedEvaluation, question: Question, scans: np.ndarray, given: np.ndarray
) -> Calibration | None:
    """The map of one question by what a model answers of these scans; None: they are not enough."""
    truth, known, kind = _asked(prepared, question, scans)
    return MAPS[kind](given[known], truth[known].astype(np.int64)) if kind in MAPS else None


def _asked(
    prepared: PreparedEvaluation, question: Question, scans: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str]:
    """Labels of scans whose people choose an epoch, whether each is known, and the map that they
    are enough for."""
    sets = prepared.opened.sets
    truth = question.truth(sets.labels[scans])
    known = np.isfinite(truth)
    people = len(np.unique(sets.subject[scans][known]))
    kind = prepared.recipe.evaluate.calibration
    if kind == ISOTONIC and (len(question.categories) > 2 or people < LEAST_PEOPLE[ISOTONIC]):
        kind = TEMPERATURE
    if people < LEAST_PEOPLE[TEMPERATURE] or len(np.unique(truth[known])) < 2:
        kind = NONE
    return truth, known, kind
