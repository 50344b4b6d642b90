"""From a table's words to a set's targets: labels checked and mapped, the vocabulary, the codes.

In: recordings, then the store that holds their labels as text. Out: what stands in `bei.npy`. A
group's words may go through a map of the recipe; scalars are numbers in a unit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from lcm_scale import vocabulary as environment
from lcm_scale.config import GroupConfig, ScalarConfig, ShardRecipe
from lcm_scale.data.context import check_context, context_of
from lcm_scale.data.readers.cells import number_of
from lcm_scale.data.recordings import Scan
from lcm_scale.data.store import Store
from lcm_scale.errors import InputError, nearest
from lcm_scale.vocabulary import Target, Vocabulary


def names_of(recipe: ShardRecipe) -> list[str]:
    """The targets that a recipe names, beside sex and age."""
    return [group.name for group in recipe.groups] + [scalar.name for scalar in recipe.scalars]


def stored_names(recipe: ShardRecipe) -> list[str]:
    """Whatever the store holds in words: targets, then context."""
    return names_of(recipe) + [each.name for each in recipe.context]


def check_names(recipe: ShardRecipe) -> None:
    """Raises: InputError where two groups, scalars or columns of context have one name."""
    for name, count in Counter(names_of(recipe)).items():
        if count > 1:
            raise InputError(f"{recipe.name}: two targets are called '{name}' (groups, scalars)")
    check_context(recipe, {*names_of(recipe), environment.SEX, environment.AGE})


def labels_of(scan: Scan, recipe: ShardRecipe) -> dict[str, str | None]:
    """Group, scalar or context -> its label, mapped and checked as the recipe says.

    Raises: InputError for a column that is not there, a label that the recipe does not know, or a
        scalar that is no number, or has no logarithm where the recipe wants it.
    """
    where = scan.row or scan.source
    labels: dict[str, str | None] = {}
    for group in recipe.groups:
        column = group.column or group.name
        value = _cell(scan, column, group)
        labels[group.name] = None if value is None else _category(value, column, group, where)
    for scalar in recipe.scalars:
        column = scalar.column or scalar.name
        value = _cell(scan, column, scalar)
        labels[scalar.name] = None if value is None else _number(value, column, scalar, where)
    if recipe.age and recipe.age_log and scan.age is not None and scan.age <= 0:
        raise InputError(f"{where}: age is {scan.age:g}, which has no logarithm (age_log)")
    return labels | context_of(scan, recipe)


def _cell(scan: Scan, column: str, wanted: GroupConfig | ScalarConfig) -> str | None:
    """The column of that name, else the one that differs from it by case only."""
    what = "group" if isinstance(wanted, GroupConfig) else "scalar"
    if column not in scan.labels:
        alike = [name for name in scan.labels if name.casefold() == column.casefold()]
        if len(alike) > 1:
            raise InputError(
                f"{scan.row or scan.source}: columns {' and '.join(alike)} could both be the "
                f"'{column}' of {what} '{wanted.name}'; name one: column: {alike[0]}"
            )
        column = alike[0] if alike else column
    if column not in scan.labels and not wanted.optional:
        raise InputError(
            f"{scan.row or scan.source}: no label column '{column}' for {what} "
            f"'{wanted.name}'{nearest(column, scan.labels)} "
            f"(there: {', '.join(sorted(scan.labels))})"
        )
    return scan.labels.get(column)


def _category(value: str, column: str, group: GroupConfig, where: str) -> str | None:
    value = _as_listed(value, list(group.map) or group.labels)
    if group.map:
        if value not in group.map:
            raise InputError(
                f"{where}: {column} is '{value}'{nearest(value, group.map)}; the map of the "
                f"recipe's group '{group.name}' knows {', '.join(group.map)} (to '': missing)"
            )
        value = group.map[value]
        if not value:
            return None
    if group.labels and value not in group.labels:
        raise InputError(
            f"{where}: {column} is '{value}'{nearest(value, group.labels)}; the recipe's group "
            f"'{group.name}' lists {', '.join(group.labels)}"
        )
    return value


def _as_listed(value: str, words: Sequence[str]) -> str:
    """The recipe's word for a number that is written in another way: 1.0 and 01 are its 1."""
    number = number_of(value)
    if value in words or number is None:
        return value
    same = [word for word in words if number_of(word) == number]
    return same[0] if len(same) == 1 else value


def _number(value: str, column: str, scalar: ScalarConfig, where: str) -> str | None:
    number = number_of(value)
    if number is None:
        raise InputError(
            f"{where}: {column} is '{value}', expected a number (scalar '{scalar.name}'; words are "
            "categories of a group, or missing: scalars.missing takes numbers only)"
        )
    if not math.isfinite(number) or number in scalar.missing:
        return None
    if scalar.log and np.float32(number) <= 0:  # as it will be stored
        raise InputError(
            f"{where}: {column} is {value}, which has no logarithm (scalar '{scalar.name}'); leave "
            "log out, or list the value under missing"
        )
    return value.replace(",", ".")


def vocabulary_of(recipe: ShardRecipe, content: Store) -> Vocabulary:
    """The recipe's groups, then sex and age where anybody's is known, then the recipe's scalars."""
    targets: list[Target] = []
    for group in recipe.groups:
        found = sorted({value for value in content.labels[group.name] if value is not None})
        if not found and group.optional:
            continue
        if not found:
            raise InputError(
                f"{recipe.name}: group '{group.name}' has no label in any scan; check its column, "
                "or leave the group out"
            )
        targets.append(
            environment.group(group.name, _categories(group, found), group.default, group.merge)
        )
    if recipe.sex and any(fact.sex for fact in content.facts):
        targets.append(environment.sex())
    if recipe.age and any(np.isfinite(fact.age) for fact in content.facts):
        targets.append(environment.scalar(log=recipe.age_log))
    for scalar in recipe.scalars:
        found = [value for value in content.labels[scalar.name] if value is not None]
        if not found and scalar.optional:
            continue
        if not found:
            raise InputError(
                f"{recipe.name}: scalar '{scalar.name}' has no value in any scan; check its "
                "column, or leave it out"
            )
        targets.append(environment.scalar(scalar.name, scalar.unit, scalar.log))
    if not targets:
        raise InputError(f"{recipe.name}: no label at all; name a group, or give sex or age")
    return Vocabulary(tuple(targets))


def left_out(recipe: ShardRecipe, found: Collection[str]) -> list[str]:
    """What every report says of optional targets and context that the data do not have.

    Args: found: the names of those that they have.
    """
    names = [name for name in stored_names(recipe) if name not in found]
    return [f"Left out, since nobody has such a label: {', '.join(names)}."] if names else []


def _categories(group: GroupConfig, found: Sequence[str]) -> Sequence[str]:
    """A group's labels in the recipe's order: as listed, else as the map gives them, else as
    found."""
    mapped = [category for category in dict.fromkeys(group.map.values()) if category]
    return group.labels or mapped or found


def encoded(vocabulary: Vocabulary, content: Store) -> np.ndarray:
    """float32 (scans, targets), NaN where missing."""
    columns: dict[str, Sequence[str | float | None]] = {
        environment.SEX: [fact.sex or None for fact in content.facts],
        environment.AGE: [None if np.isnan(fact.age) else fact.age for fact in content.facts],
        **content.labels,
    }
    return np.array(
        [[t.encode(value) for value in columns[t.name]] for t in vocabulary.targets],
        dtype=np.float32,
    ).T
