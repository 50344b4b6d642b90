"""What a protocol comes to: who is trained on, who chooses the epoch, who is tested, and what is
asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcm_scale.evaluation.folds import Fold
from lcm_scale.evaluation.questions import Question


@dataclass(frozen=True)
class Plan:
    """An evaluation as its protocol lays it out.

    Attributes:
        scans: (n,) int64 numbers of the scans that the folds speak of, ascending. Scans beside
            them may train the model (never a baseline), unless a held-out person is in them.
        questions: the headline first.   folds: positions in `scans`.
        sentence: the protocol in words, for the report.   notes: what else a reader must know.
        without_baselines: names of targets for which nobody is at hand to train a baseline on.
    """

    scans: np.ndarray
    questions: tuple[Question, ...]
    folds: tuple[Fold, ...]
    sentence: str
    notes: tuple[str, ...] = ()
    without_baselines: frozenset[str] = frozenset()

    @property
    def tested(self) -> np.ndarray:
        """Numbers of the scans that some fold tests, ascending."""
        return self.scans[np.unique(np.concatenate([fold.test for fold in self.folds]))]
