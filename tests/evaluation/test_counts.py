"""Who was asked, in words."""

from __future__ import annotations

import numpy as np

from lcm_scale.evaluation.counts import counted
from lcm_scale.evaluation.questions import Question
from lcm_scale.vocabulary import group, scalar


def test_people_are_counted_by_answer_and_those_without_one_are_named() -> None:
    """Three scans of one person, one of them without an answer."""
    diagnosis = Question(group("diagnosis", ["CN", "AD"]), 0, ("CN", "AD"), (1, 2))
    age = Question(scalar(), 1, (), ())
    labels = np.array([[1, 30], [1, 30], [np.nan, 30], [2, np.nan], [0, 61.5]])
    subject = np.array([0, 0, 0, 1, 2])
    assert counted(diagnosis, labels, subject) == (
        "3 scans of 2 people; CN 1, AD 1; 1 people without an answer"
    )
    assert counted(age, labels, subject) == (
        "4 scans of 2 people; 30 to 61.5 years, median 30; 1 people without an answer"
    )
