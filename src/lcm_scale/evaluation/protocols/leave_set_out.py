"""Each set of the recipe is held out in turn: trained on all others, tested on it.

As the external protocol, once for each set that has the headline. Only answers are asked that some
held-out set has and its training sets know.
"""

from __future__ import annotations

import numpy as np

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.folds import Fold
from lcm_scale.evaluation.protocols.left_out import asked_of, fold_of, require_two
from lcm_scale.evaluation.protocols.plan import Plan, several
from lcm_scale.evaluation.questions import Question, questions_of


def plan(recipe: Recipe, sets: ShardSets) -> Plan:
    """A fold a set that has the headline's label.

    Raises: InputError where fewer than two sets have it, or a target that the recipe names cannot
        be learnt without one of them.
    """
    found = questions_of(recipe, sets, sets.names)
    if not recipe.evaluate.target:  # the first that can be held out, where the recipe names none
        found.sort(key=lambda question: len(_having(question, sets)) < 2)
    head = found[0].target.name
    everybody = np.ones(sets.n_scans, dtype=bool)
    folds: list[Fold] = []
    held = []
    for name in _having(found[0], sets):
        test = sets.scans_of([name])
        folds.append(fold_of(recipe, sets, test, ~everybody, everybody))
        held.append(f"{name} ({len(np.unique(sets.subject[test]))} people)")
    others = [name for name in sets.names if name not in _having(found[0], sets)]
    require_two(folds, recipe, f"sets of data.sets have the headline {head}")
    questions, notes = asked_of(recipe, sets, folds, found, "set")
    if others:
        notes.append(f"Trained on and never held out, since they lack {head}: {', '.join(others)}.")
    words = "; ".join(f"{number}: {name}" for number, name in enumerate(held, 1))
    sentence = (
        "Leave-set-out: each set is held out once and read by models that saw nobody of it; "
        f"{recipe.data.validation:.0%} of the training people choose the epoch."
        f"{several(recipe)} Baselines are tuned by inner cross-validation on the same training "
        f"people. Folds: {words}."
    )
    return Plan(np.arange(sets.n_scans), tuple(questions), tuple(folds), sentence, tuple(notes))


def _having(question: Question, sets: ShardSets) -> list[str]:
    """Names of the sets in which somebody has an answer."""
    known = np.isfinite(question.truth(sets.labels))
    return [
        name for number, name in enumerate(sets.names) if known[sets.set_number == number].any()
    ]
