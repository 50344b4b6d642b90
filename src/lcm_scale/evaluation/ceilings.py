"""What a simulator knows of its own scans, as answers beside the models': `data.ceiling`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lcm_scale.data.ceiling import of_question
from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.questions import Question
from lcm_scale.evaluation.results import CEILING


def ceilings(
    sets: ShardSets, questions: Sequence[Question], tested: np.ndarray, test: np.ndarray
) -> list[dict[str, np.ndarray]]:
    """Answers about a fold's scans, one a question; empty where not every tested scan has them.

    Args: tested: numbers of all folds' held-out scans.   test: of this fold's.
    """
    names = [column.name for column in sets.context_columns] if sets.simulated else []
    found: list[dict[str, np.ndarray]] = []
    for name, categories in (question.asked for question in questions):
        whole = of_question(name, categories, names, sets.context[tested])
        own = of_question(name, categories, names, sets.context[test])
        found.append({} if whole is None or own is None else {CEILING: own})
    return found
