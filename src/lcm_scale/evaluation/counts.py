"""How many people each target was asked of, in words: answers, range, and who has none."""

from __future__ import annotations

import numpy as np

from lcm_scale.evaluation.questions import Question


def counted(question: Question, labels: np.ndarray, subject: np.ndarray) -> str:
    """One target of the tested scans.

    Args: labels: (n, C) as `ShardSets.labels`.   subject: (n,) whose scans they are.
    """
    truth = question.truth(labels)
    known = np.isfinite(truth)
    people = len(np.unique(subject[known]))
    parts = [f"{known.sum():,} scans of {people:,} people"]
    if question.target.is_class:
        of_class = [len(np.unique(subject[truth == code])) for code in range(len(question.codes))]
        parts.append(
            ", ".join(
                f"{name} {count:,}"
                for name, count in zip(question.categories, of_class, strict=True)
            )
        )
    elif known.any():
        unit = question.target.measured_in
        low, middle, high = np.percentile(truth[known], [0, 50, 100])
        parts.append(f"{low:.4g} to {high:.4g}{f' {unit}' if unit else ''}, median {middle:.4g}")
    missing = len(np.setdiff1d(subject, subject[known]))
    if missing:
        parts.append(f"{missing:,} people without an answer")
    return "; ".join(parts)
