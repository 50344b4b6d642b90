"""The people memory of the model that a run starts from, as what its own memory starts from.

It knows the regions in the run's order, since sets are opened in a checkpoint's. Its targets go by
the names that the run gives them, its classes by the run's codes.
"""

from __future__ import annotations

import numpy as np

from lcm_scale.linear.prior import Prior
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.weights.people import prior_in


def prior_of(prepared: PreparedRun) -> Prior | None:
    """None where the run starts from nothing, from a model without a memory or with one of the
    radial form, which has no weights to shrink towards, from one that has seen some of the run's
    people (their answers would look better than they are), or is not to."""
    start = prepared.opened.start
    if start is None or not start.model.people_memory or prepared.recipe.model.prior == "none":
        return None
    if start.model.kept_scans:
        return None
    if seen_before(prepared):
        return None
    sets = prepared.opened.sets
    classes = {target.name: target.classes for target in sets.vocabulary.targets}
    return prior_in(start, start.state, sets.pretrained_renames, classes)


def seen_before(prepared: PreparedRun) -> int:
    """How many of the run's people the model that it starts from has seen; 0 where that has no
    memory, so that nothing hangs on it."""
    start = prepared.opened.start
    if start is None or not start.model.people_memory:
        return 0
    scans = np.concatenate([prepared.train, prepared.validation])
    return len(start.subjects & set(prepared.opened.sets.subject_hashes(scans)))
