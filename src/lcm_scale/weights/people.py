"""The people memory in a model's weights, as what another memory starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from lcm_scale.linear.prior import Prior, PriorTarget
from lcm_scale.weights.meaning import Meaning


def known_targets(meaning: Meaning, state: Mapping[str, Tensor]) -> list[str]:
    """The targets that the memory answers, in vocabulary order."""
    knows = state["people.knows"]
    return [name for name, known in zip(meaning.vocabulary.names, knows, strict=True) if known]


def prior_in(
    meaning: Meaning,
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    classes: Mapping[str, Sequence[str]],
) -> Prior:
    """The memory of a model that has one.

    Args:
        names: what its targets are called here; others are left out.
        classes: of a target here all the categories by code, its own among them; empty for a
            scalar.
    """
    people = {
        name.removeprefix("people."): value.float().numpy().astype(np.float64)
        for name, value in state.items()
        if name.startswith("people.")
    }
    whitenings, centres = people["whitening"][None], people["centre"][None]
    tables = people["weight"][None]
    if meaning.model.priors:  # which has started from others itself
        whitenings = np.concatenate([whitenings, people["prior_whitening"]])
        centres = np.concatenate([centres, people["prior_centre"]])
        tables = np.concatenate([tables, people["prior_weight"]])
    known = known_targets(meaning, state)
    targets = {}
    first = 0
    for number, target in enumerate(meaning.vocabulary.targets):
        rows = np.arange(first, first + target.n_tokens)
        first += target.n_tokens
        name = names.get(target.name)
        if name is None or target.name not in known:
            continue
        if target.is_class:
            # A class without a training scan has no weights.
            rows = rows[np.abs(tables[:, rows]).max((0, 2)) > 0]
        own = classes[name]
        codes = rows - (first - target.n_tokens) if own else ()
        targets[name] = PriorTarget(
            tuple(own.index(target.categories[code]) for code in codes),
            tables[:, rows].swapaxes(1, 2),
            people["intercept"][rows],
            bool(people["log"][number]),
        )
    return Prior(whitenings, centres, targets)
