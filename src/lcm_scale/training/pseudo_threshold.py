"""From which confidence on pseudo-labels are worth having, fitted on validation people.

A model that knows nothing is sure of something too, and what it fills in then is noise that it
learns. So a target is filled in only where the model has shown on people whom nothing was trained
on that it knows better than guessing does.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest, wilcoxon

# Few, because each is a chance to be lucky: the error that is allowed is shared among them.
LEVELS = (0.0, 0.6, 0.7, 0.8, 0.9)
ERROR = 0.05  # chance that a target of a model that knows nothing is filled in


def class_threshold(
    guess: np.ndarray,
    certainty: np.ndarray,
    recorded: np.ndarray,
    person: np.ndarray,
    least: float,
) -> float | None:
    """The smallest level from which on a class is right clearly more often than the most frequent
    class is there: by an exact binomial test, each person's first scan counting.

    Args:
        guess, certainty, recorded, person: (n,) of validation scans that have a label.
        least: levels below it do not come into question.
    Returns: None where there is no such level.
    """
    if not len(guess):
        return None
    frequency = float(np.unique(recorded, return_counts=True)[1].max() / len(recorded))
    for level in sorted({max(level, least) for level in LEVELS}):
        sure = np.flatnonzero(certainty >= level)
        first = sure[np.unique(person[sure], return_index=True)[1]]
        if not len(first):
            return None
        right = int((guess[first] == recorded[first]).sum())
        test = binomtest(right, len(first), frequency, alternative="greater")
        if test.pvalue < ERROR / len(LEVELS):
            return level
    return None


def scalar_passes(guess: np.ndarray, recorded: np.ndarray, person: np.ndarray) -> bool:
    """Whether a number is predicted clearly better than by the median of those people: by
    Wilcoxon's test of the absolute errors, each person's first scan counting."""
    first = np.unique(person, return_index=True)[1]
    if not len(first):
        return False
    guess, recorded = guess[first], recorded[first]
    gain = np.abs(recorded - np.median(recorded)) - np.abs(recorded - guess)
    return bool(gain.any()) and float(wilcoxon(gain, alternative="greater").pvalue) < ERROR
