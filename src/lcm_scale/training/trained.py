"""A run trained, or found trained: what evaluations, sweeps and the verbs ask for.

What is finished is read from its folder. Lightning, whose import takes longer than that, is
imported where something is left to train.
"""

from __future__ import annotations

from lcm_scale.training.prepare import PreparedRun
from lcm_scale.training.result import FitResult, read_result


def trained(prepared: PreparedRun) -> FitResult:
    """Train one model, go on where the folder's newest checkpoint stands, or read what it came to.

    Raises: as `fit.fit`.
    """
    if prepared.is_trained:
        return read_result(prepared)
    from lcm_scale.training.fit import fit

    return fit(prepared)
