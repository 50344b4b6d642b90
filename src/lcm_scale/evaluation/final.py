"""After an evaluation: one model trained on everybody by the same recipe, for `predict`.

Whatever the evaluation found is of the folds' models. Of this one nobody is left who could judge
it, so it carries those numbers as what they are: the evaluation of its recipe.
"""

from __future__ import annotations

import json
from pathlib import Path

from lcm_scale.evaluation.calibrate import calibrate_final
from lcm_scale.evaluation.prepare import LOCK, PreparedEvaluation
from lcm_scale.files import write_atomic
from lcm_scale.lock import holding
from lcm_scale.ranks import is_first
from lcm_scale.training.trained import trained
from lcm_scale.weights.card import EVALUATED, evaluated_by


def train_final(prepared: PreparedEvaluation) -> Path | None:
    """Train it, or go on where it was stopped; its report must be written.

    Returns: its folder, None where the recipe asks for none.  Raises: InputError, Stopped.
    """
    if prepared.final is None:
        return None
    with holding(prepared.folder / LOCK):
        folder = trained(prepared.final).folder
        if is_first():
            calibrate_final(prepared, prepared.final, folder)
        found = evaluated_by(prepared.folder)
        if is_first() and found is not None:
            text = json.dumps(found, indent=1, ensure_ascii=False)
            write_atomic(folder / EVALUATED, text.encode())
    return folder
