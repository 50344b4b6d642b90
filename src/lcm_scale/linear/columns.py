"""People memory of scans that are columns of features, which have no tangent space.

Shapes: n training scans, m others, F columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lcm_scale.linear.context import Context, KnownColumn
from lcm_scale.linear.kernels import Bank
from lcm_scale.linear.landmarks import AnyBank, LandmarkBank, draw_landmarks
from lcm_scale.linear.meeting import Asked, questions_of
from lcm_scale.linear.memory import Remembered, fit_all, scores_of


@dataclass(frozen=True)
class ColumnMemory:
    """A fitted memory.

    Attributes: centre: (F,).   targets, context: as of `linear.memory.PeopleMemory`.
    """

    centre: np.ndarray
    targets: Mapping[str, Remembered]
    context: tuple[KnownColumn, ...]

    def scores(self, columns: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
        """As `PeopleMemory.scores`, of columns (m, F)."""
        vectors, context = columns - self.centre, Context(self.context, values)
        return {
            name: scores_of(each, vectors, context, None) for name, each in self.targets.items()
        }


def fit_columns(
    columns: np.ndarray,
    subject: np.ndarray,
    asked: Mapping[str, Asked],
    seed: int,
    context: Context | None = None,
    most: int | None = None,
) -> ColumnMemory:
    """As `linear.memory.fit_memory`, of columns (n, F)."""
    known = (context or Context.nothing(len(columns))).fitted(subject)
    questions = questions_of(asked, subject)
    bank: AnyBank
    if most is None:
        centre = columns.mean(0)
        vectors = columns - centre
        bank = Bank(vectors @ vectors.T, subject, known)
    else:
        at = draw_landmarks(subject, [each.labelled for each in questions.values()], most, seed)
        centre = columns[at].mean(0)
        every = columns - centre
        vectors = every[at]
        bank = LandmarkBank(every @ vectors.T, (every**2).sum(1), at, subject, known)
    targets = fit_all(bank, vectors, questions, seed, known, {}, None)
    return ColumnMemory(centre, targets, known.columns)
