"""Which people keep their labels where only some may: every class among them, in its proportion,
and the fewer within the more.

In: people in an order that was drawn. Out: those who keep the label. A plain share of such an order
may hold one class alone, and then nothing can be learnt or tuned on it.
"""

from __future__ import annotations

import numpy as np

from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.folds import subject_strata
from lcm_scale.evaluation.questions import Question


def with_label(question: Question, sets: ShardSets, scans: np.ndarray) -> np.ndarray:
    """Numbers of the people who have the label in these scans, ascending."""
    known = np.isfinite(question.truth(sets.labels[scans]))
    return np.unique(sets.subject[scans[known]])


def keeping(
    question: Question, sets: ShardSets, scans: np.ndarray, ordered: np.ndarray, share: float
) -> np.ndarray:
    """Who of the people of some scans keeps the label, as `labelled_people`.

    Args: ordered: numbers of the people, in the order that the draw gave them.
    """
    truth = question.truth(sets.labels[scans])
    classes = np.where(np.isfinite(truth), truth if question.kind == "class" else 0, -1)
    strata = subject_strata(sets.subject[scans], ordered, classes)
    return np.asarray(ordered[labelled_people(strata, share)])


def labelled_people(classes: np.ndarray, share: float) -> np.ndarray:
    """The people who keep their label.

    Args:
        classes: int (P,) a class a person, in the order that the draw gave them; negative: not
            known, who are not counted. Of a number all stand in one class.
        share: of those with a known class, in (0, 1]; at least one of each class keeps it.
    Returns: (P,) True for those who keep it. At a larger share they are these and more.
    """
    known = np.flatnonzero(classes >= 0)
    turn = np.zeros(len(known))  # when each one's turn comes: 0 for the first of every class
    present, counts = np.unique(classes[known], return_counts=True)
    for one, count in zip(present, counts, strict=True):
        turn[classes[known] == one] = np.arange(count) / count
    wanted = max(len(present), round(share * len(known)))
    kept = np.zeros(len(classes), dtype=bool)
    kept[known[np.argsort(turn, kind="stable")[:wanted]]] = True
    return kept
