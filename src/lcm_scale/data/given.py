"""What is known of scans beside their matrices when a model is asked about them
(`model.context`): their site, a column of context, or a target that is not asked.

In: names, and open sets. Out: values as `linear.context` takes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lcm_scale.data.ceiling import PREFIX
from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError, nearest
from lcm_scale.linear.context import Context, KnownColumn, matched
from lcm_scale.vocabulary import NOT_APPLICABLE, Target

SITE = "site"
KEY = "model.context"


def check_names(names: Sequence[str], sets: ShardSets) -> None:
    """Raises: InputError for a name that the sets do not have."""
    there = known_names(sets)
    for name in names:
        if name not in there:
            raise InputError(
                f"{KEY}: nothing is known as '{name}'{nearest(name, there)} (there: "
                f"{', '.join(there)})"
            )


def given(names: Sequence[str], sets: ShardSets, scans: np.ndarray) -> Context:
    """What is known of some scans, in the sets' codes.  Raises: InputError as `check_names`."""
    check_names(names, sets)
    columns, values = [], []
    for name in names:
        categories, own = _column(name, sets)
        columns.append(KnownColumn(name, categories))
        values.append(own[scans])
    return Context(tuple(columns), np.array(values).reshape(len(values), len(scans)).T)


def given_to(columns: Sequence[KnownColumn], sets: ShardSets, scans: np.ndarray) -> np.ndarray:
    """What a model with these columns is told of some scans: float (n, J), NaN where the sets do
    not say it, or say what it does not know."""
    there = known_names(sets)
    told = np.full((len(scans), len(columns)), np.nan)
    for place, column in enumerate(columns):
        if column.name in there:
            categories, own = _column(column.name, sets)
            if bool(categories) == bool(column.categories):
                told[:, place] = matched(column, own[scans], categories)
    return told


def known_names(sets: ShardSets) -> list[str]:
    """What may be named: their site, targets, also those that nobody is asked for, and columns of
    context, but for those with what only a simulator knows."""
    site = [SITE] if sets.sites else []
    unasked = [target.name for of_set in sets.unasked for target, _ in of_set]
    context = [
        column.name
        for column in sets.context_columns
        if not (sets.simulated and column.name.startswith(PREFIX))
    ]
    return list(dict.fromkeys([*site, *sets.vocabulary.names, *unasked, *context]))


def _column(name: str, sets: ShardSets) -> tuple[tuple[str, ...], np.ndarray]:
    """Categories, none of a number, and float (N,) values. A target goes before what else has its
    name."""
    if name in sets.vocabulary.names:
        values = sets.labels[:, sets.vocabulary.names.index(name)]
        return _answered(sets.vocabulary[name], values)
    if any(target.name == name for of_set in sets.unasked for target, _ in of_set):
        return _unasked(name, sets)
    for place, column in enumerate(sets.context_columns):
        if column.name == name:
            return column.categories, sets.context[:, place].astype(np.float64)
    return sets.sites, np.where(sets.site < 0, np.nan, sets.site)


def _answered(target: Target, values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """N/A is what scans outside a group carry: nothing is known of them."""
    own = values.astype(np.float64)
    if NOT_APPLICABLE in target.categories:
        own[own == target.categories.index(NOT_APPLICABLE)] = np.nan
    return target.classes, own


def _unasked(name: str, sets: ShardSets) -> tuple[tuple[str, ...], np.ndarray]:
    """Over all sets that have the target, in the categories of the first and then of the others."""
    found = [(n, t, v) for n, s in enumerate(sets.unasked) for t, v in s if t.name == name]
    is_class = found[0][1].is_class
    categories = tuple(dict.fromkeys(c for _, target, _ in found for c in target.classes))
    whole = np.full(sets.n_scans, np.nan)
    for number, target, values in found:
        if target.is_class != is_class:
            raise InputError(f"{KEY}: '{name}' is a number in one set and a category in another")
        names, own = _answered(target, values)
        column = KnownColumn(name, categories)
        whole[sets.set_number == number] = matched(column, own, names)
    return categories, whole
