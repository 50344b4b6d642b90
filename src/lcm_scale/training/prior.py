"""The people memory of the model that a run starts from, as what its own memory starts from.

It knows the regions in the run's order, since sets are opened in a checkpoint's. Its targets go by
the names that the run gives them, its classes by the run's codes.
"""

from __future__ import annotations

import numpy as np

from lcm_scale.linear.prior import Prior, PriorTarget
from lcm_scale.training.prepare import PreparedRun


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
    state = {
        name.removeprefix("people."): value.float().numpy().astype(np.float64)
        for name, value in start.state.items()
        if name.startswith("people.")
    }
    whitenings, centres = state["whitening"][None], state["centre"][None]
    tables = state["weight"][None]
    if start.model.priors:  # which has started from others itself
        whitenings = np.concatenate([whitenings, state["prior_whitening"]])
        centres = np.concatenate([centres, state["prior_centre"]])
        tables = np.concatenate([tables, state["prior_weight"]])
    targets = {}
    first = 0
    for number, target in enumerate(start.vocabulary.targets):
        rows = np.arange(first, first + target.n_tokens)
        first += target.n_tokens
        name = prepared.opened.sets.pretrained_renames.get(target.name)
        if name is None or not state["knows"][number]:
            continue
        if target.is_class:
            # A class without a training scan has no weights.
            rows = rows[np.abs(tables[:, rows]).max((0, 2)) > 0]
        own = prepared.opened.sets.vocabulary[name].classes
        codes = rows - (first - target.n_tokens) if own else ()
        classes = [own.index(target.categories[code]) for code in codes]
        targets[name] = PriorTarget(
            tuple(classes),
            tables[:, rows].swapaxes(1, 2),
            state["intercept"][rows],
            bool(state["log"][number]),
        )
    return Prior(whitenings, centres, targets)


def seen_before(prepared: PreparedRun) -> int:
    """How many of the run's people the model that it starts from has seen; 0 where that has no
    memory, so that nothing hangs on it."""
    start = prepared.opened.start
    if start is None or not start.model.people_memory:
        return 0
    scans = np.concatenate([prepared.train, prepared.validation])
    return len(start.subjects & set(prepared.opened.sets.subject_hashes(scans)))
