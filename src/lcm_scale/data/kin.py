"""Who must not be parted by a split though they are not one person: families, by a column of
context.

In: opened sets and the name of a column. Out: the sets with each scan's group, which is named by
the lowest number of its people, so that whatever is known of a person is known of it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError, nearest


def grouped(sets: ShardSets, column: str, key: str) -> ShardSets:
    """The sets with the people who share a value of a column kept together.

    The same value in sets of one cohort is the same group, in sets of two cohorts it is not. A
    person with two values joins both groups; without one they stand alone.

    Args: column: its name.   key: of the recipe, for the message.
    Raises: InputError where no set has the column.
    """
    names = [each.name for each in sets.context_columns]
    if column not in names:
        raise InputError(
            f"{key}={column}: no set has such a column of context{nearest(column, names)} (there: "
            f"{', '.join(names) or 'none'}); name it under context in the shard recipe"
        )
    if sets.context_columns[names.index(column)].kind != "category":
        raise InputError(
            f"{key}={column}: a column of numbers, which are rounded; set kind: category in the "
            "shard recipe"
        )
    value = sets.context[:, names.index(column)]
    known = np.flatnonzero(np.isfinite(value))
    cohorts = {name: number for number, name in enumerate(dict.fromkeys(_cohorts(sets)))}
    cohort = np.array([cohorts[name] for name in _cohorts(sets)])[sets.set_number[known]]
    shared = np.unique(np.stack([cohort, value[known]]), axis=1, return_inverse=True)[1].ravel()
    n_people = len(sets.subjects)
    # People and values are the nodes of a graph, in which each scan joins its person to its value.
    links = (np.ones(len(known)), (sets.subject[known], n_people + shared))
    size = n_people + (int(shared.max()) + 1 if len(shared) else 0)
    part = connected_components(coo_matrix(links, (size, size)), directed=False)[1][:n_people]
    first = np.unique(part, return_index=True)[1]
    lowest = dict(zip(part[first].tolist(), first.tolist(), strict=True))
    group = np.array([lowest[each] for each in part.tolist()], dtype=np.int64)
    return replace(sets, groups=group[sets.subject])


def _cohorts(sets: ShardSets) -> list[str]:
    return [manifest.cohort for manifest in sets.manifests]


def sentence(sets: ShardSets, column: str) -> str:
    """What is kept together, for the report."""
    people = np.unique(np.stack([sets.together, sets.subject]), axis=1)[0]
    counts = np.unique(people, return_counts=True)[1]
    several = counts[counts > 1]
    return (
        f"People who share {column} stand on one side of every split, and are drawn together where "
        f"an interval is a bootstrap: {len(several)} groups of {int(several.sum())} people; "
        f"{int((counts == 1).sum())} people stand alone."
    )
