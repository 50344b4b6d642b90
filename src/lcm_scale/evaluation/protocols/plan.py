"""What a protocol comes to: who is trained on, who chooses the epoch, who is tested, and what is
asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcm_scale.config import Recipe
from lcm_scale.evaluation.folds import Fold
from lcm_scale.evaluation.questions import Question

BRACKETS = (
    "Brackets are 95 % intervals over people, by bootstrap. They hold the folds and the trained "
    "models as they are: another seed may give another number, which they do not cover."
)
READ_AS = "each predicted once, by a model that never saw the person"


def several(recipe: Recipe, each: str = " a fold") -> str:
    """That scores are averaged over models, where they are; for a protocol's sentence."""
    count = recipe.evaluate.repeats
    return f" {count} models{each}, their scores averaged." if count > 1 else ""


@dataclass(frozen=True)
class Plan:
    """An evaluation as its protocol lays it out.

    Attributes:
        scans: (n,) int64 numbers of the scans that the folds speak of, ascending. Scans beside
            them may train the model (never a baseline), unless a held-out person is in them.
        questions: the headline first.   folds: positions in `scans`.
        sentence: the protocol in words, for the report.   notes: what else a reader must know.
        without_baselines: names of targets for which nobody is at hand to train a baseline on.
        rounds: of each fold the number of the division that it belongs to; empty: there is one.
            Folds of several divisions test the same scans, and train with other seeds.
        optimistic: why the numbers are too good, '' where nothing makes them so; then of each
            target the epoch is taken that does best on the validation scans.
        brackets: what an interval covers.   read_as: how the tested scans were predicted.
    """

    scans: np.ndarray
    questions: tuple[Question, ...]
    folds: tuple[Fold, ...]
    sentence: str
    notes: tuple[str, ...] = ()
    without_baselines: frozenset[str] = frozenset()
    rounds: tuple[int, ...] = ()
    optimistic: str = ""
    brackets: str = BRACKETS
    read_as: str = READ_AS

    @property
    def tested(self) -> np.ndarray:
        """Numbers of the scans that some fold tests, ascending."""
        return self.scans[np.unique(np.concatenate([fold.test for fold in self.folds]))]
